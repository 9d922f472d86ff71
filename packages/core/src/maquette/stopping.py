"""Ctrl-C and SIGTERM while training: the first asks for a checkpoint and an end, the second ends at once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from maquette.errors import MaquetteError

ECHO = 1.0
"""Seconds within which a second signal is the same one: a launcher and a scheduler may both pass it on."""


class Interrupted(MaquetteError):
    """Training was asked to stop and has saved its state. ``exit_code`` is 128 + the signal, as shells expect."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class StopRequest:
    """Whether a signal has asked to stop, and which."""

    def __init__(self) -> None:
        self.signal: int | None = None
        self._at = 0.0
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    @property
    def requested(self) -> bool:
        """True after the first signal."""
        return self.signal is not None

    def listen(self, *numbers: int) -> None:
        """Take signals over, by default both; also from Lightning, whose own handler saves nothing and exits with 0."""
        if threading.current_thread() is threading.main_thread():  # signals belong to the main thread
            for number in numbers or self._before:
                signal.signal(number, self._handle)

    def restore(self) -> None:
        """Give the signals back."""
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal, self._at = number, time.monotonic()
        elif time.monotonic() - self._at > ECHO:
            self.restore()
            os.kill(os.getpid(), number)


@contextmanager
def stop_on_signals(several: bool = False) -> Iterator[StopRequest]:
    """Within the context the first SIGTERM only sets a flag, from :meth:`StopRequest.listen` on SIGINT too.

    A second one acts as it did before. Until training begins there may be minutes of preparing data, which somebody who
    presses Ctrl-C does not want to wait for.

    Args:
        several: there are other processes, which must not be left alone: SIGINT sets a flag from the start.
    """
    request = StopRequest()
    request.listen(signal.SIGTERM, *([signal.SIGINT] if several else []))
    try:
        yield request
    finally:
        request.restore()
