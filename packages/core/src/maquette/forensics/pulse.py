"""What a worker tells of itself: its phase and step, when it last got on, how long silence is normal, that it lives.

A few bytes of a file that is mapped into memory. The training thread writes them without a system call, a thread beats
once a second, and what is written can be read when the process is stopped or killed. The launcher's
:class:`~maquette.forensics.watchdog.Watchdog` reads it, and asks through it for what the process knows of its
collectives.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from maquette.forensics.collectives import write_flight
from maquette.forensics.limits import Expectation
from maquette.forensics.stacks import answer_with_stacks

WATCHED = "MAQUETTE_WATCHED"
"""The variable with the folder, on this machine's own disk, through which a launcher watches its workers."""

BEAT_SECONDS = 1.0
STEADY = ("train", "validate")
"""The phases whose silence is learnt; in all others (start, save, compile, ...) the first limit holds."""

# Native sizes: a number is then written by one instruction, and never read half-written.
LAYOUT = struct.Struct("@q d d d d q q 24s")
PID, BEAT, MOVED, LIMIT, LEAST, STEP, ASKED, PHASE = (0, 8, 16, 24, 32, 40, 48, 56)


@dataclass(frozen=True)
class Sign:
    """A worker's last sign of life; moments are of ``time.monotonic``, which all processes of a machine share.

    Attributes:
        beat: when its thread last ran.
        moved: when its training last got on.
        limit: seconds that it may stay silent from then on; 0 for ever.
        least: seconds below which no silence is reported.
        step: optimizer steps done.
        phase: start, train, prepare (a validation), validate, save, restore, compile, report, finish or end.
    """

    pid: int
    beat: float
    moved: float
    limit: float
    least: float
    step: int
    asked: int
    phase: str


def sign_file(folder: Path, rank: int) -> Path:
    """Where a rank leaves its signs of life."""
    return folder / f"pulse.rank{rank}"


def read_sign(folder: Path, rank: int) -> Sign | None:
    """A rank's last sign of life; None where it has not left any."""
    try:
        content = sign_file(folder, rank).read_bytes()
    except OSError:
        return None
    if len(content) < LAYOUT.size:
        return None
    pid, beat, moved, limit, least, step, asked, phase = LAYOUT.unpack(content[: LAYOUT.size])
    return Sign(pid, beat, moved, limit, least, step, asked, phase.rstrip(b"\0").decode())


def ask_for_flight(folder: Path, rank: int) -> None:
    """Let a rank write down its collectives: it does so at its next beat."""
    with sign_file(folder, rank).open("r+b") as file, mmap.mmap(file.fileno(), LAYOUT.size) as memory:
        struct.pack_into("@q", memory, ASKED, struct.unpack_from("@q", memory, ASKED)[0] + 1)


class Pulse:
    """Signs of life of this process; with nobody to watch them they cost as little and do nothing.

    Args:
        folder: where the launcher looks; None where there is none.
        rank: of this process.
        first: seconds of silence that are allowed in the first steps, and whenever the length of a pause is not known.
        least: seconds of silence that are allowed at any rate.
        factor: how many of the slowest step seen are allowed; 0 never takes silence for a hang.
    """

    def __init__(
        self, folder: Path | None, rank: int, *, first: float, least: float = 60.0, factor: float = 5.0
    ) -> None:
        self.folder, self.rank = folder, rank
        self.first = first if factor else 0.0
        self.least, self.factor = least, factor
        self.step = 0
        self.phase = "start"
        self._steady = {name: Expectation(first, least, factor) for name in STEADY}
        self._memory = self._map()
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._counted = -1
        self._stepped = time.monotonic()

    @classmethod
    def of_this_process(cls, *, first: float, least: float, factor: float) -> Pulse:
        """Watched by the launcher, where there is one."""
        folder = os.environ.get(WATCHED)
        return cls(
            Path(folder) if folder else None, int(os.environ.get("RANK", "0")), first=first, least=least, factor=factor
        )

    def _map(self) -> mmap.mmap:
        if self.folder is None:
            return mmap.mmap(-1, LAYOUT.size)
        path = sign_file(self.folder, self.rank)
        with path.open("wb") as file:  # a new file: that of a process before this one is not written to
            file.write(bytes(LAYOUT.size))
        with path.open("r+b") as file:
            return mmap.mmap(file.fileno(), LAYOUT.size)

    @contextmanager
    def beating(self) -> Iterator[Pulse]:
        """Beat, and answer the launcher, within the context."""
        if self.folder is not None:
            answer_with_stacks(self.folder, self.rank)
            self._thread = threading.Thread(target=self._beat, name="maquette pulse", daemon=True)
        self.enter("start")
        self._write("@d", LEAST, self.least)
        self._write("@d", BEAT, time.monotonic())
        self._write("@q", PID, os.getpid())  # last: from now on the launcher takes the record for ours
        if self._thread:
            self._thread.start()
        try:
            yield self
        except BaseException:
            self._write("@d", LIMIT, 0.0)  # the phase stays: it tells where the failure was
            raise
        else:
            self.enter("end")
        finally:
            self._over.set()

    def enter(self, phase: str) -> None:
        """Another phase begins; how long the last one was silent says nothing of it."""
        self.phase, self._stepped = phase, time.monotonic()
        self._write("24s", PHASE, phase.encode())
        self._moved()

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """A phase within another one."""
        before = self.phase
        self.enter(phase)
        try:
            yield
        finally:
            self.enter(before)

    def mark(self, step: int) -> None:
        """Training, or validating, has got on: ``step`` counts the optimizer's steps, or the batches validated."""
        now = time.monotonic()
        if (
            step != self._counted and self.phase in self._steady
        ):  # the micro-batches of one optimizer step are signs of life, but no measure
            self._counted = step
            self._steady[self.phase].observe(now - self._stepped)
            self._stepped = now
        if self.phase == "train":
            self.step = step
            self._write("@q", STEP, step)
        self._moved()

    def _moved(self) -> None:
        limit = self._steady[self.phase].limit if self.factor and self.phase in self._steady else self.first
        self._write("@d", LIMIT, 0.0 if self.phase == "end" else limit)
        self._write("@d", MOVED, time.monotonic())

    def _write(self, form: str, place: int, value: float | int | bytes) -> None:
        struct.pack_into(form, self._memory, place, value)

    def _beat(self) -> None:
        answered = 0
        while not self._over.wait(BEAT_SECONDS):
            self._write("@d", BEAT, time.monotonic())
            asked = struct.unpack_from("@q", self._memory, ASKED)[0]
            if asked != answered and self.folder is not None:
                # Whatever goes wrong with torch's record or the disk: without its beat the process would count as dead.
                with suppress(Exception):
                    write_flight(self.folder, self.rank)
                answered = asked
