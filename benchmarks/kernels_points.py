"""Nearest neighbours and farthest points beside the public libraries, on this machine's CPU.

    python benchmarks/kernels_points.py [--rounds 7] [--threads 1]

Points of a sphere's surface. scipy's k-d tree is built within each call, as ours is; brute force is torch.cdist in
chunks of 1,024 queries. fpsample is left out where it is not installed: it is no dependency. Prints medians in
milliseconds and ratios round by round, peer / ours.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec

import torch
from interleaved import measure, ratio_line
from scipy.spatial import cKDTree
from torch import Tensor
from torch.nn.functional import normalize

from maquette_kernels.points.functions import chamfer_distance, farthest_points, nearest_neighbours


def brute(queries: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """All distances, 1,024 queries at a time."""
    nearest = [torch.cdist(rows, points).min(1) for rows in queries.split(1024)]
    return torch.cat([n.values for n in nearest]), torch.cat([n.indices for n in nearest])


def brute_chamfer(a: Tensor, b: Tensor) -> Tensor:
    """Both ways, with gradients, 1,024 points at a time."""
    means = [torch.cat([torch.cdist(r, y).amin(1).square() for r in x.split(1024)]).mean() for x, y in ((a, b), (b, a))]
    return means[0] + means[1]


def compare_neighbours(count: int, k: int, rounds: int) -> None:
    """One cloud's neighbours in another."""
    queries, points = normalize(torch.randn(2, count, 3), dim=-1)

    def scipy() -> object:
        return cKDTree(points.numpy()).query(queries.numpy(), k=k, workers=torch.get_num_threads())

    contestants = {"ours": lambda: nearest_neighbours(queries, points, k), "scipy": scipy}
    if count <= 16384 and k == 1:
        contestants["cdist"] = lambda: brute(queries, points)
    times = measure(contestants, rounds)
    for peer in contestants:
        if peer != "ours":
            print(f"{count} nearest {k}:  {ratio_line(times, peer, 'ours')}")


def compare_chamfer(count: int, rounds: int) -> None:
    """Forwards and backwards."""
    a, b = normalize(torch.randn(2, count, 3), dim=-1)
    a.requires_grad_()
    contestants = {
        "ours": lambda: torch.autograd.grad(chamfer_distance(a, b), a),
        "cdist": lambda: torch.autograd.grad(brute_chamfer(a, b), a),
    }
    print(f"{count} chamfer, forwards and backwards:  {ratio_line(measure(contestants, rounds), 'cdist', 'ours')}")


def plain_farthest(points: Tensor, count: int) -> Tensor:
    """The usual loop in torch."""
    away, chosen, last = torch.full(points.shape[:1], torch.inf), torch.zeros(count, dtype=torch.int64), 0
    for step in range(1, count):
        away = torch.minimum(away, (points - points[last]).square().sum(1))
        chosen[step] = last = int(away.argmax())
    return chosen


def compare_farthest(size: int, count: int, rounds: int) -> None:
    """One cloud."""
    points = normalize(torch.randn(size, 3), dim=-1)
    contestants = {"ours": lambda: farthest_points(points, count)}
    if size <= 20_000:
        contestants["torch"] = lambda: plain_farthest(points, count)
    if find_spec("fpsample") is not None:
        import fpsample

        cloud = points.numpy()
        contestants["fpsample"] = lambda: fpsample.bucket_fps_kdline_sampling(cloud, count, h=7, start_idx=0)
    times = measure(contestants, rounds)
    for peer in contestants:
        if peer != "ours":
            print(f"{size} -> {count} farthest:  {ratio_line(times, peer, 'ours')}")


def main() -> None:
    """Print one line a comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(f"{options.threads} thread(s), {options.rounds} rounds")
    for count in (16384, 100_000):
        for k in (1, 8):
            compare_neighbours(count, k, options.rounds)
    compare_chamfer(16384, max(options.rounds // 2, 1))
    compare_farthest(20_000, 2048, max(options.rounds // 2, 1))
    compare_farthest(100_000, 4096, options.rounds)


if __name__ == "__main__":
    main()
