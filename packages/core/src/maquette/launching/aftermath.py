"""What the launcher finds out and keeps when workers have ended: who was the cause, what it did last, why it ended."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from maquette.forensics.collectives import flight_file
from maquette.forensics.incidents import Incident, record, tail
from maquette.forensics.out_of_memory import conclude, report_file, snapshot_file
from maquette.forensics.remedies import remedies
from maquette.forensics.verdict import Verdict
from maquette.forensics.watchdog import Watchdog
from maquette.hardware import cgroups
from maquette.launching.failure import Failure, root_cause
from maquette.launching.outcome import TRACEBACK
from maquette.runs import RunFolder

LAST_METRICS = ("train/loss", "train/grad_norm", "train/steps_per_second", "train/memory_gib")


class Aftermath:
    """Explains the ends of workers, each with an incident in the run's folder.

    Args:
        watchdog: knows of hangs, and the workers' last signs of life.
        run: the run's folder; None for a command that trains nothing, of which nothing is kept.
    """

    def __init__(self, watchdog: Watchdog, run: Path | None) -> None:
        self.watchdog, self.run = watchdog, run
        self._kills = _memory_kills()

    def explain(self, failures: Sequence[Failure], world: int) -> Failure:
        """The failure that the others follow from, with what was found out about it.

        Args:
            failures: of this node's workers.
            world: how many workers there were on all nodes.
        """
        kills, before = _memory_kills(), self._kills
        self._kills = kills
        cause = root_cause(failures)
        if self.watchdog.verdict:
            return self._hung(self.watchdog.verdict, failures, cause)
        if cause.final:
            return cause
        if cause.out_of_memory and self.run:
            return self._full(failures, cause, self.run, world)
        if cause.exit_code == -signal.SIGKILL and kills > before:
            said = f"{cause} by the kernel, which had no memory left (oom_kill: {before} -> {kills})"
            cause = replace(cause, verdict=said)
        elif cause.exit_code == -signal.SIGABRT and (words := _last_words(Path(cause.output))):
            cause = replace(cause, verdict=f"{cause}: {words}")
        try:
            return replace(cause, incident=str(self._crash(failures, cause).path)) if self.run else cause
        except OSError:  # a full disk has no room for an incident, and the failure is told all the same
            return cause

    def _hung(self, verdict: Verdict, failures: Sequence[Failure], cause: Failure) -> Failure:
        incident = self.watchdog.incident
        culprit = next((failure for failure in failures if failure.rank in verdict.culprits), cause)
        return replace(culprit, verdict=f"a hang: {verdict.line}", incident=str(incident.path) if incident else "")

    def _full(self, failures: Sequence[Failure], cause: Failure, run: Path, world: int) -> Failure:
        full = [failure for failure in failures if failure.out_of_memory]
        rows = [failure.message for failure in sorted(full, key=lambda failure: failure.rank)]
        incident = record(run, "out_of_memory", cause.message, {"ranks": [f.rank for f in full]}, "\n".join(rows))
        for failure in full:
            written = report_file(self.watchdog.watched, failure.rank)
            incident.keep(written.name, _text(written))
            snapshot = snapshot_file(self.watchdog.watched, failure.rank)
            if snapshot.is_file():
                shutil.move(snapshot, incident.path)
        return replace(cause, verdict=conclude(incident, remedies(run, world)), incident=str(incident.path))

    def _crash(self, failures: Sequence[Failure], cause: Failure) -> Incident:
        assert self.run
        ended = [failure for failure in failures if failure.exit_code != -signal.SIGTERM]
        rows = [self._row(failure) for failure in sorted(ended, key=lambda failure: failure.rank)]
        facts = {"rank": cause.rank, "exit_code": cause.exit_code, "message": cause.message}
        body = "\n".join([*rows, *self._readings()])
        incident = record(self.run, "crash", str(cause), facts, body)
        for failure in ended:
            if failure.log.endswith(TRACEBACK):
                incident.keep(f"traceback.rank{failure.rank}.txt", tail(Path(failure.log)))
            incident.keep(f"output.rank{failure.rank}.txt", tail(Path(failure.output)) if failure.output else "")
            incident.keep(f"flight.rank{failure.rank}.json", _text(flight_file(self.watchdog.watched, failure.rank)))
        return incident

    def _row(self, failure: Failure) -> str:
        sign = self.watchdog.sign(failure.rank)
        known = sign is not None and sign.pid == failure.pid
        return f"{failure}; {f'in {sign.phase}, after step {sign.step}' if known and sign else 'before its first sign'}"

    def _readings(self) -> list[str]:
        curves = RunFolder(self.run).metrics() if self.run else {}
        told = [(name, curves[name][-1]) for name in LAST_METRICS if curves.get(name)]
        return (
            ["", "last readings:", *(f"  {name} {value:.6g} at step {step}" for name, (step, value) in told)]
            if told
            else []
        )


def _last_words(output: Path) -> str:
    """What a C++ library said before it aborted, as gloo does where ranks send different sizes."""
    found = [line.partition("what():")[2] for line in tail(output).splitlines() if "what():" in line]
    return found[-1].strip() if found else ""


def _memory_kills() -> int:
    group = cgroups.read()
    return (group.oom_kills or 0) if group else 0


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
