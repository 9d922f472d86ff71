"""The report's section on how a run went: utilisation, memory and times by rank, and what happened on the way."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from maquette.accelerators import GIB
from maquette.monitoring.journal import Record, journals, read_journal
from maquette.monitoring.view import Happening, happenings
from maquette.report.svg import draw

PARTS = ("data", "compute", "communication")
MOST_RANKS = 8
"""Ranks that are drawn; more lines would hide each other."""

Line = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Monitored:
    """What there is to show of a run; all of it empty where it was not monitored."""

    drawing: str
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    events: Sequence[Sequence[str]] = ()


def monitored(run: Path) -> Monitored:
    """Read a run's journals and events."""
    drawn: dict[int, Sequence[Record]] = {}
    rows = []
    for file in journals(run):  # one journal after the other: those of thousands of ranks would fill the memory
        if records := list(read_journal(file)):
            rank = records[0]["rank"]
            rows.append(_row(rank, records))
            if len(drawn) < MOST_RANKS:
                drawn[rank] = records
    events = [_row_of(happened) for happened in happenings(run)]
    if not rows:
        return Monitored("", events=events)
    columns = ("rank", "host", "ms/step", *PARTS, "GPU", "GPU memory, most", "memory, most", "validating, saving, ...")
    return Monitored(_draw(drawn), columns, rows, events)


def _row(rank: int, records: Sequence[Record]) -> list[str]:
    times = [record["step_times"] for record in records if record["step_times"].get("count")]
    total = sum(t["count"] * t["total"] for t in times)
    cells = [
        str(rank),
        records[-1]["host"],
        f"{1000 * statistics.median(t['total'] for t in times):.4g}" if times else "-",
    ]
    cells += [f"{sum(t['count'] * t[part] for t in times) / total:.1%}" if total else "-" for part in PARTS]
    busy = [value for _, value in _gpu(records, "gpu_utilization")]
    memory = [value / GIB for _, value in _gpu(records, "gpu_memory_used")]
    resident = [value / GIB for _, value in _host(records, "process_memory")]
    away = [record for record in records if record["phase"] not in ("train", "ended", "failed")]
    cells += [f"{statistics.fmean(busy):.0f} %" if busy else "-"]
    cells += [f"{max(values):.2f} GiB" if values else "-" for values in (memory, resident)]
    return [*cells, f"{len(away) / len(records):.0%}"]


def _row_of(happened: Happening) -> list[str]:
    moment = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(happened.time))
    return [moment, happened.where, happened.kind, happened.line]


def _host(records: Sequence[Record], name: str) -> Line:
    return [(record["time"], record["host_values"][name]) for record in records if name in record["host_values"]]


def _gpu(records: Sequence[Record], name: str) -> Line:
    """Means over the GPUs of a process."""
    told = [(record["time"], [gpu[name] for gpu in record["gpus"] if name in gpu]) for record in records]
    return [(when, statistics.fmean(values)) for when, values in told if values]


def _times(records: Sequence[Record], part: str) -> Line:
    return [(r["time"], 1000 * r["step_times"][part]) for r in records if r["step_times"].get("count")]


def _percents(records: Sequence[Record]) -> Line:
    return [(when, 100 * share) for when, share in _host(records, "host_cpu")]


def _gibs(line: Line) -> Line:
    return [(when, value / GIB) for when, value in line]


def _draw(by_rank: Mapping[int, Sequence[Record]]) -> str:
    """An inline SVG: utilisation, memory, and the parts of a step, a line a rank, over minutes."""
    panels: dict[str, Callable[[Sequence[Record]], Line]] = {
        "processors in use, %": _percents,
        "memory of the process, GiB": lambda records: _gibs(_host(records, "process_memory")),
    }
    if any(_gpu(records, "gpu_utilization") for records in by_rank.values()):
        panels = {
            "GPU in use, %": lambda records: _gpu(records, "gpu_utilization"),
            "GPU memory, GiB": lambda records: _gibs(_gpu(records, "gpu_memory_used")),
        }
    panels |= {f"{part}, ms a step": partial(_times, part=part) for part in PARTS}
    began = min(records[0]["time"] for records in by_rank.values())

    def paint(figure: Any) -> None:
        for place, (title, line) in enumerate(panels.items(), 1):
            axes = figure.add_subplot(2, 3, place)
            for rank, records in by_rank.items():
                points = [((when - began) / 60, value) for when, value in line(records)]
                if points:
                    axes.plot(*zip(*points, strict=True), linewidth=1.2, label=f"rank {rank}")
            axes.set_title(title)
            axes.set_xlabel("minutes")
            axes.set_ylim(bottom=0)
            if place == 1 and axes.lines:
                axes.legend(frameon=False)

    return draw(paint, (10.8, 5.0))
