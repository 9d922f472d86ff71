"""Whether what is made from a shape, given as a mesh, is that shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maquette.report import Figure
from maquette.types import Request
from maquette_models.decoders.marching_cubes import MarchingCubes, MarchingCubesConfig
from maquette_models.evaluation.image_to_shape import figures, in_turn, read_held_out, sampled
from maquette_models.shards import READER, read_shards


def evaluate_shape_to_shape(
    pipeline: Any,
    shards: str | Path,
    *,
    count: int = 200,
    split: str = "val",
    seed: int = 0,
    reader: str = READER,
) -> dict[str, Figure]:
    """Samples by the surfaces of held-out shapes; figures and the rest as of `evaluate_image_to_shape`.

    Raises:
        MaquetteError: the run cannot use a mesh, or there are no shapes.
    """
    held_out = read_held_out(str(shards), split, reader, pictures=False)
    chosen = in_turn(held_out.class_id.tolist())[:count]
    place, extract = {held_out.id[shape]: shape for shape in chosen}, MarchingCubes(MarchingCubesConfig())
    meshes = {
        place[name]: extract(tsdf[0].float())
        for batch in read_shards(str(shards), split, reader, ["tsdf"])
        for name, tsdf in zip(batch["id"], batch["tsdf"], strict=True)
        if name in place
    }
    requests = [Request(seed=seed + i, mesh=meshes[shape]) for i, shape in enumerate(chosen)]
    return figures(sampled(pipeline, held_out, chosen, requests))
