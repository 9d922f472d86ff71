"""Padding of batches by bucketing: python benchmarks/data3d_buckets.py [FOLDER of shards | FOLDER of meshes] ...

Batches are those of the plan of the dataset `shards`, each process's share padded to its own longest sample. Sizes come
from log-normal draws, from an index's `tokens`, or, for meshes, from their surface voxels at 64^3. Without buckets,
batches have the same mean number of samples, in random order.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from maquette_data3d.stream.bucketing import fitted_edges
from maquette_data3d.stream.feed import Feed
from maquette_data3d.stream.plan import Buckets, Plan

WASTE, TOKENS, DIVISIBLE, WORLD = 0.05, 1 << 18, 4, 4


def main() -> None:
    rng = np.random.default_rng(0)
    print("| sizes | samples | largest / median | buckets | padding | without buckets |\n|---|---|---|---|---|---|")
    for sigma in (0.3, 0.6, 1.0):
        drawn = np.exp(rng.normal(7.5, sigma, 20_000)).astype(np.int64)
        line(f"log-normal, sigma {sigma}", np.minimum(drawn, 60_000))
    for folder in sys.argv[1:]:
        line(Path(folder).name, sizes(Path(folder)))


def sizes(folder: Path) -> np.ndarray:
    if (folder / "index.parquet").is_file():
        from maquette_data3d.shards.reader import ShardReader

        return np.asarray(ShardReader(str(folder)).tokens)
    from maquette_data3d.geometry.repair import normalise
    from maquette_data3d.geometry.voxels import sparse_voxels
    from maquette_data3d.ingest.reading import read

    scenes = (read(path) for path in sorted(folder.rglob("*.glb")))
    return np.array([len(sparse_voxels(normalise(scene.vertices), scene.faces, 64)) for scene in scenes])


def line(name: str, tokens: np.ndarray) -> None:
    edges = fitted_edges(tokens, WASTE)
    buckets = Buckets.even(edges, max(TOKENS, edges[-1] * DIVISIBLE), DIVISIBLE)
    mean = round(len(tokens) / np.sum(1 / np.asarray(buckets.sizes)[buckets.of(tokens)]))
    plain = padding(tokens, max(mean // DIVISIBLE, 1) * DIVISIBLE)
    print(
        f"| {name} | {len(tokens):,} | {tokens.max() / np.median(tokens):.1f} | {len(edges)} "
        f"| {padding(tokens, buckets):.1%} | {plain:.0%} |"
    )


def padding(tokens: np.ndarray, how: int | Buckets) -> float:
    """The share of padding in three epochs."""
    index: Any = SimpleNamespace(
        shard_of=np.zeros(len(tokens), int), tokens=tokens, split=lambda _: np.arange(len(tokens))
    )
    plan = Plan([Feed(index, "train", 0, shuffle="full")], [1.0], how)
    at, real, padded = plan.begin(), 0, 0
    while at.positions[0] < 3 * len(tokens):
        batch, at = plan.next(at)
        for rank in range(WORLD):
            own = tokens[batch.share(rank, WORLD).place]
            real, padded = real + int(own.sum()), padded + int(own.max()) * len(own)
    return 1 - real / padded


if __name__ == "__main__":
    main()
