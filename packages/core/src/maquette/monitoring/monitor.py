"""The monitor of a training process: a thread that reads, every few seconds, the machine and where the time goes.

It touches no tensor, no stream and no process group, so that no step waits for it. Ranks find out about each other
through the journals in the run's folder alone.
"""

from __future__ import annotations

import os
import socket
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maquette.monitor_config import MonitorConfig
from maquette.monitoring.exposition import Exposition, serve_metrics
from maquette.monitoring.journal import Journal, Record, journal_file, last_records
from maquette.monitoring.machine import Machine, MachineReading
from maquette.monitoring.metrics import gpu_values
from maquette.monitoring.step_clock import StepClock
from maquette.monitoring.stragglers import Straggler, StragglerScores
from maquette.progress import say

LOGGED = ("gpu_utilization", "gpu_memory_used", "gpu_temperature", "gpu_power", "host_cpu", "process_memory")
"""Readings that go to the loggers too."""


@dataclass(frozen=True)
class Who:
    """Which of a run's processes this is; only processes of equal ``work`` are compared, e.g. a pipeline's stage."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    work: int = 0
    steps: int = 0
    """Of the whole run."""


class Monitor:
    """Reads, writes down and exposes; on rank 0 also looks for stragglers.

    Args:
        run: the run's folder.
        who: this process.
        clock: of its steps.
        settings: how often, and where to.
        machine: gives the readings; made in the thread, since drivers take their time.
        progress: gives the phase and the optimizer steps done.
        record: told of what is wrong, as :meth:`maquette.events.EventLog.add`.
    """

    def __init__(
        self,
        run: Path,
        who: Who,
        clock: StepClock,
        settings: MonitorConfig,
        *,
        machine: Callable[[], Machine],
        progress: Callable[[], tuple[str, int]],
        record: Callable[..., None] = lambda kind, **facts: None,
    ) -> None:
        self.run, self.who, self.clock, self.settings = run, who, clock, settings
        self.machine, self.progress, self.record = machine, progress, record
        self.journal = Journal(run, who.rank, int(settings.journal_mb * 2**20))
        self.exposition = Exposition({"rank": str(who.rank), "host": socket.gethostname()})
        self.scores = StragglerScores(settings.straggler_score)
        self.warnings: Counter[str] = Counter()
        self.latest: Record = {}
        """The last reading, as it was written down."""
        self._training: dict[str, float] = {}
        self._stragglers: dict[int, Straggler] = {}
        self._read_steps = self.clock.clock()
        self._compared = time.time()
        self._over = threading.Event()

    @contextmanager
    def watching(self) -> Iterator[Monitor]:
        """Read within the context; a last record says how it ended."""
        if not self.settings.interval:
            yield self
            return
        server = serve_metrics(self.exposition, self.settings, self.who.local_rank) if self.settings.port else None
        thread = threading.Thread(target=self._watch, name="maquette monitor", daemon=True)
        thread.start()
        ended = "failed"
        try:
            yield self
            ended = "ended"
        finally:
            self._over.set()
            thread.join(timeout=5.0)
            if self.latest:
                self.journal.write(self.latest | {"time": round(time.time(), 3), "phase": ended, "step_times": {}})
            if server:
                server.close()

    def note(self, scalars: Mapping[str, float]) -> None:
        """What the training logs, for who looks at the monitor."""
        self._training = {name: value for name, value in scalars.items() if "/" not in name}

    def scalars(self) -> dict[str, float]:
        """The last reading's main numbers, for the loggers; the GPUs' are their means."""
        host, gpus = self.latest.get("host_values", {}), self.latest.get("gpus", [])
        found = {name: host[name] for name in LOGGED if name in host}
        for name in LOGGED:
            values = [gpu[name] for gpu in gpus if name in gpu]
            found |= {name: statistics.fmean(values)} if values else {}
        times = self.latest.get("step_times", {})
        if times.get("count"):
            found["communication_share"] = times["communication"] / max(times["total"], 1e-9)
        return found

    def _watch(self) -> None:
        try:
            machine = self.machine()
        except Exception as error:  # whatever a driver does, training goes on
            say(f"warning: the monitor cannot look at the machine: {error}")
            return
        try:
            self.read(machine)
            while not self._over.wait(self.settings.interval):
                self.read(machine)
            self.read(machine)  # the last steps
        except Exception as error:
            say(f"warning: the monitor has stopped: {type(error).__name__}: {error}")
        finally:
            machine.close()

    def read(self, machine: Machine) -> None:
        """One reading, for all who want it."""
        reading = machine.read()
        for complaint in reading.complaints:
            self._warn("gpu", complaint, what=complaint)
        self.latest = self._record_of(reading)
        self.journal.write(self.latest)
        since = time.time() - self.settings.straggler_interval
        if self.who.rank == 0 and self.settings.straggler_interval and self._compared < since:
            self._compare(since)
        self.exposition.show(reading, self.clock, self.latest, self.scores.scores, self.warnings)

    def _record_of(self, reading: MachineReading) -> Record:
        phase, step = self.progress()
        return {
            "time": round(time.time(), 3),
            "interval": self.settings.interval,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "rank": self.who.rank,
            "world": self.who.world,
            "work": self.who.work,
            "phase": phase,
            "step": step,
            "steps": self.who.steps,
            "training": self._training,
            "step_times": self._step_times(),
            "host_values": {name: float(f"{value:.6g}") for name, value in reading.host.items()},
            "gpus": [
                {"index": gpu.index, "name": gpu.name, "throttle": gpu.throttle or [], **gpu_values(gpu)}
                for gpu in reading.gpus
            ],
        }

    def _step_times(self) -> dict[str, float]:
        """Medians of the steps since the last reading."""
        steps = self.clock.since(self._read_steps)
        if not steps:
            return {"count": 0}
        self._read_steps = steps[-1].ended
        return {"count": len(steps)} | {
            part: float(f"{statistics.median(getattr(step, part) for step in steps):.6g}")
            for part in ("total", "data", "compute", "communication")
        }

    def _compare(self, since: float) -> None:
        """Look at all ranks' readings of the last interval."""
        self._compared = time.time()
        records = {rank: last_records(journal_file(self.run, rank), since) for rank in range(self.who.world)}
        found = {straggler.rank: straggler for straggler in self.scores.judge(records)}
        for rank, straggler in found.items():
            before = self._stragglers.get(rank)
            if before is None or before.part != straggler.part:
                facts = {"straggler": rank, "host": straggler.host, "part": straggler.part, "score": straggler.score}
                self._warn("straggler", straggler.line, **facts, against=straggler.against, note=straggler.note)
        for rank in (self._stragglers.keys() - found.keys()) & self.scores.scores.keys():
            self.record("straggler_recovered", straggler=rank)
            say(f"rank {rank} keeps up again")
        # Nothing new is known of a rank with too few readings.
        unjudged = {rank: known for rank, known in self._stragglers.items() if rank not in self.scores.scores}
        self._stragglers = unjudged | found

    def _warn(self, kind: str, line: str, **facts: Any) -> None:
        self.warnings[kind] += 1
        self.record(kind, step=self.progress()[1], **facts)
        say(f"warning: {line}")
