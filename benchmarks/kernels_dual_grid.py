"""Flexible dual grids on a CPU: a ball of 20,000 faces encoded at three resolutions, and decoded again.

    OMP_NUM_THREADS=1 python benchmarks/kernels_dual_grid.py [--rounds 5] [--threads 1] [--most 1024]

Encoding stands beside the figures that TRELLIS.2 publishes for its compiled CPU code at 20,000 faces, which are
constants here and of another machine; decoding beside the same in numpy, by binary search, which it replaced.
Contestants take turns in random order; medians, and ratios round by round with quartiles; of one thread the CPU's time,
which neighbours disturb least.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
from interleaved import measure, ratio_line

from maquette_kernels.dual_grid.dual_grid_encode.operation import workload
from maquette_kernels.dual_grid.functions import dual_grid_decode, dual_grid_encode

PUBLISHED = {256: 102, 512: 510, 1024: 2786}  # milliseconds


def by_search(voxels: np.ndarray, points: np.ndarray, edges: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The surface by one search among sorted voxels for each corner of each quad."""
    x, y, z = voxels.astype(np.int64).T
    keys, strides = (x * size + y) * size + z, (size * size, size, 1)
    quads = []
    for axis in range(3):
        u, v = (axis + 1) % 3, (axis + 2) % 3
        at = np.flatnonzero(edges[:, axis] & (voxels[:, u] > 0) & (voxels[:, v] > 0))
        around = np.stack([keys[at] - s for s in (strides[u] + strides[v], strides[v], 0, strides[u])], 1)
        place = np.minimum(np.searchsorted(keys, around), max(len(keys) - 1, 0))
        quads.append(place[(keys[place] == around).all(1)])
    used, quad = np.unique(np.concatenate(quads), return_inverse=True)
    vertices = (voxels[used] + points[used].astype(np.float64)) / size - 0.5
    return vertices.astype(np.float32), split(vertices, quad.reshape(-1, 4)).astype(np.int32)


def split(vertices: np.ndarray, quads: np.ndarray) -> np.ndarray:
    """Two triangles a quad, along the diagonal over which it bends less."""

    def bend(a: int, b: int, c: int, d: int) -> np.ndarray:
        p, q, r, s = (vertices[quads[:, i]] for i in (a, b, c, d))
        one, two = np.cross(q - p, r - p), np.cross(r - p, s - p)
        lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(two, axis=1)
        return (one * two).sum(1) / np.maximum(lengths, 1e-300)

    other = bend(1, 2, 3, 0) > bend(0, 1, 2, 3) + 1e-9
    return np.where(other[:, None], np.roll(quads, -1, axis=1), quads)[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3)


def main() -> None:
    """Prints a line for each resolution."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--threads", type=int, default=1)
    asked.add_argument("--most", type=int, default=1024, help="the finest resolution")
    options = asked.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.threads == 1 else time.perf_counter
    vertices, faces, _ = workload(torch.device("cpu"), torch.float32)
    for resolution in (r for r in PUBLISHED if r <= options.most):
        voxels, points, edges, _ = grid = dual_grid_encode(vertices, faces, resolution)
        arrays = [tensor.numpy() for tensor in grid]

        def encode(resolution: int = resolution) -> object:
            return dual_grid_encode(vertices, faces, resolution)

        def decode(resolution: int = resolution, grid: tuple[torch.Tensor, ...] = (voxels, points, edges)) -> object:
            return dual_grid_decode(*grid, resolution=resolution)

        def search(resolution: int = resolution, arrays: list[np.ndarray] = arrays) -> object:
            return by_search(*arrays[:3], resolution)

        times = measure({"encode": encode, "decode": decode, "numpy": search}, options.rounds, clock=clock)
        for ours, theirs in zip(decode()[:2], search(), strict=True):
            assert np.array_equal(ours.numpy(), theirs), "decode differs from numpy"
        median = statistics.median(times["encode"]) * 1e3
        told = f"encode {median:9.2f} ms   published {PUBLISHED[resolution]:5} ms elsewhere"
        print(f"{resolution:5}, {len(voxels):8} voxels: {told}")
        print(f"       {ratio_line(times, 'numpy', 'decode')}")


if __name__ == "__main__":
    main()
