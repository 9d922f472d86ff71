"""A pool of child processes: one that dies or hangs loses only the source it held, and is replaced."""

from __future__ import annotations

import json
import os
import selectors
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from maquette.errors import MaquetteError
from maquette_data3d.building.job import Job, Limits
from maquette_data3d.building.outcome import Outcome
from maquette_data3d.building.recipe import Recipe
from maquette_data3d.ingest.child_process import started

_START_SECONDS = 300.0
_TICK = 0.5
# A child that is past its deadline but was given less of the processor than this by a busy machine goes on.
_STARVED, _LONGEST = 0.6, 10.0
_IDLE = 0.05  # of the processor: below this it does not work but hang


class _Child:
    """One process, the job it holds, and since when."""

    def __init__(self, setup: dict[str, Any]) -> None:
        self.complaints: IO[bytes] = tempfile.TemporaryFile()
        self.process, self.leash = started("maquette_data3d.building.worker", self.complaints)
        self.ready, self.job, self.received = False, None, b""
        self.spent = False
        """It has said its last word and is about to end: a job that it were given would be lost."""
        self.since, self.worked = time.monotonic(), 0.0
        self.send(setup)

    def give(self, job: Job | None) -> None:
        """Hands over the next job, or none."""
        self.job, self.since, self.worked = job, time.monotonic(), self._processor_seconds()
        if job:
            self.send(job.plain())

    def send(self, message: dict[str, Any]) -> None:
        """A line to the child."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return  # it has died; its closed stdout tells so

    def lines(self) -> list[str] | None:
        """Whole lines that have arrived; None when the child has gone."""
        assert self.process.stdout is not None
        data = os.read(self.process.stdout.fileno(), 1 << 20)
        self.received += data
        *whole, self.received = self.received.split(b"\n")
        return [line.decode() for line in whole] if data else None

    def late(self, deadline: float) -> bool:
        """Whether it has had its time: on a busy machine, of the processor rather than of the clock."""
        passed = time.monotonic() - self.since
        if not self.ready:
            return passed > _START_SECONDS
        if self.job is None or passed <= deadline:
            return False
        worked = self._processor_seconds() - self.worked
        starved = _IDLE * passed < worked < _STARVED * deadline
        return not starved or passed > _LONGEST * deadline

    def _processor_seconds(self) -> float:
        try:
            after_name = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(after_name[11]) + int(after_name[12])) / os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError, IndexError):  # no such files: the clock alone counts
            return 0.0

    def end(self) -> str:
        """Kills the child and says how it ended."""
        early = self.process.poll()
        self.process.kill()
        code = self.process.wait()
        os.close(self.leash)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    continue
        self.complaints.seek(0)
        said = self.complaints.read()[-400:].decode("utf-8", "replace").strip().splitlines()
        self.complaints.close()
        how = f"signal {-code}" if code < 0 else f"exit status {code}"
        return f"its process ended with {how}{': ' + said[-1] if said else ''}" if early != 0 else ""


class Pool:
    """Runs jobs on child processes and yields outcomes as they come, in no order. Use it in a `with`."""

    def __init__(self, recipe: Recipe, limits: Limits) -> None:
        self.size, self.deadline = limits.processes, limits.deadline_s
        self.setup = {"recipe": asdict(recipe), "memory_mb": limits.memory_mb}
        self.selector = selectors.DefaultSelector()
        self.children: list[_Child] = []

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends every child."""
        for child in self.children:
            child.end()
        self.children.clear()
        self.selector.close()

    def run(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """Outcomes of all jobs.

        Raises:
            MaquetteError: children cannot be started at all.
        """
        waiting, left = iter(jobs), len(jobs)
        self.setup["procedural"] = bool(jobs) and jobs[0].item.path is None
        for child in self.children:
            if child.ready and not child.spent:
                child.give(next(waiting, None))
        for _ in range(min(self.size, left) - len(self.children)):
            self._start()
        while left:
            for outcome in self._step(waiting):
                left -= 1
                yield outcome

    def _step(self, waiting: Iterator[Job]) -> Iterator[Outcome]:
        for key, _ in self.selector.select(_TICK):
            child: _Child = key.data
            lines = child.lines()
            if lines is None:
                yield from self._lost(child, "crashed")
                continue
            for line in lines:
                if child.ready:
                    child.job = None
                    outcome = Outcome(**json.loads(line))
                    yield outcome
                    if outcome.reason == "memory":
                        child.spent = True  # it ends itself, and is replaced when its pipe closes
                        continue
                child.ready = True
                child.give(next(waiting, None))
        for child in [c for c in self.children if c.late(self.deadline)]:
            yield from self._lost(child, "deadline")

    def _lost(self, child: _Child, reason: str) -> Iterator[Outcome]:
        """Replaces a child that died or overstayed; the source it held is the one it pays with."""
        self.selector.unregister(child.process.stdout)  # type: ignore[arg-type]
        self.children.remove(child)
        how, job = child.end(), child.job
        if not child.ready:
            raise MaquetteError(f"worker processes do not start: {how or 'they take too long'}")
        self._start()
        if job is not None:
            detail = f"it took longer than {self.deadline:g} s" if reason == "deadline" else how
            named = {"caption": job.item.caption or "", "class_name": job.item.class_name or ""}
            yield Outcome(job.item.number, reason, detail, **named)

    def _start(self) -> None:
        child = _Child(self.setup)
        self.children.append(child)
        self.selector.register(child.process.stdout, selectors.EVENT_READ, child)  # type: ignore[arg-type]
