"""What distances, samples and shapes cost: our field against trimesh and against libigl asked at every cell.

    python benchmarks/data3d_fields.py [FOLDER OF MESHES]

The folder is MAQUETTE_MODELS where none is given; without either, analytic meshes stand in. Medians of
several runs, with the spread from the fastest to the slowest. One process; libigl may use every core unless
IGL_NUM_THREADS says otherwise.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import igl
import numpy as np
import trimesh

from maquette.errors import MaquetteError
from maquette_data3d.geometry.fields import cell_centres, field_of, sample_of
from maquette_data3d.geometry.repair import CleanMesh, clean
from maquette_data3d.ingest.reading import read
from maquette_data3d.procedural import sample_shape

RESOLUTION, TRUNCATION, POINTS = 64, 0.05, 8192
SLOW_POINTS = 2000  # trimesh's proximity is asked for this many, and its time scaled up
MESHES = 5


def timed(what: Callable[[], Any], runs: int = 5) -> list[float]:
    """Seconds of several runs, after one that does not count."""
    what()
    seconds = []
    for _ in range(runs):
        start = time.perf_counter()
        what()
        seconds.append(time.perf_counter() - start)
    return seconds


def shown(seconds: list[float]) -> str:
    """Median, and from the fastest to the slowest, in milliseconds."""
    low, middle, high = (f(seconds) * 1000 for f in (min, statistics.median, max))
    return f"{middle:9.1f} ms  ({low:.1f} - {high:.1f})"


def ratio(slower: list[float], faster: list[float]) -> str:
    """How many times as long, by the medians."""
    return f"x {statistics.median(slower) / statistics.median(faster):.1f}"


def meshes(folder: str) -> list[tuple[str, CleanMesh]]:
    """A handful of meshes, by size, from a folder or made up."""
    found = []
    for path in sorted(Path(folder).rglob("*.glb"))[:: max(1, 1362 // 40)] if folder else []:
        try:
            geometry = read(path, 1_000_000)
        except MaquetteError:
            continue
        found.append((path.stem, clean(geometry.vertices, geometry.faces, geometry.corner_colors)))
    if not found:
        bodies = [
            ("sphere", trimesh.creation.icosphere(4)),
            ("torus", trimesh.creation.torus(1, 0.3, 96, 48)),
        ]
        for name, body in bodies:
            colors = np.zeros((len(body.faces), 3, 3), np.uint8)
            found.append((name, clean(body.vertices, body.faces, colors)))
    found.sort(key=lambda pair: len(pair[1].faces))
    return [found[round(i)] for i in np.linspace(0, len(found) - 1, min(MESHES, len(found)))]


def compare(name: str, mesh: CleanMesh) -> None:
    """One mesh: the grid three ways, and the whole sample."""
    points = cell_centres(RESOLUTION)
    faces = mesh.faces.astype(np.int64)
    ours = timed(lambda: field_of(mesh, RESOLUTION).tsdf(RESOLUTION, TRUNCATION))
    field = field_of(mesh, RESOLUTION)
    whole = timed(lambda: sample_of(field, RESOLUTION, TRUNCATION, POINTS, 0))

    def dense() -> None:
        igl.point_mesh_squared_distance(points, mesh.vertices, faces)
        igl.fast_winding_number(mesh.vertices, faces, points)

    libigl = timed(dense, runs=3)
    print(f"\n{name}: {len(faces)} faces, {len(np.unique(mesh.component))} parts")
    print(f"  ours, narrow band, {RESOLUTION}^3   {shown(ours)}")
    print(f"  libigl, every cell          {shown(libigl)}  {ratio(libigl, ours)}")
    if find_spec("rtree"):
        few = points[np.random.default_rng(0).choice(len(points), SLOW_POINTS, replace=False)]
        loose = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
        seconds = timed(lambda: trimesh.proximity.signed_distance(loose, few), runs=3)
        slow = [t * len(points) / len(few) for t in seconds]
        print(f"  trimesh, scaled up          {shown(slow)}  {ratio(slow, ours)}")
    else:
        print("  trimesh: its proximity needs rtree, which is not installed")
    print(f"  ours, whole sample           {shown(whole)}")


def shapes() -> None:
    """Procedural shapes a minute and core, every field."""
    count = 16
    runs = timed(lambda: [sample_shape(0, i).fields(RESOLUTION, TRUNCATION, POINTS) for i in range(count)])
    rate = [60 * count / seconds for seconds in runs]
    middle, low, high = statistics.median(rate), min(rate), max(rate)
    print(f"procedural shapes, all fields: {middle:.0f} a minute and core ({low:.0f} - {high:.0f})")


if __name__ == "__main__":
    shapes()
    for label, loaded in meshes(sys.argv[1] if len(sys.argv) > 1 else os.environ.get("MAQUETTE_MODELS", "")):
        compare(label, loaded)
