"""The Meshy-compatible front by its contract: what tasks look like, who sees them, what is refused."""

from __future__ import annotations

import json
import time

import pytest
from fastapi.testclient import TestClient

from maquette_serve.service.outbox import Outbox
from maquette_serve.service.task import new_id
from tests.serve.meshy import stand_in

pytest.importorskip("maquette_data3d", reason="without maquette-data3d no mesh can be written")


def test_a_preview_is_a_task_as_the_contract_has_it(served, preview):
    assert preview["type"] == "text-to-3d-preview"
    assert (preview["prompt"], preview["progress"], preview["seed"]) == ("a red chair", 100, 7)
    assert set(preview["model_urls"]) == {"glb", "obj", "fbx", "stl", "usdz"}
    assert "texture_urls" not in preview
    assert "preceding_tasks" not in preview
    assert preview["task_error"] == {"message": ""}
    now = time.time() * 1000
    assert now - 60_000 < preview["created_at"] <= preview["started_at"] <= preview["finished_at"] < now + 1000
    assert preview["expires_at"] > now + 2 * 24 * 3600 * 1000
    assert preview["id"][14] == "7"


def test_addresses_of_files_need_no_key_and_hold_for_themselves_alone(served, preview):
    address = preview["model_urls"]["glb"]
    assert address.startswith("http://testserver/openapi/files/")
    assert served.get(address).content[:4] == b"glTF"
    assert served.get(address.replace("model.glb", "model.obj")).status_code == 403
    assert served.get(address.replace("expires=", "expires=9")).status_code == 403
    assert served.get(address.split("?")[0]).status_code == 403
    assert served.get(preview["thumbnail_url"]).status_code == 200


def test_an_address_expires(served, preview, monkeypatch):
    late = preview["expires_at"] + 1
    monkeypatch.setattr("maquette_serve.service.meshy.links.now_ms", lambda: late)
    assert served.get(preview["model_urls"]["glb"]).status_code == 403


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/v2/text-to-3d", {"prompt": "a"}, 400, "mode"),
        ("/v2/text-to-3d", {"mode": "preview"}, 400, "prompt"),
        ("/v2/text-to-3d", {"mode": "preview", "prompt": "x" * 601}, 400, "prompt"),
        ("/v2/text-to-3d", {"mode": "preview", "prompt": "a", "target_polycount": 99}, 400, "target_polycount"),
        ("/v2/text-to-3d", {"mode": "preview", "prompt": "a", "target_formats": ["blend"]}, 400, "'blend'"),
        ("/v2/text-to-3d", {"mode": "preview", "prompt": "a", "auto_size": True}, 400, "resize_height"),
        ("/v2/text-to-3d", {"mode": "refine"}, 400, "preview_task_id"),
        ("/v2/text-to-3d", {"mode": "refine", "preview_task_id": new_id()}, 404, "no text-to-3d task"),
        ("/v1/image-to-3d", {}, 400, "image_url"),
        ("/v1/image-to-3d", {"image_url": "data:image/png;base64,AAAA"}, 400, "neither PNG"),
        ("/v1/image-to-3d", {"image_url": "data:image/png;base64,?"}, 400, "no data URI"),
        ("/v1/image-to-3d", {"image_url": "https://127.0.0.1/a.png"}, 400, "public internet"),
        ("/v1/image-to-3d", {"image_url": "file:///etc/passwd"}, 400, "https://"),
        ("/v1/remesh", {}, 400, "exactly one"),
        ("/v1/remesh", {"input_task_id": "../../etc"}, 404, "no such task"),
        ("/v1/resize", {"model_url": "data:,"}, 400, "resize_height"),
        ("/v1/retexture", {"model_url": "data:,"}, 400, "text_style_prompt"),
        ("/v1/retexture", {"model_url": "data:a/b,xyz", "text_style_prompt": "wood"}, 400, "model_url"),
        ("/v1/animations", {"rig_task_id": "no", "action_id": 0}, 404, "no rigging task"),
        ("/v1/text-to-image", {"prompt": "a"}, 400, "no pictures"),
        ("/v1/nothing", {}, 405, "Method"),
    ],
)
def test_what_is_refused_says_why_in_one_line(served, path, body, status, said):
    answer = served.post(f"/openapi{path}", json=body)
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["message"]
    assert said in answer.json()["message"]
    assert "\n" not in answer.json()["message"]
    assert not [
        one for one in served.service.files.path("files").glob("*") if served.service.store.get(one.name) is None
    ]


def test_failures_are_told(served):
    task = stand_in.wait(
        served, "/v2/text-to-3d", stand_in.order(served, "/v2/text-to-3d", mode="preview", prompt="torn")
    )
    assert (task["status"], task["task_error"]) == ("FAILED", {"message": "the mesh is torn"})
    assert "model_urls" not in task
    refused = served.post("/openapi/v1/remesh", json={"input_task_id": task["id"]})
    assert (refused.status_code, "FAILED" in refused.json()["message"]) == (400, True)


def test_lists_have_pages_and_an_order(served, preview):
    path = "/openapi/v2/text-to-3d"
    pages = [served.get(path, params={"page_num": page, "page_size": 2}).json() for page in (1, 2)]
    times = [task["created_at"] for page in pages for task in page]
    assert times == sorted(times, reverse=True)
    assert served.get(path, params={"sort_by": "+created_at"}).json()[0]["id"] == preview["id"]
    assert served.get(f"{path}?sort_by=+created_at").json()[0]["id"] == preview["id"]
    assert served.get(path, params={"page_size": 51}).status_code == 422
    assert served.get("/openapi/v1/text-to-image").json() == []
    assert all(task["type"] == "remesh" for task in served.get("/openapi/v1/remesh").json())


def events(client, path):
    with client.stream("GET", f"/openapi{path}/stream") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in answer.iter_lines() if line]
    names = [line[7:] for line in lines if line.startswith("event: ")]
    return names, [json.loads(line[6:]) for line in lines if line.startswith("data: ")]


def test_a_stream_ends_with_the_whole_task(served, preview):
    names, told = events(served, f"/v2/text-to-3d/{preview['id']}")
    assert set(names) == {"message"}
    assert told[0] == {"id": preview["id"], "progress": 0, "status": "PENDING"}
    assert told[-1] == preview
    names, told = events(served, "/v2/text-to-3d/none")
    assert (names, told[0]["status_code"]) == (["error"], 404)
    assert "none" in told[0]["message"]


def test_a_webhook_is_written_down_with_the_end_of_its_task(served, preview):
    source = {"input_task_id": preview["id"]}
    refused = served.post("/openapi/v1/remesh", json={**source, "webhook": "http://hooks.example/"})
    assert refused.status_code == 400
    outbox = Outbox(served.service.store.engine)
    before = outbox.waiting()
    stand_in.done(served, "/v1/remesh", **source, webhook="https://hooks.example/")
    assert outbox.waiting() == before + 1


def test_a_task_is_deleted_also_while_it_is_under_way(served):
    served.engine.held.set()
    try:
        identity = stand_in.order(served, "/v2/text-to-3d", mode="preview", prompt="a chair")
        assert served.delete(f"/openapi/v1/remesh/{identity}").status_code == 404
        assert served.delete(f"/openapi/v2/text-to-3d/{identity}").status_code == 200
        assert served.get(f"/openapi/v2/text-to-3d/{identity}").status_code == 404
    finally:
        served.engine.held.clear()


def test_the_others_wait_in_their_order(tmp_path):
    service, app = stand_in.make(tmp_path, open=True)
    service.replicas.ready = False
    with TestClient(app) as client:
        first, second = (stand_in.order(client, "/v2/text-to-3d", mode="preview", prompt="a") for _ in range(2))
        shown = [client.get(f"/openapi/v2/text-to-3d/{identity}").json() for identity in (first, second)]
        assert [task["preceding_tasks"] for task in shown] == [0, 1]
        assert {task["status"] for task in shown} == {"PENDING"}
        assert "model_urls" not in shown[0]


def test_callers_see_their_own(tmp_path):
    service, app = stand_in.make(tmp_path)
    keys = (service.keys.create("ann"), service.keys.create("eve"), service.keys.create("bob", ("read",)))
    bearer = [{"Authorization": f"Bearer {text}"} for text in keys]
    with TestClient(app) as client:
        path, body = "/openapi/v2/text-to-3d", {"mode": "preview", "prompt": "a chair"}
        assert client.post(path, json=body).status_code == 401
        assert client.post(path, json=body, headers=bearer[2]).status_code == 403
        identity = client.post(path, json=body, headers=bearer[0]).json()["result"]
        assert client.get(f"{path}/{identity}", headers=bearer[0]).status_code == 200
        assert client.get(f"{path}/{identity}", headers=bearer[1]).status_code == 404
        stolen = client.post("/openapi/v1/remesh", json={"input_task_id": identity}, headers=bearer[1])
        assert stolen.status_code == 404
        assert client.get(path, headers=bearer[1]).json() == []
        assert client.get("/openapi/v1/balance", headers=bearer[2]).json()["balance"] > 0
        assert client.get("/v1/tasks", headers=bearer[0]).json() == []
