"""The same engine as replicas of Ray Serve: two of them on this machine share what is asked of one service."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from maquette_serve.engine.job import Order
from maquette_serve.engine.worker import EngineSetup, Opened
from maquette_serve.service.app import create_app
from maquette_serve.service.ray_replicas import Cluster, RayReplicas, packed
from maquette_serve.service.service import Service, Settings

HERE = Path(__file__).parents[1]
PLUGINS = tuple(str(HERE / name) for name in ("engine/slow_pipeline.py", "meshy/stand_in_pipelines.py"))


def test_an_order_takes_its_files_along(tmp_path):
    (tmp_path / "a.glb").write_bytes(b"mesh")
    (tmp_path / "b.png").write_bytes(b"picture")
    there = tmp_path / "there"
    there.mkdir()
    order = packed(Order("slow", None, images=(tmp_path / "b.png",), mesh=tmp_path / "a.glb")).unpacked(there)
    assert (order.mesh.read_bytes(), order.images[0].read_bytes()) == (b"mesh", b"picture")
    assert {order.mesh.parent, order.images[0].parent, order.folder} == {there}
    assert packed(Order("slow", None)).unpacked(there).mesh is None


@pytest.mark.slow
def test_two_replicas_share_the_work_and_lose_nothing(tmp_path):
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.serve")
    opened = {name: Opened({"name": name}) for name in ("slow", "modeller", "painter")}
    setup = EngineSetup(opened, PLUGINS)
    engines = RayReplicas(setup, Cluster(least=2, most=2, busy=2, cpus=0.5))
    service = Service(Settings(setup, tmp_path, open=True), engines)
    try:
        with TestClient(create_app(service)) as client:
            until(lambda: client.get("/readyz").status_code == 200, 600)
            made = [order(client, seed=seed, steps=100) for seed in range(8)]
            chain = order(client, pipeline="modeller", then=[{"pipeline": "painter"}])
            tasks = [over(client, identity) for identity in made]
            assert [task["metadata"]["seed"] for task in tasks] == list(range(8))
            assert len({task["metadata"]["engine"] for task in tasks}) == 2
            assert client.get(tasks[0]["files"]["model.glb"]).content[:4] == b"glTF"
            assert over(client, chain)["stages"][1]["pipeline"] == "painter"
            failed = over(client, order(client, prompt="torn"))
            assert failed["error"] == "the mesh is torn"
            endless = order(client, steps=1000)
            until(lambda: client.get(f"/v1/tasks/{endless}").json()["progress"] > 0, 60)
            assert client.post(f"/v1/tasks/{endless}/cancel").json()["status"] == "CANCELED"
            until(lambda: engines.waiting == 0, 60)
    finally:
        ray.shutdown()


def order(client, **body):
    return client.post("/v1/tasks", json={"pipeline": "slow", **body}).json()["id"]


def over(client, identity):
    until(lambda: client.get(f"/v1/tasks/{identity}").json()["status"] in ("SUCCEEDED", "FAILED"), 120)
    return client.get(f"/v1/tasks/{identity}").json()


def until(true, seconds):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.1)
