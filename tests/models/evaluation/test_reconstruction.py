"""What figures of reconstruction say of autoencoders whose worth is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maquette.errors import MaquetteError
from maquette.types import Mesh
from maquette_models.decoders.marching_cubes import MarchingCubes, MarchingCubesConfig
from maquette_models.evaluation.reconstruction import (
    IOU,
    LOST,
    NEAREST,
    OWN_GRID,
    Points,
    Target,
    evaluate_reconstruction,
    figures_of,
    measured,
    reconstruction,
)
from maquette_models.evaluation.training_shapes import TrainingShapes
from maquette_models.grid.mesh_fields import mesh_field
from maquette_models.reconstructs import Reconstruction, Reconstructs
from maquette_models.shards import read_shards, splits_of, stored_fields


class Known:
    """An autoencoder that gives back the field of the shards, changed."""

    def __init__(self, *, moved: float = 0.0, lost: int = 0, fields: bool = True) -> None:
        self.moved, self.lost, self.fields = moved, lost, fields
        self.extract = MarchingCubes(MarchingCubesConfig(min_component=0.0))

    def reconstruction_fields(self) -> tuple[str, ...]:
        return ("tsdf", "color")

    def reconstruct(self, batch: Mapping[str, Any]) -> list[Reconstruction]:
        found = []
        for tsdf, color in zip(batch["tsdf"], batch["color"], strict=True):
            if self.lost > 0:
                self.lost -= 1
                found.append(Reconstruction(None))
                continue
            grid = (tsdf + self.moved).clamp(-1, 1)
            found.append(Reconstruction(self.extract(grid, color), grid if self.fields else None))
        return found


def figures(shards: str, model: Any, **settings: Any) -> dict[str, Any]:
    return reconstruction(model, shards, TrainingShapes(shards), points=Points(1024, 1024), **settings).figures


def test_a_perfect_autoencoder(shards: str) -> None:
    found = figures(shards, Known())
    assert isinstance(Known(), Reconstructs) and not isinstance(object(), Reconstructs)
    count = sum(len(batch["id"]) for batch in read_shards(shards, "val"))
    assert found[IOU].value == 1 and found[IOU].n == count
    assert found[IOU].beside[NEAREST] < 1
    for name in ("f_score@.01", "f_score@.02", "f_score@.05", "chamfer", "normal_consistency"):
        assert found[name].value == pytest.approx(found[name].beside[OWN_GRID], abs=1e-6)
        low, high = found[name].interval
        assert low <= found[name].value <= high
    assert found["chamfer"].beside[NEAREST] > found["chamfer"].value
    assert found[LOST].value == 0
    assert found == figures(shards, Known()), "the same call gives the same figures"


def test_worse_autoencoders_have_worse_figures(shards: str) -> None:
    good, fat, lossy = (figures(shards, model) for model in (Known(), Known(moved=-0.4), Known(lost=2)))
    assert fat[IOU].value < 0.9 and fat["chamfer"].value > good["chamfer"].value
    assert fat["f_score@.02"].value < good["f_score@.02"].value
    assert lossy[LOST].value == 2
    assert lossy[IOU].value == pytest.approx(1 - 2 / lossy[IOU].n), "a lost shape overlaps with nothing"
    assert lossy["chamfer"].n == lossy[IOU].n - 2


def test_a_model_without_a_field_is_measured_by_its_meshes(shards: str) -> None:
    assert figures(shards, Known(fields=False))[IOU].value > 0.97


def test_splits_limits_and_refusals(shards: str) -> None:
    assert splits_of(shards) == ["train", "val", "unseen_pairs"]
    unseen = figures(shards, Known(), split="unseen_pairs")
    assert unseen[IOU].n == sum(len(b["id"]) for b in read_shards(shards, "unseen_pairs"))
    assert figures(shards, Known(), limit=3)[IOU].n == 3
    with pytest.raises(MaquetteError, match="does not reconstruct"):
        figures(shards, torch.nn.Linear(1, 1))


def test_open_surfaces_have_no_volume() -> None:
    sheet = Mesh([[-0.3, 0.0, -0.3], [0.3, 0.0, -0.3], [0.3, 0.0, 0.3], [-0.3, 0.0, 0.3]], [[0, 2, 1], [0, 3, 2]])
    points = torch.rand(512, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([0.6, 0, 0.6])
    points -= torch.tensor([0.3, 0, 0.3])
    up = torch.tensor([0.0, 1, 0]).expand(512, 3)
    target = Target(points, up, None, torch.ones(1, 16, 16, 16), solid=False)
    row = measured(Reconstruction(sheet), target, 512, 0.05)
    assert IOU not in row and row["normal_consistency"] == pytest.approx(1) and row["f_score@.05"] > 0.95
    solid = measured(Reconstruction(sheet), dataclasses.replace(target, solid=True), 512, 0.05)
    found = figures_of([row, solid], {})
    assert found["without_an_inside_iou_not_applicable"].value == 1 and found[IOU].n == 1
    assert IOU not in figures_of([row], {}), "no volume, no figure"


def test_the_field_of_a_mesh() -> None:
    grid = (torch.arange(32) + 0.5) / 32 - 0.5
    distance = torch.stack(torch.meshgrid(grid, grid, grid, indexing="ij")).norm(dim=0) - 0.3
    tsdf = (distance / 0.05).clamp(-1, 1)
    ball = MarchingCubes(MarchingCubesConfig())(tsdf)
    assert (mesh_field(ball, 32, 0.05)[0, 0] - tsdf).abs().max() < 0.03
    opened = Mesh(ball.vertices, ball.faces[ball.vertices[ball.faces][:, :, 1].max(axis=1) < 0.1])
    field = mesh_field(opened, 32, 0.05)[0, 0]
    assert field[16, 2, 16] > 0 > field[16, 6, 16], "what is open is at least a shell"
    assert np.isfinite(field.numpy()).all()


def test_a_run(shards: str, runs: Path) -> None:
    found = evaluate_reconstruction(runs / "autoencoder", shards, limit=4)
    assert 0 < found[IOU].value < 1 and found[IOU].n == 4


def test_shards_give_all_their_points_and_what_is_known_of_a_shape(shards: str) -> None:
    assert stored_fields(shards) == ["color", "normals", "surface", "tsdf"]
    ids: set[str] = set()
    for split in splits_of(shards):
        for batch in read_shards(shards, split, fields=["surface"], points=0, attributes=True):
            assert batch["surface"].shape[1:] == (1024, 3)
            for attributes, caption in zip(batch["attributes"], batch["caption"], strict=True):
                assert attributes["color"] in caption.split()
            assert not ids & set(batch["id"]), "no shape is in two splits"
            ids.update(batch["id"])
    assert len(ids) == 48
    assert "attributes" not in next(read_shards(shards, "val"))
