"""What became of a build's sources, counted and with a reason each."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maquette_data3d.shards.process import Outcome
from maquette_data3d.shards.sources import Item

# Welding the seams of textures belongs to reading; these change what the file shows.
REPAIRS = ("degenerate_faces", "duplicate_faces", "flipped_faces", "turned_parts")


@dataclass(frozen=True)
class BuildReport:
    """Counts of a build; `kept + quarantined == found`, and the repaired ones are among the kept.

    Attributes:
        reasons: quarantined files a reason.
        quarantined_files, repaired_files: one entry a file: its path, and why or what.
    """

    folder: Path
    found: int
    kept: int
    repaired: int
    quarantined: int
    reasons: dict[str, int]
    quarantined_files: list[dict[str, Any]] = field(default_factory=list)
    repaired_files: list[dict[str, Any]] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """As JSON data, without the folder: a moved folder keeps its bytes."""
        return {key: value for key, value in self.__dict__.items() if key != "folder"}

    def summary(self) -> str:
        """One line for a person."""
        why = ", ".join(f"{reason} {count}" for reason, count in self.reasons.items())
        tail = f" ({why})" if why else ""
        counts = f"{self.kept} kept, {self.repaired} of them repaired, {self.quarantined} quarantined{tail}"
        return f"{self.folder}: {self.found} found, {counts}"


def report_of(folder: Path, items: list[Item], outcomes: list[Outcome]) -> BuildReport:
    """The report of a finished build; items and outcomes in the same order."""
    lost = [(i, o) for i, o in zip(items, outcomes, strict=True) if o.reason]
    mended = [
        {"file": i.name, "repairs": {key: o.repairs[key] for key in REPAIRS if key in o.repairs}}
        for i, o in zip(items, outcomes, strict=True)
        if not o.reason and any(key in o.repairs for key in REPAIRS)
    ]
    return BuildReport(
        folder,
        found=len(items),
        kept=len(items) - len(lost),
        repaired=len(mended),
        quarantined=len(lost),
        reasons=dict(sorted(Counter(str(o.reason) for _, o in lost).items())),
        quarantined_files=[{"file": i.name, "reason": o.reason, "detail": o.detail} for i, o in lost],
        repaired_files=mended,
    )
