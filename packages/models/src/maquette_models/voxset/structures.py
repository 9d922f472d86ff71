"""Coarse occupancies of shapes, as a dataset: which voxels of the anchor grid a surface passes through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maquette_models.latents.latent_cache import SPLITS, EncodedShards, EncodedSplit
from maquette_models.latents.latents import Latents, LatentsConfig
from maquette_models.shards import read_shards, shard_facts
from maquette_models.voxset.anchors import surface_voxels

SOURCES = ("surface", "voxels")


@dataclass
class StructuresConfig(LatentsConfig):
    """`shards` is a folder that the dataset `reader` reads; there is no autoencoder.

    A cell of the grid of `resolution` a side counts where a point of `source` lies in it: of "surface", all that are
    stored, or of "voxels", the occupied cells of a finer grid. The rest is as of the dataset `latents`.
    """

    autoencoder: str = ""
    resolution: int = 16
    source: str = "surface"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.source not in SOURCES:
            raise ValueError(f"source '{self.source}'; use {' or '.join(SOURCES)}")


class Structures(Latents):
    """Batches of `latent` [B,1,R,R,R], 1 where a voxel is occupied and -1 elsewhere, and what `Latents` gives beside.

    The values are not normalised: `latent_mean` is 0 and `latent_std` 1.
    """

    name = "structures"
    config: StructuresConfig

    def read(self, shards: str) -> EncodedShards:
        """Both splits, the mirrored twins of "train" behind its originals, and the shards' facts."""
        facts = shard_facts(shards, self.config.reader)
        splits = {name: self.read_split(shards, name, int(facts.get("voxel_resolution", 0))) for name in SPLITS}
        return EncodedShards(splits, facts)

    def read_split(self, shards: str, split: str, fine: int) -> EncodedSplit:
        """One split; `fine` is the side of the grid of "voxels"."""
        config = self.config
        grids, labels, captions, ids = [], [], [], []
        for batch in read_shards(shards, split, config.reader, fields=[config.source], points=0):
            grids += [occupancy(points, config.resolution) for points in self.points(batch, fine)]
            labels.append(batch["class_id"])
            captions += batch["caption"]
            ids += batch["id"]
        if not labels:
            empty = torch.empty(0, 1, *[config.resolution] * 3, dtype=torch.int8)
            return EncodedSplit(empty, torch.empty(0, dtype=torch.int64), [], [])
        latent, class_id = torch.stack(grids), torch.cat(labels)
        if not config.mirror or split != "train":
            return EncodedSplit(latent, class_id, captions, ids)
        twins = [f"{name}-mirrored" for name in ids]
        return EncodedSplit(torch.cat([latent, latent.flip(2)]), class_id.repeat(2), captions * 2, ids + twins)

    def points(self, batch: Mapping[str, Any], fine: int) -> list[Tensor]:
        """What counts of each sample, float32 [P,3] in the unit cube."""
        if self.config.source == "surface":
            return list(batch["surface"])
        cells = zip(batch["voxels"], batch["voxels_mask"], strict=True)
        return [(voxels[mask].float() + 0.5) / fine - 0.5 for voxels, mask in cells]

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Those of values that are used as they are."""
        return torch.zeros(1), torch.ones(1)


def occupancy(points: Tensor, resolution: int) -> Tensor:
    """int8 [1,R,R,R]: 1 in the cells that points [P,3] of the unit cube lie in, -1 elsewhere."""
    grid = torch.full((resolution,) * 3, -1, dtype=torch.int8)
    grid[surface_voxels(points, resolution).unbind(-1)] = 1
    return grid[None]


def occupied_voxels(grid: Tensor) -> Tensor:
    """The voxels, int64 [V,3] in rising order, that a grid [1,R,R,R] says are occupied; never none: at least the
    likeliest one."""
    return (grid[0] > min(0.0, float(grid.max()) - 1e-6)).nonzero()
