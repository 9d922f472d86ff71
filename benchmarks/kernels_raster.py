"""The rasteriser on a CPU beside rays (Open3D, Embree) and data3d's own z-buffer, which has no gradients.

    OMP_NUM_THREADS=1 python benchmarks/kernels_raster.py [--rounds 7] [--threads 1] [--size 512] [--rings 144]

One picture of a closed mesh with bumps, of about 4 * rings^2 faces. Rays ask for the same: face, weights and depth of
each pixel; their tree is built beforehand. The last lines are backward passes and blended edges. Open3D is no
dependency: where it is not installed it is left out.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch
from interleaved import measure, quartiles, ratio_line

from maquette_data3d.rendering import raster as buffer
from maquette_kernels.raster.functions import antialias, edge_opposites, interpolate, rasterise
from maquette_kernels.raster.scenes import bumpy_sphere, facing_camera

OURS = "rasterise"


def rays(vertices: np.ndarray, faces: np.ndarray, size: int) -> Callable[[], object]:
    """Open3D's ray casting of the same picture."""
    for unused in ("plotly", "plotly.graph_objects", "plotly.subplots", "dash", "open3d.ml"):
        sys.modules.setdefault(unused, MagicMock())  # open3d imports them for notebooks and training
    import open3d

    scene = open3d.t.geometry.RaycastingScene(nthreads=torch.get_num_threads())
    scene.add_triangles(vertices.astype(np.float32), faces.astype(np.uint32))
    place = (2 * np.arange(size) + 1) / size - 1
    x, y = np.meshgrid(place / 3.2, -place / 3.2)
    start = np.broadcast_to(np.array([0.0, 0.0, 3.0]), (size, size, 3))
    cast = np.concatenate([start, np.stack([x, y, -np.ones_like(x)], -1)], -1).astype(np.float32)
    tensor = open3d.core.Tensor(cast)
    return lambda: scene.cast_rays(tensor)


def z_buffer(vertices: np.ndarray, faces: np.ndarray, size: int) -> Callable[[], object]:
    """data3d's compiled z-buffer of the same picture, in one thread."""
    matrix = np.diag([1.0, -1.0, -1.0, 1.0])
    matrix[2, 3] = 3.0

    def draw() -> Any:
        screen, inverse = buffer.project(vertices, matrix, 1.6 * size, 0.5 * size)
        return buffer.visible(screen, inverse, faces, size, size)

    return draw


def gradients(positions: torch.Tensor, faces: torch.Tensor, size: int) -> dict[str, Callable[[], object]]:
    """Whole renders with gradients."""
    colours = torch.rand(1, positions.shape[1], 3)
    opposites = edge_opposites(faces)

    def render(blended: bool) -> torch.Tensor:
        leaf = positions.detach().requires_grad_()
        face_id, weights, depth = rasterise(leaf, faces, size, size)
        image = interpolate(colours, faces, face_id, weights)
        if blended:
            image = antialias(image, face_id, depth, leaf, faces, opposites=opposites)
        image.square().mean().backward()
        return image

    return {"render and gradient": lambda: render(False), "render, blended, and gradient": lambda: render(True)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("rounds", 7), ("threads", 1), ("size", 512), ("rings", 144)):
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    vertices, faces = bumpy_sphere(asked.rings)
    positions = facing_camera(vertices).float()[None]
    contestants: dict[str, Callable[[], object]] = {OURS: lambda: rasterise(positions, faces, asked.size, asked.size)}
    contestants["data3d's z-buffer"] = z_buffer(vertices.numpy(), faces.numpy(), asked.size)
    if find_spec("open3d"):
        contestants["Open3D rays"] = rays(vertices.numpy(), faces.numpy(), asked.size)
    peers = [name for name in contestants if name != OURS]
    times = measure(contestants | gradients(positions, faces, asked.size), asked.rounds)
    print(f"{len(faces)} faces, {asked.size} x {asked.size} pixels, {asked.threads} thread(s)")
    for peer in peers:
        print(ratio_line(times, peer, OURS))
    for name in times:
        if name != OURS and name not in peers:
            low, middle, high = (1e3 * value for value in quartiles(times[name]))
            print(f"{name} {middle:.1f} ms ({low:.1f}-{high:.1f})")


if __name__ == "__main__":
    main()
