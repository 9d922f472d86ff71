"""The launcher's eye on its workers: finds the one that does not get on, reports it, and asks for its end.

It runs in the launcher, which no stopped or busy worker can keep from looking.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from maquette.forensics.collectives import flight_file
from maquette.forensics.incidents import Incident, record
from maquette.forensics.processes import DEAD, GONE, STOPPED, TRACED, describe, state
from maquette.forensics.pulse import STEADY, Sign, ask_for_flight, read_sign
from maquette.forensics.stacks import ask_for_stacks, stacks_file, telling_place
from maquette.forensics.verdict import Verdict, Witness, judge, read_flight
from maquette.progress import say

LOOK_SECONDS = 0.5
HARD = 1.5
"""The multiple of a worker's limit after which its silence ends the workers; after the limit itself it is reported."""
UNBORN_SECONDS = 1800.0
"""For importing and reading the configuration, before a worker gives its first sign of life."""
AWAY_SECONDS = 5.0
"""A launcher that did not look for so long was stopped itself, probably together with its workers."""
ANSWER_SECONDS = 2.5
STALE_BEAT = 5.0
"""Seconds without a beat after which a process's threads do not run: at one beat a second."""


class Watchdog:
    """Looks at the workers of one node.

    Args:
        watched: the folder through which workers tell of themselves.
        run: where incidents are written.
        clock: seconds, the same clock as the workers'.
    """

    def __init__(self, watched: Path, run: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.watched, self.run, self.clock = watched, run, clock
        self.verdict: Verdict | None = None
        """On the hang that is going on."""
        self.incident: Incident | None = None
        """Of it; None also where the run's folder could not be written to."""
        self._workers: Mapping[int, int] = {}
        self._since = self._looked = clock()
        self._ended = False

    def look(self, workers: Mapping[int, int]) -> bool:
        """Look, at most so often as is useful.

        Args:
            workers: the processes by rank.

        Returns:
            Whether the workers hang for so long that they should be ended.
        """
        now = self.clock()
        if workers != self._workers or now - self._looked > AWAY_SECONDS:
            if workers != self._workers:
                self.incident, self.verdict, self._ended = None, None, False
            self._workers, self._since = dict(workers), now
        elif now - self._looked < LOOK_SECONDS or self._ended:
            return False
        self._looked = now
        signs = {rank: self._sign(rank) for rank in workers}
        excesses = {rank: self._excess(rank, sign, now) for rank, sign in signs.items()}
        excess = max(excesses.values(), default=0.0)
        stopped = any(value >= 1.0 and state(workers[rank]) == STOPPED for rank, value in excesses.items())
        if excess < 1.0 or (not stopped and self._patient(signs, excesses)):
            self._recovered()
            return False
        if self.verdict is None:
            self._report(signs)
            self._looked = self.clock()  # the time that a report takes is not time away
        return excess >= HARD

    def end(self) -> None:
        """Kill the workers, also the stopped ones, which no other signal reaches; the verdict stays for now."""
        self._ended = True
        self._add("the workers were killed")
        for pid in self._workers.values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def sign(self, rank: int) -> Sign | None:
        """A rank's last sign of life, also of one that has ended."""
        return read_sign(self.watched, rank)

    def _sign(self, rank: int) -> Sign | None:
        sign = read_sign(self.watched, rank)
        return sign if sign and sign.pid == self._workers[rank] else None

    def _excess(self, rank: int, sign: Sign | None, now: float) -> float:
        """A worker's silence as a multiple of what it may be silent."""
        pid = self._workers[rank]
        found = state(pid)
        if found in (DEAD, GONE, TRACED):
            return 0.0
        if sign is None:
            return (now - self._since) / UNBORN_SECONDS
        if sign.limit <= 0:
            return 0.0
        quiet = (now - max(sign.moved, self._since)) / sign.limit
        if found == STOPPED:  # whatever its phase, it does nothing
            quiet = max(quiet, (now - max(sign.beat, self._since)) / min(sign.limit, sign.least))
        return quiet

    def _patient(self, signs: Mapping[int, Sign | None], excesses: Mapping[int, float]) -> bool:
        """Whether some worker is at something that takes its time: compiling, saving, reporting, held by a debugger.

        The others wait for it.
        """
        if any(state(pid) == TRACED for pid in self._workers.values()):
            return True
        takes_time = [rank for rank, sign in signs.items() if sign and sign.phase not in (*STEADY, "end")]
        return any(excesses[rank] < 1.0 for rank in takes_time)

    def _recovered(self) -> None:
        if self.verdict:
            self._add("the workers got on again by themselves")
            say(f"maquette: the workers get on again{_where(self.incident)}")
            self.incident = self.verdict = None

    def _add(self, line: str) -> None:
        if self.incident:
            with suppress(OSError):  # a full disk keeps nobody from ending a hang
                self.incident.add(line)

    def _report(self, signs: Mapping[int, Sign | None]) -> None:
        stacks = self._ask(signs)
        now = self.clock()
        witnesses = [self._witness(rank, sign, stacks.get(rank, ""), now) for rank, sign in signs.items()]
        self.verdict = verdict = judge(witnesses)
        rows = [
            f"rank {w.rank}  pid {w.pid}  step {w.step}  {w.phase}  silent for {w.silent:.0f} s  {w.described}"
            f"{'' if w.beats else '  its threads do not run'}{f'  at {w.place}' if w.place else ''}"
            for w in witnesses
        ]
        facts = {"culprits": list(verdict.culprits), "steps": {w.rank: w.step for w in witnesses}}
        with suppress(OSError):  # a full disk keeps nobody from ending a hang
            self.incident = incident = record(self.run, "hang", verdict.line, facts, "\n".join(rows))
            for rank in signs:
                incident.keep(f"stacks.rank{rank}.txt", stacks.get(rank, ""))
                with suppress(OSError):
                    incident.keep(f"flight.rank{rank}.json", flight_file(self.watched, rank).read_text())
        say(f"maquette: a hang: {verdict.line}{_where(self.incident)}")

    def _ask(self, signs: Mapping[int, Sign | None]) -> dict[int, str]:
        """All workers' stacks; waits until they have answered, or will not."""
        offsets: dict[int, int] = {}
        for rank, sign in signs.items():
            if sign and state(sign.pid) not in (DEAD, GONE, STOPPED):
                flight_file(self.watched, rank).unlink(missing_ok=True)
                offsets[rank] = stacks_file(self.watched, rank).stat().st_size
                with suppress(ProcessLookupError):
                    ask_for_stacks(sign.pid)
                ask_for_flight(self.watched, rank)
        until = time.monotonic() + ANSWER_SECONDS
        while time.monotonic() < until and not all(flight_file(self.watched, rank).exists() for rank in offsets):
            time.sleep(0.05)
        return {
            rank: stacks_file(self.watched, rank).read_bytes()[start:].decode(errors="replace")
            for rank, start in offsets.items()
        }

    def _witness(self, rank: int, sign: Sign | None, stacks: str, now: float) -> Witness:
        pid = self._workers[rank]
        found = state(pid)
        return Witness(
            rank=rank,
            pid=pid,
            state=found,
            described=describe(pid),
            place=telling_place(stacks),
            # One that is finished, or held, has no thread to beat.
            beats=sign is None or sign.limit <= 0 or found in (DEAD, GONE, TRACED) or now - sign.beat < STALE_BEAT,
            silent=now - max(sign.moved if sign else 0.0, self._since),
            phase=sign.phase if sign else "not yet started",
            step=sign.step if sign else 0,
            flight=read_flight(flight_file(self.watched, rank)) if found != STOPPED else None,
        )


def _where(incident: Incident | None) -> str:
    return f"; see {incident.summary}" if incident else ""
