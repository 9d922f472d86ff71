"""Signed distances to a mesh of 20,000 faces beside the best pair of public libraries, and grids of them.

    OMP_NUM_THREADS=1 python benchmarks/kernels_distance.py [--rounds 7] [--threads 1] [--points 100000]

The mesh is a torus; half of the points are even in its box, half lie around its surface (normal noise, sigma .05 of
the ring's radius). Everyone is handed plain arrays or tensors and pays for its own tree: ours forgets what it
remembers before each call; "again" is ours with the tree of the call before. Open3D and point-cloud-utils are no
dependencies: without them ours runs alone. ``benchmarks/data3d_distance.py`` compares repaired meshes and signs.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from importlib.util import find_spec
from unittest.mock import MagicMock

import numpy as np
import torch
from interleaved import measure, ratio_line

from maquette_kernels.distance import recent_trees
from maquette_kernels.distance.functions import sdf_grid, signed_distance, unsigned_distance, winding_number
from maquette_kernels.distance.meshes import workload

PAIR, DISTANCE, NUMBER = "Open3D + point-cloud-utils", "Open3D distance", "point-cloud-utils winding"
OURS = "ours"


def anew(ask: Callable[[], object]) -> Callable[[], object]:
    """A call that finds no tree."""

    def call() -> object:
        recent_trees.forget()
        return ask()

    return call


def peers(points: np.ndarray, vertices: np.ndarray, faces: np.ndarray, threads: int) -> dict[str, Callable[[], object]]:
    """The public libraries that are here."""
    if not (find_spec("open3d") and find_spec("point_cloud_utils")):
        return {}
    for unused in ("plotly", "plotly.graph_objects", "plotly.subplots", "dash", "open3d.ml"):
        sys.modules.setdefault(unused, MagicMock())  # open3d imports them for notebooks and training
    import open3d as o3d
    import point_cloud_utils as pcu

    def distance() -> np.ndarray:
        scene = o3d.t.geometry.RaycastingScene(nthreads=threads)
        scene.add_triangles(vertices, faces.astype(np.uint32))
        return scene.compute_distance(points, threads).numpy()

    def number() -> np.ndarray:
        return pcu.triangle_soup_fast_winding_number(vertices, faces, points)

    def signed() -> np.ndarray:
        away = distance()
        return np.where(number() > 0.5, -away, away)

    return {PAIR: signed, DISTANCE: distance, NUMBER: number}


def main() -> None:
    """Print ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--points", type=int, default=100_000)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    points, vertices, faces = workload(torch.device("cpu"), torch.float32)
    chosen = torch.randperm(len(points), generator=torch.Generator().manual_seed(0))[: options.points]
    points = points[chosen].contiguous()
    print(f"{len(faces)} faces, {len(points)} points, {options.threads} thread(s)")
    ours: dict[str, Callable[[], object]] = {
        OURS: anew(lambda: signed_distance(points, vertices, faces)),
        "ours, distance": anew(lambda: unsigned_distance(points, vertices, faces)),
        "ours, winding": anew(lambda: winding_number(points, vertices, faces)),
        "ours, again": lambda: signed_distance(points, vertices, faces),
    }
    theirs = peers(points.numpy(), vertices.numpy(), faces.numpy(), options.threads)
    times = measure({**ours, **theirs}, options.rounds)
    for name, seconds in times.items():
        print(f"  {name:32s} {statistics.median(seconds) * 1e3:9.2f} ms")
    for peer, own in ((PAIR, OURS), (DISTANCE, "ours, distance"), (NUMBER, "ours, winding")):
        if peer in times:
            print("  " + ratio_line(times, peer, own))
    for resolution in (64, 128, 256):
        around = measure({"grid": lambda r=resolution: sdf_grid(vertices / 3.2, faces, r, band=4 / r)}, 2)["grid"]
        print(f"  signed grid of {resolution}^3, band of 4 cells: {statistics.median(around):.2f} s")


if __name__ == "__main__":
    main()
