"""What became of a build's sources, counted and with a reason each."""

from __future__ import annotations

import base64
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maquette.durable import write_json, write_text
from maquette.errors import MaquetteError
from maquette_data3d.building.outcome import Outcome
from maquette_data3d.building.sources import Item

# Welding the seams of textures belongs to reading; these change what the file shows.
REPAIRS = ("degenerate_faces", "duplicate_faces", "flipped_faces", "turned_parts")
KEPT, REPAIRED, QUARANTINED = "kept", "repaired", "quarantined"
REPORT, FILES, THROUGHPUT, PAGE = "report.json", "files.jsonl", "throughput.json", "report.html"


@dataclass(frozen=True)
class BuildReport:
    """Counts of a build; `kept + quarantined == found`, and the repaired ones are among the kept.

    Attributes:
        reasons: quarantined files a reason.
        repairs: files that each repair was done to.
        duplicates: kept samples that are exact copies of an earlier one.
        near_duplicate_groups: groups of more than one shape that is not an exact copy.
    """

    folder: Path
    found: int
    kept: int
    repaired: int
    quarantined: int
    reasons: dict[str, int]
    repairs: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    near_duplicate_groups: int = 0

    def plain(self) -> dict[str, Any]:
        """As JSON data, without the folder: a moved folder keeps its bytes."""
        return {key: value for key, value in self.__dict__.items() if key != "folder"}

    def summary(self) -> str:
        """One line for a person."""
        why = ", ".join(f"{reason} {count}" for reason, count in self.reasons.items())
        tail = f" ({why})" if why else ""
        counts = f"{self.kept} kept, {self.repaired} of them repaired, {self.quarantined} quarantined{tail}"
        return f"{self.folder}: {self.found} found, {counts}"

    def files(self, state: str | None = None) -> Iterator[dict[str, Any]]:
        """Each source: file, state (kept, repaired, quarantined), reason, detail, repairs, sha256, key, ..."""
        with (self.folder / FILES).open(encoding="utf-8") as lines:
            for line in lines:
                entry = json.loads(line)
                if state in (None, entry["state"]):
                    yield entry


def read_report(folder: Path) -> BuildReport:
    """The report of a finished build.

    Raises:
        MaquetteError: it is not there.
    """
    path = folder / REPORT
    if not path.is_file():
        raise MaquetteError(f"'{path}' is missing; build the shards again")
    return BuildReport(folder, **json.loads(path.read_text(encoding="utf-8")))


def state_of(outcome: Outcome) -> str:
    """Kept, repaired or quarantined."""
    if outcome.reason:
        return QUARANTINED
    return REPAIRED if any(name in outcome.repairs for name in REPAIRS) else KEPT


def report_of(folder: Path, outcomes: Sequence[Outcome], leaders: Sequence[int]) -> BuildReport:
    """The report of a build.

    Args:
        outcomes: of all sources.
        leaders: for each kept one the first one of its group.
    """
    states = Counter(state_of(outcome) for outcome in outcomes)
    kept = [outcome for outcome in outcomes if not outcome.reason]
    shapes: dict[int, set[str]] = {}
    for outcome, leader in zip(kept, leaders, strict=True):
        shapes.setdefault(leader, set()).add(outcome.content)
    return BuildReport(
        folder,
        found=len(outcomes),
        kept=len(kept),
        repaired=states[REPAIRED],
        quarantined=states[QUARANTINED],
        reasons=dict(sorted(Counter(str(o.reason) for o in outcomes if o.reason).items())),
        repairs=dict(sorted(Counter(name for o in kept for name in o.repairs if name in REPAIRS).items())),
        duplicates=len(kept) - len({o.content for o in kept}),
        near_duplicate_groups=sum(len(contents) > 1 for contents in shapes.values()),
    )


def write_files(folder: Path, items: Sequence[Item], outcomes: Sequence[Outcome]) -> None:
    """files.jsonl: what became of each source, a line each."""
    lines = []
    for item, outcome in zip(items, outcomes, strict=True):
        entry = {
            "file": item.name,
            "state": state_of(outcome),
            "reason": outcome.reason or "",
            "detail": outcome.detail,
            "repairs": {name: outcome.repairs[name] for name in REPAIRS if name in outcome.repairs},
            "caption": item.caption,
            "class": item.class_name,
            "sha256": outcome.source_sha256,
            "key": outcome.key,
        }
        lines.append(json.dumps(entry, ensure_ascii=False) + "\n")
    write_text(folder / FILES, "".join(lines))


def throughput(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float]]:
    """By stage: samples, seconds of one core together, and samples a second of one core."""
    seconds: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    for outcome in outcomes:
        seconds.update(outcome.seconds)
        counts.update(outcome.seconds.keys())
    return {
        stage: {
            "samples": counts[stage],
            "seconds": round(spent, 3),
            "per_core_second": round(counts[stage] / max(spent, 1e-9), 1),
        }
        for stage, spent in sorted(seconds.items(), key=lambda item: -item[1])
    }


def write_pages(report: BuildReport, items: Sequence[Item], outcomes: Sequence[Outcome]) -> None:
    """report.json, throughput.json and report.html."""
    from maquette_data3d.viewing.build_report import write_build_report

    stages = throughput(outcomes)
    write_json(report.folder / THROUGHPUT, stages)
    rows = [
        {
            "file": item.name,
            "state": state_of(outcome),
            "reason": outcome.reason or "",
            "detail": outcome.detail,
            "repairs": {name: outcome.repairs[name] for name in REPAIRS if name in outcome.repairs},
            "thumbnail": base64.b64decode(outcome.thumbnail) if outcome.thumbnail else None,
        }
        for item, outcome in zip(items, outcomes, strict=True)
        if outcome.thumbnail or state_of(outcome) != KEPT
    ]
    write_build_report(report.folder / PAGE, report.plain(), rows, stages)
    write_json(report.folder / REPORT, report.plain())
