"""Profiles and memory snapshots of a running training, asked for by a signal or by a file in the run's folder.

======  =========  ===========================================================================================
signal  file       what is written
======  =========  ===========================================================================================
USR1    PROFILE    ``profiles/step_*_rank*.json.gz``: a torch.profiler trace of the next steps (Perfetto reads it)
USR2    MEMORY     ``profiles/memory_step_*_rank*``: the CUDA allocator's snapshot over the next steps (``.pickle``, for
                   pytorch.org/memory_viz), or on a CPU a list of live tensors by size (``.txt``)
======  =========  ===========================================================================================

A signal asks one process; the file asks all, and is removed when its answer is written.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from maquette.forensics.live_tensors import describe_live_tensors
from maquette.progress import say

PROFILE, MEMORY = "PROFILE", "MEMORY"
SIGNALS = {signal.SIGUSR1: PROFILE, signal.SIGUSR2: MEMORY}


class Requests:
    """What was asked for since it was last looked at. A file counts once for each time it is written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._signalled: set[str] = set()
        self._seen: dict[str, int] = {}
        self._before: dict[int, Any] = {}

    def listen(self) -> None:
        """Take the signals; only the main thread can."""
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                self._before.setdefault(number, signal.getsignal(number))
                signal.signal(number, self._handle)

    def restore(self) -> None:
        """Give the signals back."""
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._before.items():
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)
            self._before.clear()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        self._signalled.add(SIGNALS[signal.Signals(number)])

    def take(self) -> set[str]:
        """The names asked for, each once."""
        taken, self._signalled = self._signalled, set()
        for name in (PROFILE, MEMORY):
            try:
                written = (self.folder / name).stat().st_mtime_ns
            except OSError:
                continue
            if self._seen.get(name) != written:
                self._seen[name] = written
                taken.add(name)
        return taken

    def answered(self, name: str) -> None:
        """Remove the file that asked, unless it has been written anew meanwhile."""
        file = self.folder / name
        try:
            if file.stat().st_mtime_ns == self._seen.get(name):
                file.unlink()
        except OSError:
            pass


class OnDemand:
    """Looks for requests after each optimizer step and answers them.

    Args:
        run: the run's folder.
        rank: of this process; rank 0 removes files that asked.
        steps: how many optimizer steps a profile or a CUDA snapshot covers.
        memory_events: how many allocations a CUDA snapshot remembers.
        cuda: whether to look at a GPU; found out by default.
    """

    def __init__(
        self, run: Path, *, rank: int = 0, steps: int = 3, memory_events: int = 100_000, cuda: bool | None = None
    ) -> None:
        self.requests = Requests(run)
        self.folder = run / "profiles"
        self.rank, self.steps, self.memory_events = rank, steps, memory_events
        self.cuda = torch.cuda.is_available() if cuda is None else cuda
        self._under_way: dict[str, tuple[int, Callable[[], Path]]] = {}  # name -> (its last step, what writes it)

    def start(self) -> None:
        """Listen to the signals."""
        self.requests.listen()

    def after_step(self, step: int) -> None:
        """After optimizer step ``step`` (counted from 1): end what is over, begin what was asked for."""
        for name, (last, write) in list(self._under_way.items()):
            if step >= last:
                self._finish(name, write)
        for name in sorted(self.requests.take() - self._under_way.keys()):
            begin = self._profile if name == PROFILE else self._memory
            self._under_way[name] = (step + self.steps, begin(step))
            if name == MEMORY and not self.cuda:
                self._finish(name, self._under_way[name][1])  # what lives now needs no history

    def close(self) -> None:
        """Write what is under way and give the signals back."""
        for name, (_, write) in list(self._under_way.items()):
            self._finish(name, write)
        self.requests.restore()

    def _finish(self, name: str, write: Callable[[], Path]) -> None:
        del self._under_way[name]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            say(f"{name.lower()} written to {write()}")
        except (OSError, RuntimeError) as error:
            # A look at the run must never end it.
            say(f"warning: no {name.lower()} was written: {error}")
        if self.rank == 0:
            self.requests.answered(name)

    def _profile(self, step: int) -> Callable[[], Path]:
        kinds = [torch.profiler.ProfilerActivity.CPU]
        kinds += [torch.profiler.ProfilerActivity.CUDA] if self.cuda else []
        profiler = torch.profiler.profile(activities=kinds, record_shapes=True)
        profiler.start()

        def write() -> Path:
            profiler.stop()
            path = self.folder / f"step_{step + 1:08d}_rank{self.rank}.json.gz"
            profiler.export_chrome_trace(str(path))
            return path

        return write

    def _memory(self, step: int) -> Callable[[], Path]:
        stem = f"memory_step_{step:08d}_rank{self.rank}"
        if self.cuda:
            torch.cuda.memory._record_memory_history(max_entries=self.memory_events)

        def write() -> Path:
            path = self.folder / (f"{stem}.pickle" if self.cuda else f"{stem}.txt")
            if self.cuda:
                torch.cuda.memory._dump_snapshot(str(path))  # type: ignore[no-untyped-call]
                torch.cuda.memory._record_memory_history(enabled=None)
            else:
                path.write_text(describe_live_tensors())
            return path

        return write
