"""What tells near twins apart: points on sharp edges, and the number of faces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from maquette import plugins
from maquette.assets import open_pipeline
from maquette.errors import MaquetteError
from maquette.types import Mesh, Request
from maquette_models.mesh_tokens.edge_points import points_with_edges
from maquette_models.mesh_tokens.evaluation import exactly_rebuilt
from maquette_models.mesh_tokens.mesh_dataset import MeshTokens, MeshTokensConfig
from maquette_models.mesh_tokens.quantise import quantise
from maquette_models.surface_points import surface_points
from tests.models.mesh_tokens import toy_meshes as toy

toy.install()

BOX = Mesh(toy.CORNERS * np.float32([0.4, 0.1, 0.4]), toy.BOX)


def test_a_share_of_the_points_lies_on_edges() -> None:
    points, normals = points_with_edges(BOX, 400, 0.25, seed=3)
    on_sides = np.isclose(np.abs(points.numpy()), [0.4, 0.1, 0.4], atol=1e-5).sum(axis=1)
    assert (on_sides >= 1).all() and (on_sides[300:] >= 2).all() and (on_sides[:300] == 1).mean() > 0.95
    torch.testing.assert_close(normals.norm(dim=1), torch.ones(400))
    # Even by length: eight of the twelve edges are four times as long as the others.
    upright = on_sides[300:] == 2
    assert upright.mean() > 0.9
    along_y = np.abs(points[300:, 1].numpy()) < 0.0999
    assert along_y.mean() == pytest.approx(0.8 / (0.8 + 8 * 0.8), abs=0.1)


def test_without_a_share_they_are_those_of_the_surface() -> None:
    for own, plain in zip(points_with_edges(BOX, 64, 0.0, seed=1), surface_points(BOX, 64, 1), strict=True):
        assert torch.equal(own, plain)


def test_the_same_seed_gives_the_same_points_and_another_does_not() -> None:
    one, again, other = (points_with_edges(BOX, 64, 0.5, seed)[0] for seed in (1, 1, 2))
    assert torch.equal(one, again) and not torch.equal(one, other)


def test_a_part_of_the_number_of_faces() -> None:
    part = plugins.build("conditioners", {"name": "face_count", "width": 32, "drop": 0.0}).eval()
    counts = torch.arange(1, 400)
    tokens, mask, _ = part(part.prepare({"face_count": counts}))
    assert mask.all() and torch.cdist(tokens[:, 1], tokens[:, 1]).add(torch.eye(399)).min() > 1e-3
    null = part(part.null(2))
    assert null.mask.tolist() == [[True, False]] * 2
    unknown = part(part.prepare({"face_count": torch.tensor([0, 12])}))
    assert unknown.mask.tolist() == [[True, False], [True, True]]


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that knows one box by heart, as twelve faces and as twenty-four."""
    return toy.train_twins(tmp_path_factory.mktemp("runs") / "twins", steps=90)


def test_the_number_of_faces_tells_meshes_of_one_surface_apart(twins: Path) -> None:
    assert exactly_rebuilt(twins).value == 1.0
    pipeline = open_pipeline(twins, {"temperature": 0.0})
    for mesh in toy.TWINS:
        asset = pipeline(Request(mesh=toy.TWINS[0], options={"faces": len(mesh.faces)}))
        assert len(quantise(asset.mesh, 32)) == len(mesh.faces)


def test_a_number_of_faces_that_is_none_or_was_not_trained_on_is_refused(
    twins: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    for wrong in (0, 1.5, "many"):
        with pytest.raises(MaquetteError, match="whole number of at least 1"):
            open_pipeline(twins)(Request(mesh=BOX, options={"faces": wrong}))
    plain = toy.train_toy(tmp_path_factory.mktemp("runs") / "plain", steps=1)
    with pytest.raises(MaquetteError, match="was not trained on numbers of faces"):
        open_pipeline(plain)(Request(mesh=BOX, options={"faces": 12}))


def test_a_share_that_is_none_is_refused() -> None:
    with pytest.raises(MaquetteError, match="edge_share"):
        MeshTokens(MeshTokensConfig(edge_share=1.5))
