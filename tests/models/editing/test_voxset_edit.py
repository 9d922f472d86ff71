"""The pipeline `voxset_edit` on toy runs: tokens of a given mesh, varied; what stays, what repeats, what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from maquette.assets import open_pipeline
from maquette.errors import MaquetteError
from maquette.testing import check_pipeline, check_pipeline_on_device
from maquette.types import Mesh, Request
from maquette_models.decoders.marching_cubes import MarchingCubes, MarchingCubesConfig, extract
from maquette_models.editing.regions import region_mask
from maquette_models.grid.mesh_fields import mesh_field
from maquette_models.metrics.mesh_topology import is_closed
from maquette_models.voxset.pipeline import Sampled
from tests.models.voxset import toy_autoencoder, toy_surfaces

EXTRACT = 32
UPPER = {"region": "upper half"}


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("runs")
    toy_surfaces.install()
    toy_autoencoder.install()
    toy_autoencoder.train_all(root)
    return open_pipeline(root / "flow", {"name": "voxset_edit", "extract": EXTRACT, "candidates": 2})


@pytest.fixture(scope="module")
def ball() -> Mesh:
    axis = (torch.arange(48) + 0.5) / 48 - 0.5
    grid = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).norm(dim=0) - 0.3
    return MarchingCubes(MarchingCubesConfig())((grid / 0.1).clamp(-1, 1), torch.full((3, 24, 24, 24), 0.25))


def request(ball: Mesh, seed: int = 0, **options: Any) -> Request:
    return Request("a box", seed, mesh=ball, options=options or UPPER)


def decoded(pipeline: Any, asked: Request, monkeypatch: pytest.MonkeyPatch) -> Sampled:
    """The tokens that the fields of a request were decoded from."""
    seen: list[Sampled] = []
    fields = pipeline.fields
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "fields", lambda sampled: seen.append(sampled) or fields(sampled))
        pipeline.edit(asked)
    return seen[0]


def test_pipeline_contract(pipeline: Any, ball: Mesh) -> None:
    check_pipeline(pipeline, request(ball))


def test_models_compute_on_another_device(pipeline: Any, ball: Mesh) -> None:
    block = {"name": "voxset_edit", "extract": EXTRACT, "candidates": 2}
    asked = replace(request(ball), steps=3)
    check_pipeline_on_device(lambda: open_pipeline(pipeline.config.run, block), asked)


def test_outside_the_region_the_surface_is_the_given_one_and_inside_it_is_not(pipeline: Any, ball: Mesh) -> None:
    mask = region_mask(ball, UPPER, EXTRACT, 0.0)
    asset, field = pipeline.edit(request(ball, seed=2))
    own = mesh_field(ball, EXTRACT, pipeline.truncation)[0, 0].numpy()
    made, given = (vertices_outside(extract(grid)[0], mask) for grid in (field[0, 0].numpy(), own))
    assert len(made) and np.array_equal(made, given)
    assert not np.array_equal(field[0, 0].numpy()[mask], own[mask]) and is_closed(asset.mesh)
    assert asset.metadata["edit"] == "region" and asset.metadata["seed"] == 2


def vertices_outside(vertices: np.ndarray, mask: np.ndarray) -> np.ndarray:
    cell = np.floor((vertices + 0.5) * len(mask)).astype(np.int64).clip(0, len(mask) - 1)
    return np.unique(vertices[~mask[tuple(cell.T)]], axis=0)


def test_a_variation_of_no_strength_is_the_meshs_own_tokens(
    pipeline: Any, ball: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = decoded(pipeline, request(ball, variation=0.0), monkeypatch)
    points = (own.positions + 0.5) / pipeline.side - 0.5 + own.latent[:, :3]  # a toy token holds the surface's offset
    assert (points.norm(dim=1) - 0.3).abs().max() < 0.02
    assert (own.latent[:, 3:] - 0.25).abs().max() < 0.02
    little, much = (decoded(pipeline, request(ball, variation=by), monkeypatch).latent for by in (0.01, 0.99))
    assert not torch.equal(little, own.latent)
    assert much[:, 3:].std() > little[:, 3:].std()


def test_the_source_guides(pipeline: Any, ball: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = (
        decoded(pipeline, request(ball, variation=0.5, **more), monkeypatch).latent
        for more in ({}, {"source": "a ball"})
    )
    assert one.shape != two.shape or not torch.equal(one, two)


def test_mistakes_are_one_line(pipeline: Any, ball: Mesh) -> None:
    with pytest.raises(MaquetteError, match="unknown option 'toward' of an edit"):
        pipeline(request(ball, toward=ball))
    with pytest.raises(MaquetteError, match="needs a mesh"):
        pipeline(Request("a box", options=UPPER))
