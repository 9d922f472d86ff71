"""From one item to one sample: a pure function of the item and the settings, run in a child process."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from maquette_data3d.shards.sources import Item

_GRAIN = 1e-3  # positions that agree to this are the same shape


@dataclass(frozen=True)
class Settings:
    """What `process` needs to know of a build."""

    resolution: int
    truncation: float
    points: int
    seed: int
    largest_faces: int
    variety: float = 1.0


@dataclass(frozen=True)
class Outcome:
    """What became of an item: a sample, or the reason why not.

    Attributes:
        reason: None when kept, otherwise a word that docs/data.md explains; `detail` says more.
        content: hash of the geometry, equal for copies of a shape.
        checksum: of the sample's arrays.
    """

    number: int
    reason: str | None = None
    detail: str = ""
    caption: str = ""
    class_name: str = ""
    source_sha256: str = ""
    content: str = ""
    checksum: str = ""
    repairs: dict[str, int] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """As JSON data."""
        return asdict(self)


def process(item: Item, class_id: int | None, settings: Settings) -> tuple[Outcome, dict[str, np.ndarray]]:
    """Makes a sample.

    Args:
        item: what to make it of.
        class_id: number of the item's class; None for procedural shapes, which know theirs.

    Returns:
        The outcome (without checksum) and the arrays that shards hold.

    Raises:
        MaquetteError: "reason: detail", when the item has to be quarantined.
    """
    if item.path is None:
        return _procedural(item, settings)
    return _mesh_file(item, int(class_id or 0), settings)


def _procedural(item: Item, settings: Settings) -> tuple[Outcome, dict[str, np.ndarray]]:
    from maquette_data3d.procedural import sample_shape

    shape = sample_shape(settings.seed, item.number, settings.variety)
    arrays = shape.fields(settings.resolution, settings.truncation, settings.points)
    content = _hash(np.round(shape.program.rows / _GRAIN).astype(np.int64))
    outcome = Outcome(
        item.number,
        caption=shape.caption,
        class_name=shape.class_name,
        content=content,
        attributes=shape.attributes,
    )
    return outcome, arrays


def _mesh_file(item: Item, class_id: int, settings: Settings) -> tuple[Outcome, dict[str, np.ndarray]]:
    from maquette.errors import MaquetteError
    from maquette_data3d.geometry.fields import field_of, sample_of
    from maquette_data3d.geometry.repair import clean
    from maquette_data3d.ingest.reading import read

    path = Path(str(item.path))
    source = hashlib.sha256(path.read_bytes()).hexdigest()
    geometry = read(path, settings.largest_faces)
    mesh = clean(geometry.vertices, geometry.faces, geometry.corner_colors)
    if not len(mesh.faces):
        raise MaquetteError("flat: no triangle has any area")
    field = field_of(mesh, settings.resolution)
    seed = int(hashlib.sha256(f"{source} {settings.seed}".encode()).hexdigest()[:16], 16)
    arrays = sample_of(field, settings.resolution, settings.truncation, settings.points, seed)
    arrays["class_id"] = np.int64(class_id)
    if not (arrays["tsdf"] < 0).any():
        raise MaquetteError(f"vanishes: nothing of it is left at resolution {settings.resolution}")
    corners = np.round(mesh.vertices[mesh.faces].reshape(-1, 3) / _GRAIN).astype(np.int64)
    outcome = Outcome(
        item.number,
        caption=item.caption or "",
        class_name=item.class_name or "",
        source_sha256=source,
        content=_hash(np.unique(corners, axis=0)),
        repairs=field.bodies.repairs,
    )
    return outcome, arrays


def _hash(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
