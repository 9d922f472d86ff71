"""How long a process waits in collectives, measured where it waits: nothing is sent and nothing made to wait for it.

Python's door to every collective of ``torch.distributed``, of our data parallelism, of FSDP on CPUs and of pipelines
is the work's ``wait``. On gloo it blocks, so its duration is what the process lost: waiting for the last one to arrive,
and for the network. On NCCL it blocks only the stream, so an event before it and one after it tell how long the stream
stood still; they are read when they have passed, never waited for.

Not seen: functional collectives (tensor parallelism), and FSDP's prefetched gathers on GPUs, which streams wait for
without this door. They count as computing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import distributed

NewEvent = Callable[[], Any]


def cuda_event() -> Any:
    """A CUDA event that tells the time."""
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


class CollectiveWaits:
    """Adds up the seconds in collectives, while :meth:`measuring`.

    Args:
        new_event: makes an event with ``record``, ``query`` and ``elapsed_time`` of a stream; None measures the host.
    """

    def __init__(self, new_event: NewEvent | None = None) -> None:
        self.new_event = new_event
        self._seconds = 0.0
        self._pending: deque[tuple[Any, Any]] = deque()

    @classmethod
    def of(cls, device: torch.device) -> CollectiveWaits:
        """As fits a device."""
        return cls(cuda_event if device.type == "cuda" else None)

    def seconds(self) -> float:
        """So far; of a stream what has passed."""
        while self._pending and self._pending[0][1].query():
            began, ended = self._pending.popleft()
            self._seconds += began.elapsed_time(ended) / 1000
        return self._seconds

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """Within the context, all waiting of this process for collectives is measured."""
        plain = distributed.Work.wait

        def wait(work: Any, *args: Any, **options: Any) -> Any:
            began = self._begin()
            try:
                return plain(work, *args, **options)
            finally:
                self._end(began)

        distributed.Work.wait = wait  # type: ignore[assignment, method-assign]
        try:
            yield
        finally:
            distributed.Work.wait = plain  # type: ignore[method-assign]

    def _begin(self) -> Any:
        if self.new_event is None:
            return time.perf_counter()
        event = self.new_event()
        event.record()
        return event

    def _end(self, began: Any) -> None:
        if self.new_event is None:
            self._seconds += time.perf_counter() - began
            return
        ended = self.new_event()
        ended.record()
        self._pending.append((began, ended))
