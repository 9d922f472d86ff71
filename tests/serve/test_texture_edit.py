"""`maquette texture-edit` reads a file, changes a region of its texture and writes it, all else as it was."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from maquette.assets import export, import_asset
from maquette.errors import MaquetteError
from maquette.types import Asset, Material, Mesh
from maquette_serve.commands.texture_edit import texture_edit

pytest.importorskip("maquette_data3d", reason="without maquette-data3d no mesh can be written")


def run(*words):
    done = CliRunner().invoke(texture_edit, [str(word) for word in words], catch_exceptions=True)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.fixture
def tile(tmp_path):
    """A square, bent a little, that shows a whole picture of noise, upright."""
    picture = np.random.default_rng(0).integers(60, 200, (16, 16, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    corners = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0.2], [0, 1, 0]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]], np.int32)
    uv = np.stack([corners[:, 0], 1 - corners[:, 1]], axis=1)[faces]
    material = Material("wall", roughness=0.5, textures={"base_color": 0})
    mesh = Mesh(corners, faces, uv=uv, material=np.zeros(2, np.int32), materials=(material,), images=(file.getvalue(),))
    return export(Asset(mesh), tmp_path / "tile.glb"), picture


def pixels(path):
    mesh = import_asset(path).mesh
    return np.asarray(Image.open(io.BytesIO(mesh.images[mesh.materials[0].textures["base_color"]])).convert("RGB"))


def test_a_place_changes_and_the_rest_stays(tile, tmp_path):
    path, picture = tile
    done = run("--mesh", path, "--instruction", "make the upper half green", "--seam", 0, "--out", tmp_path / "out.glb")
    assert "128 texels of 1 images changed" in done.output
    found = pixels(tmp_path / "out.glb")
    assert np.array_equal(found[8:], picture[8:])
    assert (found[:8, :, 1] > found[:8, :, 0]).all() and (found[:8, :, 1] > found[:8, :, 2]).all()


def test_a_mask_in_a_file_says_where(tile, tmp_path):
    path, picture = tile
    mask = np.zeros((16, 16), np.uint8)
    mask[3:6, 4:9] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    run("--mesh", path, "--mask", tmp_path / "mask.png", "--color", "#102040", "--out", tmp_path / "out.glb")
    found = pixels(tmp_path / "out.glb")
    assert np.array_equal(found[mask == 0], picture[mask == 0]) and (found != picture)[mask > 0].any()


def test_animations_and_shape_come_along(tile, tmp_path):
    path, _ = tile
    before = import_asset(path)
    run("--mesh", path, "--color", "red", "--metallic", 1, "--out", tmp_path / "out.glb", "size=32")
    after = import_asset(tmp_path / "out.glb")
    assert np.allclose(before.mesh.vertices, after.mesh.vertices) and np.allclose(before.mesh.uv, after.mesh.uv)
    material = after.mesh.materials[0]
    assert set(material.textures) == {"base_color", "metallic_roughness"} and material.metallic == 1
    assert replace(material, textures={}).roughness == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--prompt", "a red wall"], "painted by a trained --run"),
        ([], "needs a look"),
        (["--instruction", "make the roof red"], "nothing of the mesh is called 'roof'"),
        (["--color", "red", "--part", "roof"], "no part 'roof'"),
        (["--color", "red", "sise=3"], "sise"),
    ],
)
def test_what_cannot_be_done_is_said(tile, tmp_path, words, message):
    with pytest.raises(MaquetteError, match=message):
        run("--mesh", tile[0], *words, "--out", tmp_path / "out.glb")
    assert not (tmp_path / "out.glb").exists()
