"""Coarse structures: which voxels count, as a dataset and back."""

from __future__ import annotations

from itertools import islice
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maquette import plugins
from maquette.errors import MaquetteError
from maquette.testing import check_dataset
from maquette_models.voxset.structures import Structures, occupancy, occupied_voxels
from tests.models.voxset import toy_surfaces

toy_surfaces.install()


def dataset(**changes: Any) -> Structures:
    block = {"name": "structures", "shards": "toy", "reader": "toy_surfaces", "batch_size": 8, "resolution": 8}
    return plugins.build("datasets", {**block, **changes})


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), resolution=st.integers(2, 24))
def test_voxels_are_those_that_points_lie_in(seed: int, resolution: int) -> None:
    points = torch.rand(50, 3, generator=torch.Generator().manual_seed(seed)) - 0.5
    grid = occupancy(points, resolution)
    assert grid.dtype == torch.int8 and grid.shape == (1, *[resolution] * 3)
    assert set(grid.unique().tolist()) <= {-1, 1}
    voxels = occupied_voxels(grid.float())
    inside = {tuple(((point + 0.5) * resolution).floor().int().tolist()) for point in points}
    assert {tuple(voxel) for voxel in voxels.tolist()} == inside


def test_a_structure_is_never_empty() -> None:
    grid = torch.full((1, 4, 4, 4), -0.9)
    grid[0, 1, 2, 3] = -0.2
    assert occupied_voxels(grid).tolist() == [[1, 2, 3]]


def test_dataset_contract() -> None:
    check_dataset(dataset, batches=10)


def test_batches_hold_the_shapes_and_their_twins() -> None:
    data = dataset()
    data.setup("fit")
    size = len(data.splits["train"])
    rows: dict[str, torch.Tensor] = {}
    for part in islice(data.train_dataloader(), -(-size // 8)):
        assert part["latent"].dtype == torch.float32
        rows |= dict(zip(part["id"], part["latent"], strict=True))
    names = [name for name in rows if not name.endswith("-mirrored")]
    assert len(names) * 2 == len(rows) == size
    for name in names:
        toy = toy_surfaces.Toy(int(name.removeprefix("toy-")))
        assert torch.equal(rows[name], occupancy(toy_surfaces.surface(toy)[0], 8).float())
        assert torch.equal(rows[f"{name}-mirrored"], rows[name].flip(1))
    facts = data.facts()
    assert (facts["latent_channels"], facts["latent_resolution"]) == (1, 8)
    assert (facts["latent_mean"], facts["latent_std"]) == ([0.0], [1.0])


def test_voxels_of_a_finer_grid_are_a_source_too() -> None:
    data = dataset(source="voxels")
    voxels = torch.tensor([[[0, 5, 63], [1, 4, 62], [0, 0, 0]]], dtype=torch.int16)
    mask = torch.tensor([[True, True, False]])
    (points,) = data.points({"voxels": voxels, "voxels_mask": mask}, fine=64)
    assert occupied_voxels(occupancy(points, 16).float()).tolist() == [[0, 1, 15]]


def test_unknown_source_is_refused() -> None:
    with pytest.raises(MaquetteError, match="surface or voxels"):
        dataset(source="mesh")
