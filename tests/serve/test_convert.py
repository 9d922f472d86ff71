"""`maquette convert` reads any format and writes any other, one file or many."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from click.testing import CliRunner

from maquette.assets import import_asset
from maquette.errors import MaquetteError
from maquette_serve.commands.convert import convert


def run(*words):
    done = CliRunner().invoke(convert, [str(word) for word in words], catch_exceptions=True)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.fixture
def box(tmp_path):
    path = tmp_path / "a box.obj"
    trimesh.creation.box((1, 2, 3)).export(path)
    return path


def test_one_file_with_keys_of_the_exporter(box, tmp_path):
    done = run(box, tmp_path / "box.stl", "unit_m=0.01", "up_axis=z")
    assert "12 faces" in done.output
    assert np.allclose(trimesh.load_mesh(tmp_path / "box.stl").extents, [10, 30, 20])


def test_a_folder_of_files_keeps_its_order(box, tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    box.rename(tmp_path / "in" / "deep" / "one.obj")
    trimesh.creation.icosphere(1).export(tmp_path / "in" / "two.ply")
    (tmp_path / "in" / "note.txt").write_text("no mesh")
    run(tmp_path / "in", tmp_path / "out", "--to", "glb")
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    assert found == {"deep/one.glb", "two.glb"}
    assert len(import_asset(tmp_path / "out" / "two.glb").mesh.faces) == 80


def test_broken_files_are_named_and_the_others_come(box, tmp_path, capsys):
    broken = tmp_path / "broken.glb"
    broken.write_bytes(b"glTF")
    with pytest.raises(MaquetteError, match="1 of 2 files"):
        run(broken, box, tmp_path / "out", "--to", ".glb")
    assert (tmp_path / "out" / "a box.glb").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a box.obj"], "a file to read and a file to write"),
        (["a box.obj", "b.obj", "out.glb"], "--to"),
        (["a box.obj", "b.xyz"], "file format 'b.xyz'|'.xyz'"),
        (["a box.obj", "b.glb", "compresion=draco"], "compresion"),
        (["a box.obj", "b.glb", "compression=zip"], "zip"),
        (["missing.obj", "b.glb"], "does not exist"),
        (["a box.obj", "a box.obj", "out", "--to", "glb"], "would both become"),
        (["empty", "out", "--to", "glb"], "nothing to convert"),
    ],
)
def test_mistakes_are_one_clear_line(words, message, box, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(MaquetteError, match=message) as caught:
        run(*words)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("b.*")) and not list(tmp_path.glob("out*"))
