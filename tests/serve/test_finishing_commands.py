"""Finishing from the command line: files in, files out, and what the user is told."""

import json

import pytest
import trimesh
from click.testing import CliRunner

from maquette import plugins
from maquette.assets import import_asset
from maquette.errors import MaquetteError
from maquette.types import Request
from maquette_serve.commands.finish import finish
from maquette_serve.commands.finishing_steps import read_steps
from maquette_serve.commands.print_check import print_check
from maquette_serve.commands.remesh import remesh
from maquette_serve.commands.remote import work_of
from maquette_serve.commands.unwrap import unwrap


@pytest.fixture
def ball(tmp_path):
    path = tmp_path / "ball.glb"
    path.write_bytes(trimesh.creation.icosphere(3, 0.5).export(file_type="glb"))
    return path


def _run(command, *words):
    return CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=True)


def test_steps_are_read_from_words() -> None:
    steps = read_steps(["repair", "lods:shares=[0.5,0.1]", "decimate:faces=50,seams=.2"])
    assert steps[0] == {"name": "repair"}
    assert list(steps[1]["shares"]) == [0.5, 0.1]
    assert steps[2] == {"name": "decimate", "faces": 50, "seams": 0.2}
    with pytest.raises(MaquetteError, match="decimate"):
        read_steps(["decimat"])


def test_what_every_pipeline_knows_is_no_option_of_one() -> None:
    work = work_of("paint", "prompt=a blue, long coat", "steps=4", "size=[2,3]")
    assert work == {"pipeline": "paint", "prompt": "a blue, long coat", "steps": 4, "options": {"size": [2, 3]}}


def test_finish_writes_the_asset_and_its_levels(ball, tmp_path) -> None:
    out = tmp_path / "done.glb"
    told = _run(finish, ball, "--step", "decimate:faces=400", "--step", "lods:shares=[.5,.2]", "--out", out)
    assert told.exit_code == 0, told.output
    assert [len(import_asset(out.with_stem(name)).mesh.faces) for name in ("done", "done_lod1", "done_lod2")] == [
        pytest.approx(400, abs=2),
        pytest.approx(200, abs=2),
        pytest.approx(80, abs=2),
    ]
    assert "done_lod2.glb" in told.output
    assert "decimate" in _run(finish, "--list").output


def test_unwrap_and_remesh(ball, tmp_path) -> None:
    out = tmp_path / "out.glb"
    assert _run(unwrap, ball, "--resolution", 128, "--out", out).exit_code == 0
    assert import_asset(out).mesh.uv is not None
    assert _run(remesh, ball, "--faces", 300, "--out", out).exit_code == 0
    assert len(import_asset(out).mesh.faces) == pytest.approx(300, rel=0.3)


def test_print_check_tells_by_its_exit_code(ball, tmp_path) -> None:
    good = _run(print_check, ball, "--size-mm", 30)
    assert good.exit_code == 0, good.output
    assert "printable" in good.output
    broken = tmp_path / "open.ply"
    mesh = trimesh.creation.icosphere(3, 0.5)
    mesh.update_faces(range(40, len(mesh.faces)))
    mesh.export(broken)
    bad = _run(print_check, broken, "--size-mm", 30, "--json")
    assert bad.exit_code == 1
    assert json.loads(bad.stdout)["open_sides"] > 0
    mended = _run(print_check, broken, "--size-mm", 30, "--repair", tmp_path / "mended.stl")
    assert mended.exit_code == 0, mended.output
    assert _run(print_check, tmp_path / "mended.stl", "--size-mm", 30).exit_code == 0


def test_pipelines_finish_without_a_run(ball) -> None:
    mesh = import_asset(ball).mesh
    made = plugins.build("pipelines", {"name": "finish", "steps": ["repair"]})(Request(mesh=mesh))
    assert made.metadata["finishing"][0]["step"] == "repair"
    unwrapped = plugins.build("pipelines", {"name": "unwrap"})(Request(mesh=mesh, options={"resolution": 64}))
    assert unwrapped.mesh.uv is not None
    pipeline = plugins.build("pipelines", {"name": "print_check"})
    good, bad = pipeline.batch([Request(mesh=mesh, options={"size_mm": 20.0}), Request()])
    assert good.metadata["print_check"]["printable"]
    assert isinstance(bad, MaquetteError)
