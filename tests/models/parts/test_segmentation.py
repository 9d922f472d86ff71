"""The pipeline `parts` and its command."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from maquette.assets import export, import_asset, open_pipeline
from maquette.cli import cli, run
from maquette.errors import MaquetteError
from maquette.testing import check_pipeline_on_device
from maquette.types import Asset, Mesh, Request
from tests.models.parts import toy_parts


@pytest.fixture(scope="module")
def pipeline(parts_run):
    return open_pipeline(parts_run)


def test_faces_get_the_parts_that_they_are(pipeline):
    mesh, part = toy_parts.table(20_001)
    asset = pipeline(Request(mesh=mesh))
    assert asset.mesh.part_names == ("board", "post") and asset.metadata["parts"] == ["board", "post"]
    assert ((asset.mesh.part == 0) == (part == 4)).mean() > 0.95
    assert asset.mesh.vertices is mesh.vertices and asset.mesh.faces is mesh.faces


def test_models_compute_on_another_device(parts_run):
    check_pipeline_on_device(lambda: open_pipeline(parts_run), Request(mesh=toy_parts.table(20_001)[0]))


def test_place_and_size_make_no_difference(pipeline):
    mesh, _ = toy_parts.table(20_002)
    large = replace(mesh, vertices=mesh.vertices * 30 + np.float32([5, 100, -7]))
    one, other = (pipeline(Request(mesh=m)).mesh.part for m in (mesh, large))
    assert (one == other).mean() > 0.99


def test_same_request_same_parts(pipeline):
    mesh, _ = toy_parts.table(20_003)
    parts = [pipeline(Request(seed=4, mesh=mesh)).mesh.part for _ in range(2)]
    assert (parts[0] == parts[1]).all()


def test_instances_on_request(pipeline):
    mesh, part = toy_parts.table(20_001)
    made = pipeline(Request(mesh=mesh, options={"instances": True})).mesh
    of_posts = {int(np.bincount(made.part[part == place]).argmax()) for place in range(4)}
    assert len(of_posts) == 4 and all("post" in made.part_names[place] for place in of_posts)
    assert len(set(made.part_names)) == len(made.part_names)


def test_odd_meshes(pipeline):
    """One triangle, and a fan with a face of no area, which gets a part as well."""
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32)
    assert len(pipeline(Request(mesh=Mesh(corners, np.array([[0, 1, 2]])))).mesh.part) == 1
    flat = Mesh(corners, np.array([[0, 1, 2], [0, 0, 1]]))
    assert len(pipeline(Request(mesh=flat)).mesh.part) == 2


def test_what_cannot_be_is_said(pipeline):
    mesh, _ = toy_parts.table(0)
    with pytest.raises(MaquetteError, match="needs a mesh"):
        pipeline(Request(prompt="a chair"))
    with pytest.raises(MaquetteError, match="smooth"):
        pipeline(Request(mesh=mesh, options={"smooth": 1}))
    nothing = Mesh(np.zeros((3, 3)), np.array([[0, 1, 2]]))
    failed, made = pipeline.batch([Request(mesh=nothing), Request(mesh=mesh)])
    assert isinstance(failed, MaquetteError) and made.mesh.part is not None


def test_command(parts_run, tmp_path, capsys):
    mesh, part = toy_parts.table(20_001)
    export(Asset(mesh), tmp_path / "table.glb")
    words = [str(parts_run), "--mesh", str(tmp_path / "table.glb"), "--out", str(tmp_path / "parts.glb")]
    assert run(cli, ["parts", *words, "smoothing=0.5"], standalone_mode=False) == 0
    assert "board" in capsys.readouterr().out
    back = import_asset(tmp_path / "parts.glb").mesh
    assert set(back.part_names) == {"board", "post"}
    board = back.part_names.index("board")
    assert (back.part == board).sum() == pytest.approx((part == 4).sum(), rel=0.1)
