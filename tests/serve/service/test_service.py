"""The service over HTTP, with real engines in their own processes: tasks, streams, files, keys, limits, crashes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from maquette.errors import MaquetteError
from maquette_serve.commands.serve import serve
from maquette_serve.service.keys import Keys
from maquette_serve.service.store import Store

KEYS = [Path(sys.executable).with_name("maquette"), "keys"]


def test_a_task_is_made_followed_and_fetched(server):
    made = server.make(prompt="a tetrahedron", steps=20, seed=2, formats=["glb", "stl"])
    assert made.status_code == 202
    identity = made.json()["id"]
    told = server.events(identity)
    shares = [state["progress"] for _, state in told]
    assert shares == sorted(shares)
    assert told[-1][1]["status"] == "SUCCEEDED"
    assert told[-1][1]["metadata"]["seed"] == 2
    middle = len(told) // 2
    assert server.events(identity, told[middle][0]) == told[middle + 1 :]
    files = told[-1][1]["files"]
    assert sorted(files) == ["model.glb", "model.stl", "thumbnail.png"]
    assert server.client.get(files["model.glb"]).content[:4] == b"glTF"
    assert server.client.get(files["thumbnail.png"]).headers["content-type"] == "image/png"
    assert server.client.get(f"/v1/tasks/{identity}/files/../tasks.db").status_code == 404
    assert server.client.delete(f"/v1/tasks/{identity}").status_code == 204
    assert server.client.get(f"/v1/tasks/{identity}").status_code == 404
    assert not (server.folder / "files" / identity).exists()


def test_a_seed_is_drawn_and_told(server):
    seeds = {server.make().json()["seed"] for _ in range(3)}
    assert len(seeds) == 3


def test_a_cancelled_task_ends_and_frees_the_engine(server):
    identity = server.make(steps=1000).json()["id"]
    while server.client.get(f"/v1/tasks/{identity}").json()["progress"] == 0:
        time.sleep(0.05)
    assert server.client.post(f"/v1/tasks/{identity}/cancel").json()["status"] == "CANCELED"
    quick = server.make(steps=1).json()["id"]
    assert server.wait(quick)["status"] == "SUCCEEDED"
    assert server.wait(identity)["status"] == "CANCELED"


def test_failures_say_why(server):
    task = server.wait(server.make(prompt="torn").json()["id"])
    assert (task["status"], task["error"], task["files"]) == ("FAILED", "the mesh is torn", {})


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"pipeline": "slwo"}, 400, "known: "),
        ({"steps": 0}, 422, "steps"),
        ({"seed": -1}, 422, "seed"),
        ({"formats": ["exe"]}, 422, "'exe'"),
        ({"images": ["../../etc/passwd"]}, 400, "no upload"),
        ({"mesh": "nothing"}, 400, "no upload"),
        ({"nonsense": 1}, 422, "nonsense"),
        ({"prompt": "x" * 2000}, 422, "prompt"),
    ],
)
def test_bad_requests_get_one_line(server, body, status, said):
    answer = server.make(**body)
    assert answer.status_code == status
    assert said in answer.json()["message"]
    assert "\n" not in answer.json()["message"]


def test_idempotency_keys(server):
    first = server.make({"Idempotency-Key": "a"}, prompt="once").json()["id"]
    assert server.make({"Idempotency-Key": "a"}, prompt="once").json()["id"] == first
    assert server.make({"Idempotency-Key": "a"}, prompt="twice").status_code == 409


def test_uploads_become_pictures_and_meshes(server, tmp_path):
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "picture.png")
    taken = server.client.post("/v1/uploads", files={"file": (tmp_path / "picture.png").open("rb")})
    assert (taken.status_code, taken.json()["kind"]) == (201, "image")
    first = server.wait(server.make(images=[taken.json()["id"]]).json()["id"])
    assert first["status"] == "SUCCEEDED"
    assert server.wait(server.make(mesh=first["id"]).json()["id"])["status"] == "SUCCEEDED"
    torn = server.client.post("/v1/uploads", files={"file": ("a.png", b"no picture")})
    assert "cannot be read as a picture" in server.wait(server.make(images=[torn.json()["id"]]).json()["id"])["error"]
    assert server.client.post("/v1/uploads", files={"file": ("a.exe", b"MZ")}).status_code == 415


def test_a_giant_body_is_refused_before_it_is_read(server):
    def endless():
        for _ in range(200):
            yield b"x" * 2**20

    try:
        answer = server.client.post("/v1/tasks", content=endless(), headers={"content-type": "application/json"})
        assert answer.status_code == 413
    except httpx.TransportError:
        pass  # it hung up on us, which is as good
    assert server.make().status_code == 202


def test_health_and_figures(server):
    assert server.client.get("/livez").json() == {"status": "alive"}
    figures = server.client.get("/metrics").text
    assert "maquette_requests_total" in figures and "maquette_host_memory_total" in figures
    assert "slow" in [one["name"] for one in server.client.get("/v1/pipelines").json()]


def test_others_need_keys(tmp_path, new_server):
    server = new_server(tmp_path)
    refused = subprocess.run([*server.command, "--host", "0.0.0.0"], capture_output=True, text=True, check=False)
    assert refused.returncode != 0
    assert f"make a key first: maquette keys create NAME --data {tmp_path}" in refused.stderr
    made = subprocess.run(
        [*KEYS, "create", "ann", "--data", str(tmp_path), "--queue", "2"], capture_output=True, text=True, check=True
    )
    keys = Keys(Store(f"sqlite:///{tmp_path}/tasks.db").engine)
    ann, eve = ({"Authorization": f"Bearer {text.strip()}"} for text in (made.stdout, keys.create("eve", ("read",))))
    assert made.stdout.strip() not in str(keys.all())
    server.start().ready()
    try:
        for path in ("/v1/tasks", "/v1/pipelines", "/metrics"):
            assert server.client.get(path).status_code == 401
        identity = server.make(ann, steps=1000).json()["id"]
        assert server.client.get(f"/v1/tasks/{identity}", headers=eve).status_code == 404
        assert server.make(eve).status_code == 403
        assert server.make(ann, steps=1000).status_code == 202
        assert server.make(ann).status_code == 429
        keys.revoke(next(key.id for key in keys.all() if key.name == "ann"))
        time.sleep(1.2)
        assert server.client.get("/v1/tasks", headers=ann).status_code == 401
    finally:
        server.kill()


def test_the_advice_about_keys_is_about_their_database(tmp_path):
    words = [
        "--only",
        "finish",
        "--host",
        "0.0.0.0",
        "--data",
        str(tmp_path),
        "--database",
        f"sqlite:///{tmp_path}/a.db",
    ]
    with pytest.raises(MaquetteError, match="maquette keys create NAME --database URL"):
        CliRunner().invoke(serve, words, catch_exceptions=False)


def test_the_clients_and_the_command(server, tmp_path):
    from maquette_serve.client import AsyncClient, Client

    url = str(server.client.base_url)
    with Client(url) as client:
        assert "slow" in client.pipelines()
        task = client.make("slow", "a tetrahedron", seed=5, steps=10, formats=["glb", "stl"])
        shares = [step.progress for step in client.follow(task.id)]
        assert shares[-1] == 100
        done = client.wait(task.id)
        assert client.download(done, "model.stl", tmp_path / "a.stl").stat().st_size > 80
        with pytest.raises(MaquetteError, match=r"made no 'model.obj'; it made model.glb"):
            client.download(done, "model.obj", tmp_path / "a.obj")
        with pytest.raises(MaquetteError, match="the mesh is torn"):
            client.wait(client.make("slow", "torn").id)
        with pytest.raises(MaquetteError, match=r"refuses \(404\)"):
            list(client.follow("nothing"))
        client.delete(task.id)

    async def both():
        async with AsyncClient(url) as client:
            tasks = await asyncio.gather(*(client.make("slow", seed=seed) for seed in (1, 2)))
            ends = await asyncio.gather(*(client.wait(task.id) for task in tasks))
            await client.download(ends[0], "model.glb", tmp_path / "b.glb")
            return [end.metadata["seed"] for end in ends]

    assert asyncio.run(both()) == [1, 2]
    assert (tmp_path / "b.glb").read_bytes()[:4] == b"glTF"
    command = [Path(sys.executable).with_name("maquette"), "remote", "make", "slow", "--url", url]
    done = subprocess.run(
        [*command, "steps=4", "--seed", "3", "--out", tmp_path / "c.obj"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "c.obj").exists()
    assert server.client.get("/v1/tasks?size=1").json()[0]["request"]["steps"] == 4
    with Client("http://127.0.0.1:9") as client, pytest.raises(MaquetteError, match="no service answers at"):
        client.pipelines()
