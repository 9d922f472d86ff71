"""A run as its journals tell of it, whether it is running, finished or dead. Reads files alone, imports no torch."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maquette.errors import MaquetteError
from maquette.events import read_events
from maquette.forensics.incidents import incidents
from maquette.json_text import read_json
from maquette.monitoring.journal import Record, journals, last_records

EVERYWHERE = frozenset({"time", "rank", "kind", "samples"})
"""What a line about an event leaves out: told already, or too long."""
LONGEST = 300
OVER = ("ended", "failed")
"""The phases of a last record."""


@dataclass(frozen=True)
class Happening:
    """Something that happened to a run: an event that a rank recorded, or an incident that ended processes.

    Attributes:
        time: seconds of ``time.time``.
        where: ``rank 3``, or the host of a launcher.
        kind: e.g. straggler, rollback, hang.
        line: in words.
    """

    time: float
    where: str
    kind: str
    line: str


@dataclass(frozen=True)
class RankView:
    """The last reading of a rank.

    Attributes:
        record: as the journal has it.
        age: how many seconds old it is.
        times: of the last steps that were read: medians in seconds by part; empty where there were none.
    """

    record: Record
    age: float
    times: Mapping[str, float]

    @property
    def alive(self) -> bool:
        """Whether it has told of itself about as lately as it should."""
        return self.record["phase"] not in OVER and self.age < 3 * self.record["interval"] + 5

    @property
    def gpu(self) -> Mapping[str, Any]:
        """The readings of its GPU; of the first where it has several."""
        return next(iter(self.record["gpus"]), {})

    def share(self, part: str) -> float | None:
        """Of its last steps' time, that went to ``data``, ``compute`` or ``communication``."""
        return self.times[part] / max(self.times["total"], 1e-9) if self.times else None


@dataclass(frozen=True)
class RunView:
    """A run.

    Attributes:
        state: running, finished, stopped, failed or dead, in words.
        ranks: in their order.
        happenings: the last ones, oldest first.
    """

    run: Path
    state: str
    ranks: tuple[RankView, ...]
    happenings: tuple[Happening, ...]

    @property
    def first(self) -> Record:
        """Rank 0's last reading."""
        return self.ranks[0].record

    @property
    def slowest_step(self) -> int:
        """Optimizer steps that all ranks have done."""
        return min(int(rank.record["step"]) for rank in self.ranks)


def happenings(run: Path) -> list[Happening]:
    """All that is recorded of a run, oldest first."""
    found = []
    for event in read_events(run):
        facts = {key: value for key, value in event.items() if key not in EVERYWHERE and value not in ("", [])}
        line = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in facts.items())
        found.append(Happening(event["time"], f"rank {event['rank']}", event["kind"].replace("_", " "), line[:LONGEST]))
    for folder in incidents(run):
        try:
            told = read_json(folder / "incident.json")
            found.append(Happening(told["when"], told["host"], told["kind"].replace("_", " "), told["line"][:LONGEST]))
        except (OSError, ValueError, KeyError):  # the launcher is just writing it
            continue
    return sorted(found, key=lambda happening: happening.time)


def view_run(run: Path, most: int = 8, now: float | None = None) -> RunView:
    """Read a run's folder; of what happened the last ``most``.

    Raises:
        MaquetteError: nothing there was ever monitored.
    """
    now = time.time() if now is None else now
    found = [records for file in journals(run) if (records := last_records(file, since=0.0))]
    if not found:
        raise MaquetteError(
            f"'{run}' holds no readings: give the folder of a run that was trained with monitor.interval above 0"
        )
    # A run that went on with fewer processes leaves journals of ranks that are no more.
    world = max((records[-1] for records in found), key=lambda record: float(record["time"]))["world"]
    ranks = tuple(_rank(records, now) for records in found if records[-1]["rank"] < world)
    return RunView(run, _state(run, ranks), ranks, tuple(happenings(run)[-most:]))


def _rank(records: list[Record], now: float) -> RankView:
    times: Mapping[str, float] = next((r["step_times"] for r in reversed(records) if r["step_times"].get("count")), {})
    return RankView(records[-1], now - records[-1]["time"], times)


def _state(run: Path, ranks: tuple[RankView, ...]) -> str:
    phases = {rank.record["phase"] for rank in ranks}
    silent = min(rank.age for rank in ranks)
    if any(rank.alive for rank in ranks):
        late = [str(rank.record["rank"]) for rank in ranks if not rank.alive]
        return "running" + (f"; no sign of rank {', '.join(late)}" if late else "")
    if (run / "result.json").is_file():
        return f"finished {span(silent)} ago"
    if phases == {"ended"}:
        return f"stopped {span(silent)} ago"
    if "failed" in phases:
        return f"failed {span(silent)} ago"
    return f"dead: no sign of life for {span(silent)}"


def span(seconds: float) -> str:
    """Seconds in words, to two figures."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
