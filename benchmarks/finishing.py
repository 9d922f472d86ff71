"""What finishing costs and keeps, on real models: decimation to a share, baking there and back, seconds a step.

    python benchmarks/finishing.py decimate MODELS [--share .1] [--count 240] [--dense 0]
    python benchmarks/finishing.py bake MODELS [--count 40] [--resolution 1024]
    python benchmarks/finishing.py time MODELS [--count 12]

MODELS is a folder of mesh files; every so many-th is taken. F-scores are of distances from points drawn on either
surface to the other surface itself, the longest side .9; ``--dense 128`` first takes the models' closed surfaces on a
grid of so many cells, as generators give them. Baking: the model is unwrapped, its own materials are baked onto that,
and both are seen from 8 sides without light.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from maquette.assets import import_asset
from maquette.errors import MaquetteError
from maquette.finishing import finish
from maquette.placement import in_unit_cube
from maquette.types import Asset, Mesh
from maquette_data3d.finishing.solid import closed_surface
from maquette_data3d.finishing.transfer import nearest
from maquette_data3d.geometry.sampling import surface_samples
from maquette_data3d.rendering.views import Surface, orbit, render_views

TAU = 0.01
SIZES = (0, 100, 300, 1000, 3000, 10**9)
STEPS = (
    "repair",
    "remesh",
    "decimate",
    "unwrap",
    "bake",
    "lods",
    "print_check",
    "print_repair",
    "collision",
    "inertia",
)
BLOCKS = {"decimate": {"share": 0.1}, "remesh": {"faces": 2000}, "print_check": {"size_mm": 80.0}}
BLOCKS["print_repair"] = BLOCKS["print_check"]


def models(folder: Path, count: int) -> Iterator[tuple[str, Mesh]]:
    """Some of the models of a folder, spread over it, in the unit cube."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".glb", ".obj", ".ply", ".stl"))
    for path in files[:: max(len(files) // count, 1)][:count]:
        yield path.stem, in_unit_cube(import_asset(path).mesh)


def f_score(one: Mesh, other: Mesh, points: int = 4096) -> float:
    """Harmonic mean of the shares of points of either mesh within .01 of the other."""
    shares = []
    for mine, theirs in ((one, other), (other, one)):
        drawn = surface_samples(mine.vertices, mine.faces, points, np.random.default_rng(0)).points
        shares.append(float((nearest(theirs, drawn).distance <= TAU).mean()))
    return 2 * shares[0] * shares[1] / max(sum(shares), 1e-9)


def decimate(folder: Path, count: int, share: float, dense: int) -> None:
    """Prints median F-scores, all and by the number of faces."""
    scores, sizes = [], []
    for _, mesh in models(folder, count):
        start = Mesh(*closed_surface(mesh, dense)) if dense else mesh
        fewer = finish(Asset(start), [{"name": "decimate", "share": share}]).mesh
        scores.append(f_score(start, fewer))
        sizes.append(len(start.faces))
    found, faces = np.array(scores), np.array(sizes)
    print(
        f"share {share}, dense {dense}: F@.01 median {np.median(found):.3f}, mean {found.mean():.3f}, n = {len(found)}"
    )
    for low, high in pairwise(SIZES):
        inside = (faces >= low) & (faces < high)
        if inside.any():
            print(f"  {low} to {high} faces: median {np.median(found[inside]):.3f}, n = {int(inside.sum())}")


def seen(mesh: Mesh) -> Surface:
    """The mesh with its materials, for pictures."""
    white = np.full((len(mesh.faces), 3, 3), 255, np.uint8)
    colors = white if mesh.colors is None else np.ascontiguousarray(mesh.colors[:, :3][mesh.faces])
    points = mesh.vertices.astype(np.float64)
    return Surface(points, mesh.faces, colors, mesh.uv, mesh.material, mesh.materials, mesh.images)


def likeness(one: Mesh, other: Mesh, size: int = 256) -> float:
    """PSNR in dB of the base colours of two meshes where both are seen, 8 views; at most 100."""
    cameras = orbit(8, 0)
    a, b = (render_views(seen(mesh), cameras, size, "flat") for mesh in (one, other))
    both = (a.face >= 0) & (b.face >= 0)
    error = ((a.rgb[both][:, :3].astype(np.float64) - b.rgb[both][:, :3]) / 255) ** 2
    return float(-10 * np.log10(max(error.mean(), 1e-10)))


def bake(folder: Path, count: int, resolution: int) -> None:
    """Prints how alike models and their baked selves look."""
    found = []
    for name, mesh in models(folder, count):
        steps = [
            {"name": "unwrap", "resolution": resolution},
            {"name": "bake", "resolution": resolution, "normal": False},
        ]
        found.append(likeness(mesh, finish(Asset(mesh), steps).mesh))
        if found[-1] < 35:
            print(f"  {name}: {found[-1]:.1f} dB")
    values = np.array(found)
    share = float((values >= 35).mean())
    print(
        f"bake {resolution}: median {np.median(values):.1f} dB, least {values.min():.1f}, "
        f"at least 35 dB: {share:.3f}, n = {len(values)}"
    )


def seconds(folder: Path, count: int) -> None:
    """Prints the median processor time of each step, of this process and those it starts."""
    spent: dict[str, list[float]] = {step: [] for step in STEPS}
    failed = 0
    for _, mesh in models(folder, count):
        unwrapped = finish(Asset(mesh), ["unwrap"])
        for step in STEPS:
            began = _processor()
            try:
                finish(unwrapped if step == "bake" else Asset(mesh), [{"name": step, **BLOCKS.get(step, {})}])
            except MaquetteError as error:
                failed += 1
                print(f"  {error}")
            spent[step].append(_processor() - began)
    for step, values in spent.items():
        print(f"{step:14} median {np.median(values):8.2f} s, most {max(values):8.2f} s, n = {len(values)}")
    print(f"failed: {failed}")


def _processor() -> float:
    import os

    return sum(os.times()[:4]) if hasattr(os, "times") else time.process_time()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("decimate", "bake", "time"))
    parser.add_argument("models", type=Path)
    parser.add_argument("--count", type=int, default=None)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--dense", type=int, default=0)
    parser.add_argument("--resolution", type=int, default=1024)
    options = parser.parse_args()
    if options.what == "decimate":
        decimate(options.models, options.count or 240, options.share, options.dense)
    elif options.what == "bake":
        bake(options.models, options.count or 40, options.resolution)
    else:
        seconds(options.models, options.count or 12)


if __name__ == "__main__":
    main()
