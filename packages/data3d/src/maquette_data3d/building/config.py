"""What `maquette data build` can be told."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

PROCEDURAL = "procedural"
# What changes how a build runs but not what it writes.
_HOW = ("out", "workers", "deadline_s", "memory_mb", "engine")


@dataclass
class FilterConfig:
    """What a mesh must be to be kept; a file that is not is quarantined as `filtered`, with the figure."""

    min_faces: int | None = None
    max_faces: int | None = None
    max_components: int | None = None
    """Connected parts after welding."""
    max_degenerate_area: float | None = None
    """Share of the surface in faces so thin that their normals mean nothing."""
    min_flatness: float | None = None
    """Shortest over longest side of the box along the principal axes; 0 is a sheet."""
    textured: bool | None = None
    """With (true) or without (false) a base colour texture."""


@dataclass
class BuildConfig:
    """How shards are built; `source` and `out` have no default."""

    source: str = MISSING
    """A folder of meshes, or "procedural"."""
    out: str = MISSING
    """The folder that the shards go to, or an fsspec URL."""
    resolution: int = 64
    """Cells along the unit cube; a multiple of 8."""
    truncation: float = 0.05
    """Distance at which the TSDF reaches 1, in the unit cube's units."""
    points: int = 8192
    """Surface points stored a sample."""
    features: list[Any] = field(default_factory=lambda: ["grid", "surface"])
    """What a sample holds: names or blocks of registered features."""
    precision: str = "float16"
    """Of what is stored: float16, or exact (float32)."""
    count: int = 768
    """Shapes to generate from a procedural source."""
    variety: float = 1.0
    """Of procedural shapes, in [0, 1]: below 1 fewer kinds of parts, as a small model can learn."""
    classes: list[str] = field(default_factory=list)
    """Procedural classes, or families of them, that take turns; empty is all of them."""
    paraphrases: int = 0
    """Further captions a procedural shape, kept among its attributes."""
    seed: int = 0
    """Of procedural shapes and of the sampling of points."""
    limit: int | None = None
    """Take the first so many files only."""
    held_out: float = 0.1
    """Share of the samples, by the hash of their content, that is for validation."""
    split_by: str = "content"
    """What a split never divides: content (copies and near copies), folder (also files of one folder), or pack (also
    files that the manifest gives one `pack`)."""
    held_out_pairs: bool = False
    """Procedural shapes with a held-out pair of attributes go to the split `unseen_pairs`."""
    duplicates: str = "keep"
    """What becomes of exact copies of an earlier shape: keep, or drop (quarantined as `duplicate`)."""
    near_duplicates: float = 0.9
    """Overlap of voxels from which two meshes are one group and stay on one side of the split; 1 turns it off."""
    filters: FilterConfig = field(default_factory=FilterConfig)
    thumbnails: int = 512
    """Pictures in the index and the report, for this many samples."""
    shard_samples: int = 256
    """Sources a shard file covers; those of them that are kept are in it."""
    workers: int = 0
    """Child processes; 0 is one a core."""
    engine: Any = "local"
    """Who runs the build: the name or block of a registered engine (serial, local, ray)."""
    deadline_s: float = 120.0
    """Seconds that one file may take before its child is killed and the file quarantined."""
    memory_mb: int = 4096
    """Memory that the processing of one file may take."""
    largest_faces: int = 1_000_000
    """Files with more triangles are quarantined."""
    external_files: bool = True
    """Whether a file may name buffers and pictures in its own folder."""
    up_axis: str | None = None
    """Which way is up in formats that do not say: y or z."""

    def __post_init__(self) -> None:
        """Raises ValueError, which the command line turns into one line."""
        if not 8 <= self.resolution <= 512 or self.resolution % 8:
            raise ValueError(f"resolution {self.resolution} is not a multiple of 8 between 8 and 512")
        _choice("precision", self.precision, ("float16", "exact"))
        _choice("duplicates", self.duplicates, ("keep", "drop"))
        _choice("split_by", self.split_by, ("content", "folder", "pack"))
        _choice("up_axis", self.up_axis, ("y", "z", None))
        _within("truncation", self.truncation, lambda v: 0 < v <= 1, "(0, 1]")
        _within("variety", self.variety, lambda v: 0 <= v <= 1, "[0, 1]")
        _within("held_out", self.held_out, lambda v: 0 <= v < 1, "[0, 1)")
        _within("near_duplicates", self.near_duplicates, lambda v: 0.5 <= v <= 1, "[0.5, 1]")
        for name in ("points", "count", "shard_samples", "deadline_s", "memory_mb", "largest_faces"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} {getattr(self, name)} is not positive")
        for name in ("workers", "seed", "thumbnails", "paraphrases"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} {getattr(self, name)} is negative")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit {self.limit} is not at least 1")
        if not self.features:
            raise ValueError("features is empty; a sample must hold something")

    def contents(self) -> dict[str, Any]:
        """The settings that decide what is written, as plain data."""
        settings = {key: value for key, value in asdict(self).items() if key not in _HOW}
        if self.split_by == "content":
            del settings["split_by"]  # folders that were built before there was a choice stay what they are
        if self.source == PROCEDURAL:
            unused: tuple[str, ...] = (
                "limit",
                "largest_faces",
                "external_files",
                "up_axis",
                "near_duplicates",
                "split_by",
            )
        else:
            settings["source"] = Path(self.source).resolve().name  # a folder may move
            unused = ("count", "variety", "classes", "paraphrases", "held_out_pairs")
        return {key: value for key, value in settings.items() if key not in unused}

    def processes(self) -> int:
        """Number of child processes to use."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return self.workers or cores


def _choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} '{value}' is not one of: {', '.join(str(c) for c in choices if c is not None)}")


def _within(name: str, value: float, holds: Callable[[float], bool], shown: str) -> None:
    if not holds(value):
        raise ValueError(f"{name} {value} is not in {shown}")
