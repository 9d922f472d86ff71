"""Child processes of a build: one that dies, hangs or eats memory loses its file alone; none outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trimesh

from maquette.errors import MaquetteError
from maquette_data3d import BuildConfig, build_shards
from maquette_data3d.building.job import Job, Limits
from maquette_data3d.building.pool import Pool
from maquette_data3d.building.recipe import Recipe
from maquette_data3d.building.sources import Item
from tests.data3d.built_folders import SMALL, boxes

STAND_IN = """
import maquette_data3d.building.process as process, os, signal, time
whole = process._Making.mesh_file
def tricky(self, path):
    if 'die' in path.name: os.kill(os.getpid(), signal.SIGKILL)
    if 'hang' in path.name: time.sleep(600)
    if 'eat' in path.name: bytearray(10**11)
    return whole(self, path)
process._Making.mesh_file = tricky
"""


@pytest.mark.parametrize("engine", ["local", pytest.param({"name": "ray", "jobs": 3}, marks=pytest.mark.slow)])
def test_a_child_that_dies_or_hangs_loses_only_its_file(tmp_path, monkeypatch, engine):
    """A stand-in for the parser kills itself or sleeps at files of certain names."""
    if isinstance(engine, dict):
        pytest.importorskip("ray")
    package = tmp_path / "stand_in"
    package.mkdir()
    (package / "sitecustomize.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(str(package))
    monkeypatch.setenv("PYTHONPATH", str(package))
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a", "b-die", "c", "d-hang", "e", "f-eat", "g", "h-die"):
        (folder / f"{name}.ply").write_bytes(trimesh.creation.icosphere(2).export(file_type="ply"))
    limits = {"workers": 2, "deadline_s": 4, "memory_mb": 2000}
    report = build_shards(BuildConfig(str(folder), str(tmp_path / "out"), **SMALL, **limits, engine=engine))
    assert report.reasons == {"crashed": 2, "deadline": 1, "memory": 1} and report.kept == 4
    assert "signal 9" in str(list(report.files("quarantined")))


def test_a_child_that_ran_out_of_memory_is_given_no_further_file(tmp_path, monkeypatch):
    """An engine that hands over a few files at a time comes back while that child is still ending."""
    package = tmp_path / "stand_in"
    package.mkdir()
    (package / "sitecustomize.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(str(package))
    ball = trimesh.creation.icosphere(2).export(file_type="ply")
    jobs = []
    for number, name in enumerate(("a-eat", "b")):
        (tmp_path / f"{name}.ply").write_bytes(ball)
        item = Item(number, name, path=str(tmp_path / f"{name}.ply"))
        jobs.append(Job(item, str(tmp_path / f"{name}.safetensors")))
    with Pool(Recipe.of(BuildConfig("unused", "unused", **SMALL)), Limits(30.0, 2000)) as pool:
        reasons = [outcome.reason for job in jobs for outcome in pool.run([job])]
    assert reasons == ["memory", None]


CLINGING = """
import maquette_data3d.building.process as process, ctypes, os, pathlib
def clinging(self, path):
    pathlib.Path(path).with_suffix('.pid').write_text(str(os.getpid()))
    ctypes.PyDLL(None).sleep(600)  # holds Python's lock: no thread of the child can run
process._Making.mesh_file = clinging
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux to end children")
def test_children_go_with_their_parent_whatever_they_do(tmp_path):
    (tmp_path / "stand_in").mkdir()
    (tmp_path / "stand_in" / "sitecustomize.py").write_text(CLINGING)
    boxes(tmp_path / "in", {"a": (1, 1, 1)})
    program = "import sys; from maquette_data3d.data_command import data; data(sys.argv[1:], standalone_mode=False)"
    command = [sys.executable, "-c", program, "build", str(tmp_path / "in"), str(tmp_path / "out"), "workers=1"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "stand_in"), *sys.path])}
    parent = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    note = tmp_path / "in" / "a.pid"
    while parent.poll() is None and not (note.is_file() and note.read_text()):
        time.sleep(0.05)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    child = Path(f"/proc/{note.read_text()}/stat")
    for _ in range(200):
        if not child.exists() or child.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("the child outlived its parent")


def test_workers_that_cannot_start_are_one_line():
    recipe = Recipe.of(BuildConfig("procedural", "unused", **SMALL))
    with Pool(recipe, Limits(5.0, 1000)) as pool:
        pool.setup["recipe"]["nonsense"] = 1
        with pytest.raises(MaquetteError, match="worker processes do not start"):
            list(pool.run([Job(Item(0, "procedural/0/0"), "unused")]))
