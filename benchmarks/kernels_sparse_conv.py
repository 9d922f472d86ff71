"""Sparse convolution on a CPU against gather-GEMM-scatter and against a dense convolution, in turn.

``python benchmarks/kernels_sparse_conv.py [--rounds 15] [--threads 1] [--channels 64] [--side 64] [--clock cpu]``: a
spherical shell and random voxels at 5 % occupancy, 3^3 taps, float32 and bfloat16, forward and forward + backward.
The peers get their lists of pairs beforehand; we get the kernel map, as a network's layers share it. The map itself is
measured against torch's searchsorted. ``--clock cpu`` counts the process's own time, for a busy machine.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from interleaved import measure, ratio_line
from torch import Tensor
from torch.nn import functional

from maquette_kernels.sparse.clouds import shell, voxels
from maquette_kernels.sparse.functions import neighbour_map, sparse_conv3d
from maquette_kernels.sparse.keys import pack

Clock = Callable[[], float]


@dataclass(frozen=True)
class Layer:
    """One convolution: voxels of a grid, features, weight [27, C, C], and a gradient from above."""

    side: int
    coords: Tensor
    features: Tensor
    weight: Tensor
    above: Tensor

    @classmethod
    def of(cls, coords: Tensor, side: int, channels: int, dtype: torch.dtype) -> Layer:
        """Random features and weights."""
        features, above = torch.randn(2, len(coords), channels).to(dtype)
        weight = (torch.randn(27, channels, channels) / (13 * channels) ** 0.5).to(dtype)
        return cls(side, coords, features.requires_grad_(), weight.requires_grad_(), above)

    def ours(self) -> Callable[[], Tensor]:
        """Our operation over a map made beforehand."""
        neighbours = neighbour_map(self.coords)
        reverse = neighbours.flip(1)
        return lambda: sparse_conv3d(self.features, self.weight, None, neighbours, reverse)

    def gather_scatter(self) -> Callable[[], Tensor]:
        """For each tap gather, multiply, add to rows; pairs made beforehand."""
        neighbours = neighbour_map(self.coords).long()
        pairs = [(rows, column[rows]) for column in neighbours.T for rows in [(column >= 0).nonzero().squeeze(1)]]

        def run() -> Tensor:
            out = self.features.new_zeros(len(self.coords), self.weight.shape[2])
            for (rows, sources), weight in zip(pairs, self.weight, strict=True):
                out = out.index_add_(0, rows, self.features[sources] @ weight)
            return out

        return run

    def dense(self) -> Callable[[], Tensor]:
        """torch's conv3d over the whole grid, channels last; the grid filled and read each time."""
        place = tuple(self.coords.long().unbind(1))
        kernel = self.weight.detach().unflatten(0, (3, 3, 3)).permute(4, 3, 0, 1, 2).contiguous().requires_grad_()

        def run() -> Tensor:
            grid = self.features.new_zeros(1, *[self.side] * 3, self.features.shape[1])
            grid = grid.index_put(place, self.features).permute(0, 4, 1, 2, 3)
            return functional.conv3d(grid, kernel, padding=1).permute(0, 2, 3, 4, 1)[place] + 0 * self.weight.sum()

        return run

    def step(self, run: Callable[[], Tensor], *, backward: bool) -> Callable[[], object]:
        """Forward alone, without a tape, or with the gradients of features and weights."""
        if backward:
            return lambda: torch.autograd.grad(run(), [self.features, self.weight], self.above, allow_unused=True)

        def forward() -> Tensor:
            with torch.no_grad():
                return run()

        return forward


def searched_map(coords: Tensor) -> Tensor:
    """A neighbour map in plain torch: one binary search for each voxel and tap."""
    keys, index = pack(coords).sort()
    steps = torch.cartesian_prod(*[torch.arange(-1, 2)] * 3)
    wanted = keys.new_zeros(len(coords), 27)
    for tap, step in enumerate(steps):
        wanted[:, tap] = pack(torch.cat([coords[:, :1], coords[:, 1:] + step], 1))
    place = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
    return torch.where(keys[place] == wanted, index[place], -1).int()


def compare_maps(rounds: int, clock: Clock) -> None:
    """Print the ratio for shells of two sizes."""
    for side in (64, 256):
        coords = shell(side)
        assert torch.equal(searched_map(coords), neighbour_map(coords))
        contest = {"searchsorted": lambda c=coords: searched_map(c), "ours": lambda c=coords: neighbour_map(c)}
        print(
            f"neighbour map, shell {side}, N {len(coords)}:",
            ratio_line(measure(contest, rounds, clock=clock), "searchsorted", "ours"),
        )


def compare(layer: Layer, name: str, rounds: int, clock: Clock) -> None:
    """Print ratios to both peers."""
    runs = {"gather-scatter": layer.gather_scatter(), "ours": layer.ours(), "dense": layer.dense()}
    exact = runs["gather-scatter"]().float()
    for run in runs.values():
        assert bool(((run().float() - exact).abs().max() < 0.05 * exact.abs().max()).item())
    for backward in (False, True):
        steps = {who: layer.step(run, backward=backward) for who, run in runs.items()}
        dense = {who: steps[who] for who in ("dense", "ours")}
        sparse = {who: steps[who] for who in ("gather-scatter", "ours")}
        kind = f"{name} {str(layer.weight.dtype)[6:]} {'fwd+bwd' if backward else 'fwd'}:"
        print(kind, ratio_line(measure(sparse, rounds, warmup=2, clock=clock), "gather-scatter", "ours"))
        print(kind, ratio_line(measure(dense, max(3, rounds // 4), clock=clock), "dense", "ours"))


def main() -> None:
    """Print one line a comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--channels", type=int, default=64)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--clock", choices=["cpu", "wall"], default="wall")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    count = int(0.05 * options.side**3)
    clouds = {
        "shell": shell(options.side),
        "random 5 %": voxels(count, side=options.side, batch=1, seed=0, ordered=True),
    }
    clock = time.process_time if options.clock == "cpu" else time.perf_counter
    compare_maps(options.rounds, clock)
    for dtype in (torch.float32, torch.bfloat16):
        for name, coords in clouds.items():
            layer = Layer.of(coords, options.side, options.channels, dtype)
            compare(layer, f"{name} N {len(coords)} C {options.channels}", options.rounds, clock)


if __name__ == "__main__":
    main()
