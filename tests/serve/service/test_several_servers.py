"""Servers that share a database and an object store, and no folder: each task is done once, each file found by all."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from fastapi.testclient import TestClient

from maquette.errors import MaquetteError
from maquette_serve.service.files import Files, StoreAway
from maquette_serve.service.outbox import Outbox
from maquette_serve.service.store import Store
from maquette_serve.service.task import Task, new_id
from tests.serve.meshy import stand_in

pytest.importorskip("maquette_data3d", reason="without maquette-data3d no mesh can be written")

PICTURE = b"\x89PNG picture"


@pytest.fixture
def s3(monkeypatch):
    """The address of a bucket of moto's server, as the environment lets any program find it."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in (
        ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
        *(("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test"), ("AWS_DEFAULT_REGION", "us-east-1")),
    ):
        monkeypatch.setenv(name, value)
    yield "s3://maquette/service"
    server.stop()


@pytest.fixture(params=["memory", "file", "s3"])
def object_store(request, tmp_path):
    if request.param == "s3":
        return request.getfixturevalue("s3")
    return f"memory://{new_id()}" if request.param == "memory" else f"file://{tmp_path}/store"


@pytest.fixture
def joined(tmp_path):
    """Makes services with a fake engine, of one database, each with a folder of its own; gives clients of them."""
    with ExitStack() as stack:

        def join(name, object_store, database=""):
            database = database or f"sqlite:///{tmp_path}/shared.db"
            service, app = stand_in.make(tmp_path / name, open=True, database=database, object_store=object_store)
            client = stack.enter_context(TestClient(app))
            client.service = service
            return client

        yield join


def test_what_one_took_in_another_makes_and_the_first_shows(object_store, tmp_path, joined):
    first, second = (joined(name, object_store) for name in ("first", "second"))
    first.service.replicas.ready = False  # it takes in, and lets others work
    uploaded = first.post("/v1/uploads", files={"file": ("a.png", PICTURE)}).json()["id"]
    body = {"pipeline": "generator", "images": [uploaded], "then": [{"pipeline": "painter"}]}
    identity = first.post("/v1/tasks", json=body).json()["id"]
    task = over(first, identity)
    assert task["status"] == "SUCCEEDED", task
    assert [order.pipeline for order in second.service.replicas.orders] == ["generator", "painter"]
    assert second.service.replicas.orders[0].images[0].read_bytes() == PICTURE
    for name in ("stage1.glb", "model.glb"):
        assert first.get(task["files"][name]).content[:4] == b"glTF"
    assert first.get(task["files"]["thumbnail.png"]).status_code == 200
    assert first.delete(f"/v1/tasks/{identity}").status_code == 204
    assert Files(tmp_path / "third", object_store).local(f"files/{identity}/1/stage1.glb") is None


def test_links_of_one_server_open_at_another(tmp_path, joined):
    first, second = (joined(name, f"file://{tmp_path}/store") for name in ("first", "second"))
    task = stand_in.done(first, "/v2/text-to-3d", mode="preview", prompt="a chair")
    assert second.get(task["model_urls"]["glb"]).content[:4] == b"glTF"


@pytest.mark.parametrize(("failures", "orders"), [(2, 1), (3, 2)])
def test_files_are_sent_again_and_then_made_again(tmp_path, monkeypatch, failures, orders, joined):
    monkeypatch.setattr("maquette_serve.service.dispatcher.SENT_AGAIN", (0, 0))
    one = joined("one", f"file://{tmp_path}/store")
    keep, left = one.service.files.keep, iter(range(failures))

    def sometimes(keys):
        if next(left, None) is not None:
            raise StoreAway("away")
        keep(keys)

    monkeypatch.setattr(one.service.files, "keep", sometimes)
    identity = one.post("/v1/tasks", json={"pipeline": "generator"}).json()["id"]
    assert over(one, identity)["status"] == "SUCCEEDED"
    assert len(one.service.replicas.orders) == orders


def test_while_the_object_store_is_away_callers_are_told_so_and_no_more(monkeypatch, caplog, joined):
    one = joined("one", f"memory://{new_id()}")
    identity = ordered(one, 1)
    over(one, identity)
    shutil.rmtree(one.service.files.path("files"))

    def away(*_, **__):
        raise PermissionError("bucket s3cret")

    with monkeypatch.context() as patched:
        for name in ("get_file", "put_file", "rm"):
            patched.setattr(one.service.files._remote, name, away)
        answers = [
            one.get(f"/v1/tasks/{identity}/files/model.glb"),
            one.post("/v1/uploads", files={"file": ("a.png", PICTURE)}),
            one.delete(f"/v1/tasks/{identity}"),
        ]
    for answer in answers:
        assert (answer.status_code, "s3cret" in answer.text) == (503, False)
    assert "s3cret" in caplog.text
    assert one.get(f"/v1/tasks/{identity}/files/model.glb").content[:4] == b"glTF"
    assert one.delete(f"/v1/tasks/{identity}").status_code == 204


def test_two_that_fetch_one_file_at_once_both_get_it_whole(tmp_path, monkeypatch):
    url = f"memory://{new_id()}"
    first, second = Files(tmp_path / "first", url), Files(tmp_path / "second", url)
    first.folder.mkdir()
    first.path("a.bin").write_bytes(bytes(1000))
    first.keep(["a.bin"])
    half = threading.Barrier(2)

    def slowly(_, place):
        with open(place, "wb") as out:
            out.write(bytes(500))
            out.flush()
            half.wait(30)
            out.write(bytes(500))

    monkeypatch.setattr(second._remote, "get_file", slowly)
    with ThreadPoolExecutor(2) as pool:
        paths = list(pool.map(second.local, ["a.bin"] * 2))
    assert [path.read_bytes() for path in paths] == [bytes(1000)] * 2


def test_an_object_store_that_cannot_be_used_is_told(tmp_path):
    with pytest.raises(MaquetteError, match=r"files 'nothing://here' cannot be used.*object-store"):
        Files(tmp_path, "nothing://here")


def test_two_servers_of_one_postgres_never_do_a_task_twice(postgres, tmp_path, joined):
    url = postgres()
    both = [joined(name, f"file://{tmp_path}/store", url) for name in ("first", "second")]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: ordered(both[number % 2], number), range(40)))
    ends = [over(both[0], identity) for identity in made]
    assert {task["status"] for task in ends} == {"SUCCEEDED"}
    done = [order.request.seed for one in both for order in one.service.replicas.orders]
    assert sorted(done) == list(range(40))


def test_processes_that_claim_at_once_take_each_task_once(postgres):
    url, code = (
        postgres(),
        """
        import sys
        from maquette_serve.service.store import Store
        store = Store(sys.argv[1])
        while (task := store.claim(sys.argv[2])) is not None:
            print(task.id)
        """,
    )
    store = Store(url)
    made = [store.create(Task(new_id(), "ann", "task", "slow", {})).id for _ in range(60)]
    command = [sys.executable, "-c", textwrap.dedent(code), url]
    claimers = [subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True) for name in "ab"]
    claimed = [line for one in claimers for line in one.communicate(timeout=120)[0].split()]
    assert sorted(claimed) == sorted(made)


def test_postgres_has_notices_secrets_and_tables_made_by_several_at_once(postgres):
    url = postgres()
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(Store, [url] * 4))
        assert len(set(pool.map(lambda store: store.secret("links"), stores))) == 1
        task = stores[0].create(Task(new_id(), "ann", "task", "slow", {}), webhook="https://hooks.example/")
        stores[1].cancel(task.id, "ann")
        notices = [one for one in pool.map(lambda store: Outbox(store.engine).claim(), stores) if one is not None]
    assert [notice.task for notice in notices] == [task.id]


def ordered(client, number):
    return client.post("/v1/tasks", json={"pipeline": "generator", "seed": number}).json()["id"]


def over(client, identity):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        task = client.get(f"/v1/tasks/{identity}").json()
        if task["status"] in ("SUCCEEDED", "FAILED"):
            return task
        time.sleep(0.02)
    raise AssertionError(task)
