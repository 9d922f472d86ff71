"""Held-out shapes through an autoencoder and back, beside the nearest training shape in their stead."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from maquette.errors import MaquetteError
from maquette.progress import track
from maquette.report import Figure
from maquette.runs import load_run
from maquette.types import Mesh
from maquette_models.decoders.marching_cubes import MarchingCubes, MarchingCubesConfig
from maquette_models.evaluation import estimates
from maquette_models.evaluation.training_shapes import TrainingShapes
from maquette_models.grid.mesh_fields import mesh_field
from maquette_models.metrics.surface_distance import chamfer, f_score, nearest_both_ways, normal_consistency
from maquette_models.metrics.volume_iou import iou
from maquette_models.reconstructs import Reconstruction, Reconstructs
from maquette_models.shards import choose, read_shards, shard_facts, stored_fields
from maquette_models.surface_points import surface_points

TAUS = (0.01, 0.02, 0.05)
OPEN = 0.05  # share of the surface without an inside from which a volume means nothing
IOU, LOST, NOT_APPLICABLE = "iou", "lost_shapes", "without_an_inside_iou_not_applicable"
NEAREST, OWN_GRID = "nearest training shape instead", "the shards' own grid, extracted"

Row = dict[str, float]
"""What was measured of one shape; a figure that does not apply to it is absent."""


@dataclass(frozen=True)
class Points:
    """How many points surfaces are compared by: of the reconstruction, and of the shards' own."""

    own: int = 8192
    target: int = 8192


@dataclass(frozen=True)
class Reconstructed:
    """Figures, and the first few shapes as (id, reconstruction)."""

    figures: dict[str, Figure]
    shown: list[tuple[str, Mesh]]


def evaluate_reconstruction(autoencoder: str | Path, shards: str | Path, limit: int = 200) -> dict[str, Figure]:
    """Held-out shapes through the autoencoder and back: volume IoU on the grid, the rest between surfaces.

    Args:
        autoencoder: the run of an architecture that reconstructs, see `evaluation.protocol`.
        shards: a shard folder with a held-out split.
        limit: at most so many shapes.
    """
    training = TrainingShapes(str(shards))
    points = Points(4096, 2048)
    return reconstruction(load_run(autoencoder).model, str(shards), training, limit=limit, points=points).figures


def reconstruction(
    model: Any,
    shards: str,
    training: TrainingShapes,
    *,
    split: str = "val",
    limit: int = 200,
    points: Points = Points(),
) -> Reconstructed:
    """The figures of one split: `iou` (of shapes with an inside), `f_score@...`, `chamfer`, `normal_consistency`,
    `color_error` where both sides have colours, and `lost_shapes`.

    Raises:
        MaquetteError: the model does not reconstruct, or the split is empty.
    """
    if not isinstance(model, Reconstructs):
        raise MaquetteError(
            f"{type(model).__name__} does not reconstruct: it needs reconstruction_fields() and reconstruct(batch), "
            "see docs/models/evaluation.md"
        )
    rows: list[Row] = []
    beside: dict[str, list[Row]] = {NEAREST: [], OWN_GRID: []}
    shown: list[tuple[str, Mesh]] = []
    extract = MarchingCubes(MarchingCubesConfig(min_component=0.0))
    truncation = float(shard_facts(shards).get("truncation", 0.05))
    for batch in track(_shapes(model, shards, split, limit), f"Measuring reconstructions ({split})"):
        targets = list(_targets(batch, points))
        for target, made, name in zip(targets, model.reconstruct(batch), batch["id"], strict=True):
            rows.append(measured(made, target, points.own, truncation))
            if made.mesh is not None:
                shown.append((name, made.mesh))
        beside[NEAREST] += [
            _compare(near.points, near.normals, target) | _volume(near.iou, target)
            for near, target in zip(training.nearest(batch["tsdf"], points.own), targets, strict=True)
        ]
        beside[OWN_GRID] += [_compare(*surface_points(extract(target.tsdf), points.own), target) for target in targets]
    if not rows:
        raise MaquetteError(f"'{shards}' has no shapes of the split '{split}'; build more, or raise held_out")
    return Reconstructed(figures_of(rows, beside), shown)


@dataclass(frozen=True, eq=False)
class Target:
    """A shape of the shards: points and normals [P,3], colours or None, the distance grid [1,R,R,R], and whether it
    has an inside."""

    points: Tensor
    normals: Tensor
    colors: Tensor | None
    tsdf: Tensor
    solid: bool


def _shapes(model: Reconstructs, shards: str, split: str, limit: int) -> Iterator[dict[str, Any]]:
    wanted = {"tsdf", "surface", "normals", *model.reconstruction_fields()}
    stored = set(stored_fields(shards))
    fields = sorted(wanted | ({"surface_color"} & stored))
    left = limit
    for batch in read_shards(shards, split, fields=fields, points=0, attributes=True):
        size = min(left, len(batch["id"]))
        if size:
            yield choose(batch, list(range(size)))
        left -= size
        if not left:
            return


def _targets(batch: Mapping[str, Any], points: Points) -> Iterator[Target]:
    count = points.target
    for row, attributes in enumerate(batch["attributes"]):
        yield Target(
            batch["surface"][row][:count],
            batch["normals"][row][:count],
            batch["surface_color"][row][:count] if "surface_color" in batch else None,
            batch["tsdf"][row],
            attributes.get("open_area", 0.0) <= OPEN,
        )


def measured(made: Reconstruction, target: Target, count: int, truncation: float) -> Row:
    """One shape's figures; a lost shape has IoU 0 and nothing else."""
    if made.mesh is None:
        return {LOST: 1.0, **_volume(0.0, target)}
    try:
        points, normals = surface_points(made.mesh, count)
    except MaquetteError:  # faces without any area
        return {LOST: 1.0, **_volume(0.0, target)}
    row = {LOST: 0.0, **_compare(points, normals, target), **_colors(made.mesh, target)}
    if target.solid:
        row[IOU] = _iou(made, target.tsdf, truncation)
    return row


def _iou(made: Reconstruction, target: Tensor, truncation: float) -> float:
    assert made.mesh is not None
    own = mesh_field(made.mesh, target.shape[-1], truncation) if made.tsdf is None else made.tsdf[None].float()
    if own.shape[-1] != target.shape[-1]:
        own = F.interpolate(own, size=target.shape[-3:], mode="trilinear", align_corners=False)
    return float(iou(own < 0, target[None] < 0))


def _volume(overlap: float, target: Target) -> Row:
    return {IOU: overlap} if target.solid else {}


def _compare(points: Tensor, normals: Tensor, target: Target) -> Row:
    """Figures between surfaces, given as points and normals [P,3]."""
    there, back = next(nearest_both_ways(points[None], target.points[None]))
    row = {f"f_score@{tau:g}".replace("@0", "@"): f_score(there, back, tau) for tau in TAUS}
    row["chamfer"] = chamfer(there, back)
    row["normal_consistency"] = normal_consistency(
        (there, back), normals.double().numpy(), target.normals.double().numpy()
    )
    return row


def _colors(mesh: Mesh, target: Target) -> Row:
    """Mean absolute difference of sRGB in [0,1] between the target's points and the nearest vertices."""
    if mesh.colors is None or target.colors is None:
        return {}
    _, back = next(nearest_both_ways(torch.from_numpy(mesh.vertices)[None], target.points[None]))
    own = torch.from_numpy(mesh.colors[back.index, :3]).float() / 255
    return {"color_error": float((own - target.colors).abs().mean())}


def figures_of(rows: list[Row], beside: Mapping[str, list[Row]]) -> dict[str, Figure]:
    """Means of what was measured, beside the means of what was measured of others."""
    figures = {}
    for name in dict.fromkeys(name for row in rows for name in row if name != LOST):
        found = [row[name] for row in rows if name in row]
        others = {what: [row[name] for row in measured if name in row] for what, measured in beside.items()}
        figures[name] = estimates.mean(found, {what: float(np.mean(own)) for what, own in others.items() if own})
    figures[LOST] = Figure(sum(row[LOST] for row in rows), len(rows))
    skipped = sum(IOU not in row for row in rows)
    if skipped:
        figures[NOT_APPLICABLE] = Figure(float(skipped), len(rows))
    return figures
