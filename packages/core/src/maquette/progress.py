"""Progress of anything longer than two seconds: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import TypeVar

from maquette.secrets import scrubbed

T = TypeVar("T")

QUIET_SECONDS = 2.0
"""What ends sooner than this shows nothing."""

LINE_SECONDS = 10.0
"""Seconds between plain lines where there is no terminal."""


def track(iterable: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield from an iterable and show how far it is.

    Args:
        iterable: what to go through.
        description: what is being done, e.g. ``"Building shards"``.
        total: how many there are, where the iterable has no length.
    """
    if total is None:
        total = len(iterable) if isinstance(iterable, Sized) else None
    progress = Progress(description, total)
    try:
        for item in iterable:
            yield item
            progress.advance()
    finally:
        progress.close()


class Progress:
    """A counter that a loop advances; shows itself after :data:`QUIET_SECONDS`."""

    def __init__(self, description: str, total: int | None, start: int = 0) -> None:
        self.description, self.total, self.count, self.start = description, total, start, start
        self._began = self._last_line = time.monotonic()
        self._bar: _Bar | None = None
        self._shown = False

    def advance(self, amount: int = 1, note: Callable[[], str] = str) -> None:
        """Count ``amount`` more; what ``note`` returns is shown behind the counter. It is called only when it is."""
        self.count += amount
        now = time.monotonic()
        if now - self._began < QUIET_SECONDS:
            return
        if sys.stderr.isatty():
            self._bar = self._bar or _Bar(self.description, self.total)
            self._bar.update(self.count, note())
        elif not self._shown or now - self._last_line >= LINE_SECONDS:
            self._shown, self._last_line = True, now
            self._line(note())

    def close(self) -> None:
        """Say the last word, if anything was said at all."""
        if self._bar:
            self._bar.close()
        elif self._shown:
            self._line("done" if self.count == self.total else "stopped" if self.total else "")

    def _line(self, note: str) -> None:
        seconds = time.monotonic() - self._began
        of = f"/{self.total}" if self.total else ""
        rate = (self.count - self.start) / max(seconds, 1e-9)
        line = f"{self.description}: {self.count}{of}, {seconds:.0f} s, {rate:.1f}/s {note}"
        sys.stderr.write(line.rstrip() + "\n")
        sys.stderr.flush()


class _Bar:
    """The rich bar, imported only where there is a terminal to draw it on."""

    def __init__(self, description: str, total: int | None) -> None:
        from rich import progress
        from rich.console import Console

        columns = [
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(),
            progress.TextColumn("{task.fields[note]}"),
        ]
        self._progress = progress.Progress(*columns, console=Console(stderr=True))
        self._task = self._progress.add_task(description, total=total, note="")
        self._progress.start()

    def update(self, count: int, note: str) -> None:
        self._progress.update(self._task, completed=count, note=note)

    def close(self) -> None:
        self._progress.stop()


def say(message: str) -> None:
    """One line for the user, on standard error, so that standard output stays for results."""
    sys.stderr.write(scrubbed(message) + "\n")
    sys.stderr.flush()
