"""Several pieces of work in one task, each on the mesh of the one before."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from maquette.assets import import_asset
from maquette.errors import MaquetteError
from maquette_serve.client import Client

CHAIN = [{"pipeline": "painter", "prompt": "old wood"}, {"pipeline": "rigger"}]
SIZED = {"name": "units", "size_m": 2.0, "along": "height"}


def test_a_shape_is_painted_rigged_and_sized_in_one_task(server, tmp_path):
    body = {"pipeline": "modeller", "prompt": "a ball", "seed": 4, "formats": ["glb", "stl"]}
    then = [CHAIN[0], {**CHAIN[1], "finish": [SIZED]}]
    identity = server.make(**body, then=then).json()["id"]
    told = server.events(identity)
    shares = [state["progress"] for _, state in told]
    assert shares == sorted(shares)
    task = told[-1][1]
    assert task["status"] == "SUCCEEDED", task
    assert [stage["pipeline"] for stage in task["stages"]] == ["modeller", "painter", "rigger"]
    assert set(task["files"]) == {"stage1.glb", "stage2.glb", "model.glb", "model.stl", "thumbnail.png"}
    assert task["stages"][0]["metadata"]["seed"] == 4
    assert task["stages"][1]["metadata"]["prompt"] == "old wood"
    assert task["faces"] == task["stages"][0]["faces"]
    made = {}
    for name in ("stage1", "stage2", "model"):
        path = tmp_path / f"{name}.glb"
        path.write_bytes(server.client.get(task["files"][path.name]).content)
        made[name] = import_asset(path).mesh
    assert [bool(made[name].images) for name in made] == [False, True, True]
    assert [made[name].skin is not None for name in made] == [False, False, True]
    assert np.ptp(made["model"].vertices[:, 1]) == pytest.approx(2.0, rel=1e-3)
    assert task["request"]["then"][0] == CHAIN[0]


def test_a_chain_that_breaks_says_where_and_keeps_what_was_done(server):
    task = server.wait(server.make(pipeline="modeller", then=[{"pipeline": "slow", "prompt": "torn"}]).json()["id"])
    assert (task["status"], task["error"]) == ("FAILED", "slow: the mesh is torn")
    assert list(task["files"]) == ["stage1.glb"]
    assert task["faces"] is None
    answer = server.make(pipeline="modeller", then=[{"pipeline": "paintre"}])
    assert (answer.status_code, "no pipeline 'paintre'" in answer.json()["message"]) == (400, True)
    assert server.make(then=[{"pipeline": "slow", "formats": ["glb"]}]).status_code == 422


def test_the_client_and_the_command_order_chains(server, tmp_path):
    with Client(server.url) as client:
        task = client.wait(client.make("modeller", "a ball", seed=1, then=CHAIN).id)
        assert [stage.pipeline for stage in task.stages] == ["modeller", "painter", "rigger"]
        client.download(task, "model.glb", tmp_path / "a.glb")
        with pytest.raises(MaquetteError, match="no pipeline 'paintre'"):
            client.make("modeller", then=[{"pipeline": "paintre"}])
    command = [Path(sys.executable).with_name("maquette"), "remote", "make", "modeller", "--url", server.url]
    words = ["--prompt", "a ball", "--seed", "1", "--then", "painter,prompt=old wood", "--then", "rigger"]
    done = subprocess.run([*command, *words, "--out", tmp_path / "b.glb"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "a.glb").read_bytes() == (tmp_path / "b.glb").read_bytes()
