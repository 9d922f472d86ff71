"""`maquette texture` and `maquette retexture` on files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from maquette.assets import export, import_asset
from maquette.types import Asset, Mesh
from maquette_serve.commands.retexture import retexture
from maquette_serve.commands.texture import texture


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """A box without texture coordinates in a file, four units tall and off the origin."""
    corners = np.array([[x, y, z] for x in (0, 2) for y in (1, 5) for z in (0, 3)], np.float32)
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    faces = np.array([[q[i] for i in turn] for q in quads for turn in ((0, 1, 2), (0, 2, 3))], np.int32)
    return export(Asset(Mesh(corners, faces)), tmp_path / "plain.glb")


def run(command: object, *words: object) -> tuple[int, str]:
    result = CliRunner().invoke(command, [str(word) for word in words])
    return result.exit_code, f"{result.output} {result.exception or ''}"


def corners(mesh: Mesh) -> np.ndarray:
    return mesh.vertices[mesh.faces]


def test_a_file_is_painted_and_painted_anew(toy_runs: Path, plain: Path, tmp_path: Path) -> None:
    red, blue = tmp_path / "red.glb", tmp_path / "blue.glb"
    code, said = run(texture, toy_runs / "flow", "--mesh", plain, "--prompt", "a red box", "--size", 32, "--out", red)
    assert code == 0 and "2 images" in said
    first = import_asset(red).mesh
    assert np.array_equal(corners(first), corners(import_asset(plain).mesh))
    assert len(first.images) == 2 and first.uv is not None and first.uv.min() >= 0 and first.uv.max() <= 1
    code, said = run(retexture, toy_runs / "flow", "--mesh", red, "--prompt", "a blue box", "--size", 32, "--out", blue)
    second = import_asset(blue).mesh
    assert code == 0 and "warning" not in said
    assert np.array_equal(corners(first), corners(second)) and np.array_equal(first.uv, second.uv)
    assert first.images[0] != second.images[0]


def test_new_coordinates_and_unknown_words_are_said(toy_runs: Path, plain: Path, tmp_path: Path) -> None:
    mesh = import_asset(plain).mesh
    palette = export(Asset(replace(mesh, uv=np.full((12, 3, 2), 0.5, np.float32))), tmp_path / "palette.glb")
    words = ("--mesh", palette, "--prompt", "a mauve box", "--size", 32, "--out", tmp_path / "out.glb")
    code, said = run(retexture, toy_runs / "flow", *words)
    assert code == 0 and "unwrapped anew: faces share texels" in said and "mauve" in said


def test_clear_refusals(toy_runs: Path, plain: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "out.glb")
    for command, words, message in (
        (texture, ("--mesh", plain, *out), "nothing to follow"),
        (texture, ("--mesh", plain, "--prompt", "a box", "--out", tmp_path / "out.xyz"), "unknown file format"),
        (retexture, ("--mesh", plain, "--prompt", "a box", *out), "no texture coordinates to keep"),
        (texture, ("--mesh", tmp_path / "no.glb", "--prompt", "a box", *out), "does not exist"),
    ):
        code, said = run(command, toy_runs / "flow", *words)
        assert code != 0 and message in said
        assert not (tmp_path / "out.glb").exists()
