"""A reader of two or more made-up samples, with every kind of field that the page can show."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from maquette_data3d.procedural import sample_shape
from maquette_data3d.rendering import orbit, render_views


@dataclass(frozen=True)
class ShownEntry:
    id: str
    caption: str
    class_name: str
    class_id: int = 0
    split: str = "train"
    group: str = ""
    tokens: int = 0
    sha256: str = "0" * 64
    attributes: dict[str, Any] = field(default_factory=dict)
    lineage: dict[str, Any] = field(default_factory=dict)
    thumbnail: bytes | None = None


class ShownReader:
    """What the page needs of a shard reader, from memory."""

    def __init__(self, samples: list[dict[str, np.ndarray]], entries: list[ShownEntry]) -> None:
        self.samples, self.entries, self.about = samples, entries, {"voxel_resolution": 32}
        first = samples[0] if samples else {}
        self.fields = {name: SimpleNamespace(dtype=str(v.dtype), shape=v.shape) for name, v in first.items()}

    def __len__(self) -> int:
        return len(self.entries)

    def entry(self, number: int) -> ShownEntry:
        return self.entries[number]

    def array(self, number: int, name: str) -> np.ndarray:
        return self.samples[number][name]

    def column(self, name: str) -> np.ndarray:
        return np.array([getattr(e, {"class": "class_name"}.get(name, name)) for e in self.entries], object)


def shape_sample(number: int, resolution: int = 32) -> dict[str, np.ndarray]:
    """One procedural shape with grids, points, voxels, a skeleton and views."""
    rng = np.random.default_rng(number)
    shape = sample_shape(0, number)
    mesh = shape.mesh(resolution)
    fields = shape.fields(resolution, points=2000)
    points = fields["surface"].astype(np.float32)
    near = (points[:500] + rng.normal(0, 0.02, (500, 3))).astype(np.float32)
    cells = np.unique(((points + 0.5) * 32).astype(np.int16), axis=0)
    views = render_views(mesh, orbit(3, number), 48)
    return {
        **{name: fields[name] for name in ("tsdf", "color", "surface", "normals")},
        "surface_color": np.round(shape.color_of(points) * 255).astype(np.uint8),
        "surface_part": (points[:, 1] * 10).astype(np.int64).astype(np.uint8) % 3,
        "sharp": points[:100].astype(np.float16),
        "near": near,
        "near_sdf": rng.normal(0, 0.02, 500).astype(np.float16),
        "voxels": cells,
        "dual_voxels": cells,
        "dual_points": rng.integers(0, 256, (len(cells), 3)).astype(np.uint8),
        "joints": rng.uniform(-0.4, 0.4, (4, 3)).astype(np.float32),
        "joint_parents": np.array([-1, 0, 1, 1], np.int16),
        "view_rgb": np.moveaxis(views.rgb, -1, 1),
        "view_depth": np.where(np.isfinite(views.depth), views.depth, 0).astype(np.float16),
        "view_normal": np.moveaxis(views.normal, -1, 1).astype(np.float16),
    }


HOSTILE = (
    "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">\u2028 & 'quoted'"
)


def shown_reader(count: int = 3, resolution: int = 32) -> ShownReader:
    """A reader whose first sample has texts that would take over a careless page."""
    shapes = [sample_shape(0, number) for number in range(count)]
    entries = [
        ShownEntry(f"shape-{number}", shape.caption, shape.class_name, attributes={"seed": number}, group="g")
        for number, shape in enumerate(shapes)
    ]
    lineage = {"source": "a.obj", "repairs": {"flipped_faces": 3}, "scale": float("nan")}
    entries[0] = ShownEntry("<b>one", HOSTILE, HOSTILE, attributes={HOSTILE: [HOSTILE]}, lineage=lineage)
    return ShownReader([shape_sample(number, resolution) for number in range(count)], entries)
