"""Codes along space-filling curves, and sampling of sparse voxels and of three planes, against plain torch.

``python benchmarks/kernels_curves.py [--rounds N] [--threads T]``. Peers: bits spread by shifts in eager torch,
the reference of Hilbert codes, corners found by ``torch.searchsorted`` and autograd over eight gathers, and
``grid_sample``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
import torch.nn.functional as F
from interleaved import measure, ratio_line
from torch import Tensor

from maquette_kernels.curves.functions import hilbert_decode, hilbert_encode, morton_encode
from maquette_kernels.curves.hilbert import reference as hilbert
from maquette_kernels.sampling.functions import sample_sparse_trilinear, sample_triplane
from maquette_kernels.sampling.sample_sparse_trilinear.operation import workload as sparse_workload
from maquette_kernels.sampling.sample_triplane.operation import workload as planes_workload


def eager_morton(coords: Tensor) -> Tensor:
    """Bits spread by shifts and masks, one pass over memory each."""

    def spread(v: Tensor) -> Tensor:
        for shift, mask in (
            (32, 0x001F00000000FFFF),
            (16, 0x001F0000FF0000FF),
            (8, 0x100F00F00F00F00F),
            (4, 0x10C30C30C30C30C3),
            (2, 0x1249249249249249),
        ):
            v = (v | v << shift) & mask
        return v

    x, y, z = coords.long().unbind(1)
    return spread(x) | spread(y) << 1 | spread(z) << 2


def searched_trilinear(features: Tensor, coords: Tensor, points: Tensor) -> Tensor:
    """Sorted keys, binary search of eight corners, eight weighted gathers."""
    base = points.detach().floor()
    keys, order = torch.sort(key_of(coords[:, 1:].long()))
    out = features.new_zeros(len(points), features.shape[1])
    for corner in torch.cartesian_prod(*[torch.arange(2)] * 3):
        wanted = key_of(base.long() + corner)
        place = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
        weight = (1 - (points - base - corner).abs()).prod(1) * (keys[place] == wanted)
        out = out + weight.unsqueeze(1) * features[order[place]]
    return out


def key_of(coords: Tensor) -> Tensor:
    """One number a voxel."""
    x, y, z = (coords + 32768).unbind(1)
    return (x << 16 | y) << 16 | z


def grid_sample_planes(planes: Tensor, points: Tensor) -> Tensor:
    """``grid_sample`` of the three planes, summed."""
    grid = torch.stack([points[..., [0, 1]], points[..., [0, 2]], points[..., [1, 2]]], 1).flatten(0, 1)
    samples = F.grid_sample(planes.flatten(0, 1), grid.unsqueeze(1), align_corners=False)
    return samples.squeeze(2).unflatten(0, (-1, 3)).sum(1).transpose(1, 2)


def trained(function: Callable[..., Tensor], *leaves: Tensor) -> Callable[[], object]:
    """A call with its backward pass to all leaves."""

    def step() -> object:
        wanted = [leaf.detach().requires_grad_() for leaf in leaves]
        return torch.autograd.grad(function(*wanted).sum(), wanted)

    return step


def compare(title: str, ours: Callable[[], object], peer: Callable[[], object], rounds: int) -> None:
    """Print both times and their ratio."""
    print(f"{title:42}", ratio_line(measure({"peer": peer, "ours": ours}, rounds), "peer", "ours"), flush=True)


def curves(rounds: int) -> None:
    """Codes of 2^20 voxels."""
    coords = torch.randint(0, 1024, (1 << 20, 3), dtype=torch.int32)
    codes = hilbert_encode(coords, 16)
    compare("Morton, eager torch", lambda: morton_encode(coords, 16), lambda: eager_morton(coords), rounds)
    compare("Hilbert, eager torch", lambda: hilbert_encode(coords, 16), lambda: hilbert.encode(coords, 16), rounds)
    compare(
        "Hilbert decoded, eager torch",
        lambda: hilbert_decode(codes, 16),
        lambda: hilbert.decode(codes, 16, False),
        rounds,
    )


def sparse(rounds: int, dtype: torch.dtype) -> None:
    """The shell of the workload."""
    features, coords, points, *_ = sparse_workload(torch.device("cpu"), dtype)
    title = f"sparse trilinear {len(coords)} x {features.shape[1]}, {len(points)} points"
    ours = lambda f, p: sample_sparse_trilinear(f, coords, p)  # noqa: E731
    peer = lambda f, p: searched_trilinear(f, coords, p)  # noqa: E731
    compare(title, lambda: ours(features, points), lambda: peer(features, points), rounds)
    compare(f"{title}, with backward", trained(ours, features, points), trained(peer, features, points), rounds)


def planes(rounds: int, dtype: torch.dtype) -> None:
    """The planes of the workload; ``grid_sample`` takes one dtype."""
    features, points, *_ = planes_workload(torch.device("cpu"), dtype)
    title = f"planes 256 x 256 x {features.shape[2]}, {points.shape[1]} points"
    last = features.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    pairs = (("", features), (", channels last", last))
    for layout, given in pairs:
        both = (lambda given=given: sample_triplane(given, points), lambda: grid_sample_planes(features, points))
        compare(title + layout, *both, rounds)
    compare(f"{title}, with backward", trained(sample_triplane, features, points),
            trained(grid_sample_planes, features, points), rounds)  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    curves(options.rounds)
    sparse(options.rounds, torch.float32)
    planes(options.rounds, torch.float32)
