"""Marching cubes against scikit-image's, on a ball and on noise: ``python benchmarks/kernels_marching_cubes.py``.

Both run in turn, in random order within each round; medians and the ratio with its quartiles. ``--side`` samples a
side, ``--threads`` for ours (scikit-image's has one), ``--sparse`` adds the sparse path on a shell of samples.
"""

from __future__ import annotations

import argparse

import torch
from interleaved import measure, ratio_line
from skimage.measure import marching_cubes
from torch import Tensor

from maquette_kernels.surface import functions


def ball(side: int) -> Tensor:
    """Distances from a ball of four tenths of the cube."""
    squares = ((torch.arange(side) + 0.5) / side - 0.5).square()
    return (squares[:, None, None] + squares[:, None] + squares).sqrt() - 0.4


def waves(side: int) -> Tensor:
    """A surface that fills the cube: a gyroid of eight periods."""
    axis = torch.arange(side) * (8 * 2 * torch.pi / side)
    sine, cosine = axis.sin(), axis.cos()
    first = sine[:, None, None] * cosine[:, None] + sine[:, None] * cosine
    return first + sine * cosine[:, None, None]


def main() -> None:
    """Print a line for each field."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sparse", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    for field in (ball, waves):
        grid = field(options.side)
        contestants = {
            "scikit-image": lambda grid=grid: marching_cubes(grid.numpy(), 0.0, gradient_direction="descent"),
            "marching_cubes": lambda grid=grid: functions.marching_cubes(grid),
        }
        if options.sparse:
            kept = grid.abs() < 3 / options.side * (1 if field is ball else 25)
            values, coords = grid[kept], kept.nonzero().int()
            contestants["sparse"] = lambda v=values, c=coords: functions.sparse_marching_cubes(v, c)
        times = measure(contestants, options.rounds)
        faces = len(functions.marching_cubes(grid)[1])
        print(f"{field.__name__} {options.side}^3, {faces} faces, {options.threads} threads")
        for ours in list(contestants)[1:]:
            print("  " + ratio_line(times, "scikit-image", ours))


if __name__ == "__main__":
    main()
