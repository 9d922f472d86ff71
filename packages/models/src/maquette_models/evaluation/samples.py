"""Shapes that are judged by what they were asked for: generated ones, real ones, and ones looked up in training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maquette.progress import track
from maquette.types import Asset, Mesh, Request
from maquette_models.decoders.marching_cubes import MarchingCubes, MarchingCubesConfig
from maquette_models.evaluation.captions import Asked, likest
from maquette_models.grid.mesh_fields import mesh_field
from maquette_models.shards import read_shards, shard_facts

TOGETHER = 16  # requests given to a pipeline at once


@dataclass(frozen=True, eq=False)
class Sample:
    """What came of a caption: a mesh and its distance grid float32 [1,1,R,R,R], or nothing."""

    asked: Asked
    mesh: Mesh | None
    tsdf: Tensor | None


@dataclass(frozen=True)
class Field:
    """The distance grids that judges know: cells a side, and the distance at which they are cut off."""

    resolution: int
    truncation: float

    @classmethod
    def of(cls, shards: str) -> Field:
        """Those of a shard folder."""
        facts = shard_facts(shards)
        return cls(int(facts["resolution"]), float(facts["truncation"]))


def generate(pipeline: Any, asked: Sequence[Asked], seed: int, field: Field) -> list[Sample]:
    """One sample a caption, the first from `seed`, the next from the next; what failed is an empty one.

    Args:
        pipeline: see `maquette.assets.Pipeline`. One with `batch_with_fields` gives the grids that its meshes were
            extracted from; those of others are computed from the meshes.
        asked: the captions.
        seed: of the first.
        field: what grids are computed as.
    """
    found: list[Sample] = []
    for start in track(range(0, len(asked), TOGETHER), "Generating for the figures"):
        part = asked[start : start + TOGETHER]
        requests = [Request(one.caption, seed + start + i) for i, one in enumerate(part)]
        for one, (asset, tsdf) in zip(part, _batch(pipeline, requests), strict=True):
            if not isinstance(asset, Asset):
                found.append(Sample(one, None, None))
                continue
            fits = tsdf is not None and tsdf.shape[-1] == field.resolution
            grid = tsdf if fits else mesh_field(asset.mesh, field.resolution, field.truncation)
            found.append(Sample(one, asset.mesh, grid))
    return found


def _batch(pipeline: Any, requests: Sequence[Request]) -> list[tuple[Any, Tensor | None]]:
    if hasattr(pipeline, "batch_with_fields"):
        return list(pipeline.batch_with_fields(requests))
    return [(asset, None) for asset in pipeline.batch(requests)]


def real(shards: str, split: str, asked: Sequence[Asked]) -> list[Sample]:
    """The held-out shapes that captions describe, each once, their meshes extracted from the shards' own grids."""
    wanted = {one.id: one for one in asked}
    extract = MarchingCubes(MarchingCubesConfig())
    found = {}
    for batch in read_shards(shards, split, fields=["tsdf", "color"]):
        for row, name in enumerate(batch["id"]):
            if name in wanted:
                found[name] = _stored(batch, row, wanted[name], extract)
    return [found[name] for name in wanted]


def looked_up(shards: str, asked: Sequence[Asked]) -> list[Sample]:
    """For each caption the training shape with the likest one: what a generator is worth that only retrieves."""
    captions = [caption for batch in read_shards(shards, "train", fields=[]) for caption in batch["caption"]]
    chosen = likest(asked, captions)
    extract = MarchingCubes(MarchingCubesConfig())
    wanted, found = set(chosen), dict[int, Sample]()
    for number, batch, row in _numbered(read_shards(shards, "train", fields=["tsdf", "color"])):
        if number in wanted:
            found[number] = _stored(batch, row, Asked("", 0), extract)
    return [Sample(one, found[number].mesh, found[number].tsdf) for one, number in zip(asked, chosen, strict=True)]


def _numbered(batches: Iterator[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any], int]]:
    number = 0
    for batch in batches:
        for row in range(len(batch["id"])):
            yield number, batch, row
            number += 1


def _stored(batch: Mapping[str, Any], row: int, asked: Asked, extract: MarchingCubes) -> Sample:
    tsdf = batch["tsdf"][row]
    return Sample(asked, extract(tsdf, batch["color"][row]), tsdf[None].clone())


def kept(samples: Sequence[Sample]) -> tuple[Tensor, Tensor, list[Mesh]]:
    """Of those that did not come out empty: grids [N,1,R,R,R], classes int64 [N] and meshes."""
    whole = [(one.tsdf, one.asked.class_id, one.mesh) for one in samples if one.tsdf is not None and one.mesh]
    fields = [tsdf for tsdf, _, _ in whole]
    labels = torch.tensor([label for _, label, _ in whole], dtype=torch.int64)
    return torch.cat(fields) if fields else torch.empty(0), labels, [mesh for _, _, mesh in whole]
