"""The same engine as replicas of Ray Serve: two of them on this machine share what is asked of one service."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi.testclient import TestClient

from maquette.errors import MaquetteError
from maquette_serve.commands.serve import on_ray
from maquette_serve.engine.engine_setup import EngineSetup, Opened
from maquette_serve.engine.job import Order
from maquette_serve.service.app import create_app
from maquette_serve.service.ray_replicas import Cluster, EngineReplica, RayReplicas, packed
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


@pytest.mark.parametrize("words", ["least=3,most=2", "least=-1", "most=0,least=0", "busy=0", "gpus=-1"])
def test_numbers_that_no_cluster_can_have_are_refused_at_once(words):
    with pytest.raises(MaquetteError, match="--ray"):
        on_ray(EngineSetup({}), f"local,{words}")


def test_engines_are_counted_in_one_way():
    assert on_ray(EngineSetup({}), "auto,least=2,most=16").cluster == Cluster("auto", 2, 16)
    with pytest.raises(MaquetteError, match="--replicas counts engines without Ray"):
        on_ray(EngineSetup({}), "local", 2)


class Ray:
    """What is asked of Ray: applications that run, and how often one was started or deleted."""

    def __init__(self):
        self.applications, self.calls, self.starter = {}, [], None

    def init(self, *_, **__):
        self.starter = threading.current_thread()

    def start(self, **_):
        pass

    def status(self):
        return self

    def deployment(self, replica, **_):
        return SimpleNamespace(bind=lambda setup: setup)

    def run(self, deployed, name, route_prefix):
        self.calls.append(("run", name))
        self.applications[name] = SimpleNamespace(status="RUNNING")
        return name

    def get_app_handle(self, name):
        return name

    def delete(self, name):
        self.calls.append(("delete", name))


def test_servers_of_one_cluster_share_its_engines_and_leave_them_to_one_another(monkeypatch):
    ray = Ray()
    ray.serve = ray
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.serve", ray)
    setup, other = EngineSetup({"a": Opened({"name": "a"})}), EngineSetup({"b": Opened({"name": "b"})})
    first, second, third = (RayReplicas(one, Cluster("auto")) for one in (setup, setup, other))
    for one in (first, second, third):
        one.start()
        assert one.ready
    assert ray.calls == [("run", first.name), ("run", third.name)]
    assert first.name == second.name != third.name
    second.close()
    alone = RayReplicas(setup, Cluster())
    alone.start()
    alone.close()
    assert ray.calls[2:] == [("delete", alone.name)]


def test_a_replica_whose_engine_cannot_be_started_is_not_healthy():
    replica = EngineReplica.__new__(EngineReplica)
    replica.engines = SimpleNamespace(ready=False, broken="")
    replica.check_health()  # it is being started again
    replica.engines.broken = "the run is gone"
    with pytest.raises(MaquetteError, match="the run is gone"):
        replica.check_health()


def test_the_thread_that_starts_ray_outlives_whoever_asked_for_it(monkeypatch):
    """What Ray starts on a machine dies with that thread."""
    ray = Ray()
    ray.serve = ray
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.serve", ray)
    engines = RayReplicas(EngineSetup({}), Cluster())
    asking = threading.Thread(target=engines.start)
    asking.start()
    asking.join()
    assert engines.ready
    assert ray.starter.is_alive()
    engines.close()


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
