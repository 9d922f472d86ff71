"""What `maquette data build` can be told."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from omegaconf import MISSING

FORMAT = 1
PROCEDURAL = "procedural"
# What changes how a build runs but not what it writes.
_HOW = ("out", "workers", "deadline_s", "memory_mb")


@dataclass
class BuildConfig:
    """How shards are built; `source` and `out` have no default."""

    source: str = MISSING
    """A folder of meshes, or "procedural"."""
    out: str = MISSING
    """The folder that the shards go to."""
    resolution: int = 64
    """Cells along the unit cube; a multiple of 8."""
    truncation: float = 0.05
    """Distance at which the TSDF reaches 1, in the unit cube's units."""
    points: int = 8192
    """Surface points stored a sample."""
    count: int = 768
    """Shapes to generate from a procedural source."""
    variety: float = 1.0
    """Of procedural shapes, in [0, 1]: below 1 fewer kinds of parts, as a small model can learn."""
    seed: int = 0
    """Of procedural shapes and of the sampling of surface points."""
    limit: int | None = None
    """Take the first so many files only."""
    held_out: float = 0.1
    """Share of the samples, by the hash of their content, that is for validation."""
    shard_samples: int = 256
    """Samples a shard file."""
    workers: int = 0
    """Child processes; 0 is one a core."""
    deadline_s: float = 120.0
    """Seconds that one file may take before its child is killed and the file quarantined."""
    memory_mb: int = 4096
    """Memory that the processing of one file may take."""
    largest_faces: int = 1_000_000
    """Files with more triangles are quarantined."""

    def __post_init__(self) -> None:
        """Raises ValueError, which the command line turns into one line."""
        if not 8 <= self.resolution <= 512 or self.resolution % 8:
            raise ValueError(f"resolution {self.resolution} is not a multiple of 8 between 8 and 512")
        if not 0 < self.truncation <= 1:
            raise ValueError(f"truncation {self.truncation} is not in (0, 1]")
        if not 0 <= self.variety <= 1:
            raise ValueError(f"variety {self.variety} is not in [0, 1]")
        if not 0 <= self.held_out < 1:
            raise ValueError(f"held_out {self.held_out} is not in [0, 1)")
        for name in ("points", "count", "shard_samples", "deadline_s", "memory_mb", "largest_faces"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} {getattr(self, name)} is not positive")
        if self.workers < 0 or self.seed < 0 or (self.limit is not None and self.limit < 1):
            raise ValueError("workers and seed must not be negative, limit must be at least 1")

    def contents(self) -> dict[str, object]:
        """The settings that decide what is written, as plain data."""
        settings = {key: value for key, value in asdict(self).items() if key not in _HOW}
        if self.source != PROCEDURAL:
            settings["source"] = Path(self.source).resolve().name  # a folder may move
        unused = ("limit", "largest_faces") if self.source == PROCEDURAL else ("count", "variety")
        return {key: value for key, value in settings.items() if key not in unused}

    def processes(self) -> int:
        """Number of child processes to use."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return self.workers or cores


def fingerprint(contents: dict[str, object], names: list[str]) -> str:
    """Hash of everything that a build promises: settings, format, and the list of its sources."""
    text = json.dumps({"format": FORMAT, "contents": contents, "names": names}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
