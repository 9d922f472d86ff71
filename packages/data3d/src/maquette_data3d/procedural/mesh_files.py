"""Procedural shapes as mesh files, with a manifest that ingest reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from maquette import progress
from maquette.assets import export
from maquette.durable import write_text
from maquette.errors import unknown_name
from maquette.types import Asset
from maquette_data3d.procedural.catalogue import FIRST_CLASSES
from maquette_data3d.procedural.shape import sample_shape

FORMATS = ("glb", "obj", "ply", "stl", "off")


def write_mesh_files(  # noqa: PLR0917
    folder: str | Path,
    count: int,
    seed: int = 0,
    formats: Sequence[str] = ("glb",),
    resolution: int = 64,
    classes: Sequence[str] = FIRST_CLASSES,
) -> Path:
    """Writes shapes 0 .. count-1 of a seed into a folder, and `manifest.jsonl` beside them.

    Args:
        folder: made where it does not exist.
        formats: of glb, obj, ply, stl, off; shapes take turns.
        resolution: cells along the unit cube that surfaces are extracted at.
        classes: that take turns, by their own names or their families'.

    Returns:
        The manifest's path; a line a file: file, name (the caption), category (the class).

    Raises:
        MaquetteError: an unknown format or class.
    """
    folder = Path(folder)
    for name in formats:
        if name not in FORMATS:
            raise unknown_name("mesh format", name, FORMATS)
    lines = []
    for index in progress.track(range(count), "Writing mesh files"):
        shape = sample_shape(seed, index, classes=classes)
        kind = formats[index % len(formats)]
        file = f"{shape.class_name}/{shape.class_name}-{index:05d}.{kind}"
        export(Asset(shape.mesh(resolution), {"prompt": shape.caption}), folder / file)
        lines.append({"file": file, "name": shape.caption, "category": shape.class_name})
    manifest = folder / "manifest.jsonl"
    write_text(manifest, "".join(json.dumps(line) + "\n" for line in lines))
    return manifest
