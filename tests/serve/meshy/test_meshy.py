"""The Meshy-compatible front by its contract: what can be ordered, what tasks look like, what is refused."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from maquette.assets import export
from maquette_serve.service.outbox import Outbox
from maquette_serve.service.task import new_id

_spec = importlib.util.spec_from_file_location("stand_in", Path(__file__).parent / "stand_in.py")
stand_in = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(stand_in)
make, plain = stand_in.make, stand_in.plain
OVER = ("SUCCEEDED", "FAILED", "CANCELED")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    service, app = make(tmp_path_factory.mktemp("meshy"), open=True)
    with TestClient(app) as client:
        client.service, client.engine = service, service.replicas
        yield client


def order(client, path, **body):
    made = client.post(f"/openapi{path}", json=body)
    assert made.status_code == 202, made.text
    assert list(made.json()) == ["result"]
    return made.json()["result"]


def wait(client, path, identity):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        task = client.get(f"/openapi{path}/{identity}").json()
        if task["status"] in OVER:
            return task
        time.sleep(0.01)
    raise AssertionError(task)


def done(client, path, **body):
    task = wait(client, path, order(client, path, **body))
    assert task["status"] == "SUCCEEDED", task
    return task


@pytest.fixture(scope="module")
def preview(served):
    return done(served, "/v2/text-to-3d", mode="preview", prompt="a red chair", seed=7)


def data_uri(kind="PNG"):
    out = io.BytesIO()
    Image.new("RGB", (4, 4)).save(out, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(out.getvalue()).decode()}"


def last(served):
    return served.engine.orders[-1]


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


def test_a_preview_is_refined_with_textures(served, preview):
    path = "/v2/text-to-3d"
    refined = done(served, path, mode="refine", preview_task_id=preview["id"], enable_pbr=True, hd_texture=True)
    given = last(served)
    assert (given.pipeline, given.request.prompt) == ("painter", "a red chair")
    assert given.request.options == {"size": 4096}
    assert given.mesh.name == "model.glb"
    assert (refined["type"], refined["prompt"]) == ("text-to-3d-refine", "a red chair")
    (maps,) = refined["texture_urls"]
    assert set(maps) == {"base_color", "metallic", "roughness"}
    colours = {name: Image.open(io.BytesIO(served.get(url).content)).getpixel((0, 0)) for name, url in maps.items()}
    assert colours == {"base_color": (200, 10, 20), "metallic": 255, "roughness": 128}
    assert all(url.split("?")[0].endswith(".png") for url in maps.values())


def test_pictures_come_as_data_and_their_bytes_are_not_shown_again(served):
    task = done(served, "/v1/image-to-3d", image_url=data_uri(), target_formats=["stl"], ai_model="meshy-6")
    (picture,) = last(served).images
    assert Image.open(picture).size == (4, 4)
    assert task["image_url"] == "data:image/png;base64,..."
    assert set(task["model_urls"]) == {"glb", "stl"}
    done(served, "/v1/multi-image-to-3d", image_urls=[data_uri(), data_uri("JPEG"), data_uri("WEBP")])
    assert [path.suffix for path in last(served).images] == [".png", ".jpg", ".webp"]
    served.delete(f"/openapi/v1/image-to-3d/{task['id']}")
    assert not picture.exists()


@pytest.mark.parametrize(
    ("body", "steps"),
    [
        ({}, ()),
        ({"target_polycount": 500}, ({"name": "decimate", "faces": 500},)),
        ({"decimation_mode": 4}, ({"name": "decimate", "faces": 3000},)),
        ({"model_type": "lowpoly", "topology": "quad"}, ({"name": "decimate", "faces": 2000},)),
        ({"should_remesh": True}, ({"name": "remesh", "faces": 30000, "topology": "triangle"},)),
        (
            {"topology": "quad", "target_polycount": 900, "origin_at": "center"},
            ({"name": "remesh", "faces": 900, "topology": "quad"}, {"name": "origin", "at": "centre"}),
        ),
    ],
)
def test_wishes_about_faces_become_finishing(served, body, steps):
    order(served, "/v2/text-to-3d", mode="preview", prompt="a chair", **body)
    deadline = time.monotonic() + 10
    while served.service.store.unfinished() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert last(served).finish == steps


def test_a_mesh_is_remeshed_resized_converted_and_unwrapped(served, preview):
    source = {"input_task_id": preview["id"]}
    done(served, "/v1/remesh", **source, target_polycount=800, topology="quad", resize_height=0.5, origin_at="bottom")
    assert last(served).request.options == {"faces": 800, "topology": "quad"}
    sized = {"name": "units", "size_m": 0.5, "along": "height"}
    assert last(served).finish == (sized, {"name": "origin", "at": "bottom"})
    done(served, "/v1/remesh", **source, convert_format_only=True, target_formats=["obj"])
    assert last(served).pipeline == "finish"
    task = done(served, "/v1/resize", **source, resize_longest_side=2)
    long = {"name": "units", "size_m": 2.0, "along": "longest"}
    assert last(served).request.options == {"steps": [long, {"name": "origin", "at": "bottom"}]}
    assert set(task["model_urls"]) == {"glb"}
    assert set(done(served, "/v1/convert", **source, target_formats=["3mf"])["model_urls"]) == {"glb", "3mf"}
    assert done(served, "/v1/uv-unwrap", **source)["type"] == "uv-unwrap"


def test_a_mesh_comes_as_data_or_by_an_address_of_this_server(served, preview, tmp_path):
    data = base64.b64encode(export(plain(), tmp_path / "a.glb").read_bytes()).decode()
    done(served, "/v1/remesh", model_url=f"data:application/octet-stream;base64,{data}")
    assert last(served).mesh.suffix == ".glb"
    done(served, "/v1/remesh", model_url=preview["model_urls"]["glb"])
    done(served, "/v1/image-to-3d", image_url=preview["thumbnail_url"])
    assert last(served).images[0].name == "thumbnail.png"
    forged = served.post("/openapi/v1/remesh", json={"model_url": preview["model_urls"]["glb"] + "0"})
    assert (forged.status_code, "does not hold" in forged.json()["message"]) == (400, True)


def test_retexturing_follows_words_or_pictures(served, preview):
    source = {"input_task_id": preview["id"]}
    task = done(served, "/v1/retexture", **source, text_style_prompt="wood", enable_original_uv=False)
    assert (last(served).request.prompt, last(served).request.options) == ("wood", {"keep_uv": "never"})
    assert task["texture_urls"]
    done(served, "/v1/retexture", **source, image_style_url=data_uri())
    assert (last(served).request.prompt, len(last(served).images)) == ("", 1)


def test_rigging_and_animations(served, preview):
    rigged = done(served, "/v1/rigging", input_task_id=preview["id"], height_meters=1.2)
    assert set(rigged["result"]) == {"rigged_character_glb_url", "rigged_character_fbx_url"}
    assert rigged["type"] == "rig"
    assert last(served).finish == ({"name": "units", "size_m": 1.2, "along": "height"},)
    after = {"operation_type": "change_fps", "fps": 24}
    moved = done(served, "/v1/animations", rig_task_id=rigged["id"], action_id=0, post_process=after)
    assert last(served).request.options["fps"] == 24
    assert last(served).request.options["clip"]
    assert last(served).finish == ({"name": "units", "size_m": 1.2, "along": "height"},)
    assert {"animation_glb_url", "animation_fbx_url", "processed_animation_fps_fbx_url"} == set(moved["result"])
    for path in ("/v1/rigging", "/v1/animations"):
        assert served.get(f"/openapi{path}").status_code in (404, 405)


def test_printability(served, preview):
    task = done(served, "/v1/print/analyze", input_task_id=preview["id"])
    told = task["printability"]
    assert (told["status"], told["issue_count"], told["error_count"]) == ("error", 1, 1)
    assert told["metrics"]["is_watertight"] is False
    assert "model_urls" not in task
    done(served, "/v1/print/repair", input_task_id=preview["id"])
    assert last(served).request.options["steps"][0]["name"] == "print_repair"


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
    assert not [one for one in served.service.files.glob("*") if served.service.store.get(one.name) is None]


def test_failures_are_told(served):
    task = wait(served, "/v2/text-to-3d", order(served, "/v2/text-to-3d", mode="preview", prompt="torn"))
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
    done(served, "/v1/remesh", **source, webhook="https://hooks.example/")
    assert outbox.waiting() == before + 1


def test_a_task_is_deleted_also_while_it_is_under_way(served):
    served.engine.held.set()
    try:
        identity = order(served, "/v2/text-to-3d", mode="preview", prompt="a chair")
        assert served.delete(f"/openapi/v1/remesh/{identity}").status_code == 404
        assert served.delete(f"/openapi/v2/text-to-3d/{identity}").status_code == 200
        assert served.get(f"/openapi/v2/text-to-3d/{identity}").status_code == 404
    finally:
        served.engine.held.clear()


def test_the_others_wait_in_their_order(tmp_path):
    service, app = make(tmp_path, open=True)
    service.replicas.ready = False
    with TestClient(app) as client:
        first, second = (order(client, "/v2/text-to-3d", mode="preview", prompt="a") for _ in range(2))
        shown = [client.get(f"/openapi/v2/text-to-3d/{identity}").json() for identity in (first, second)]
        assert [task["preceding_tasks"] for task in shown] == [0, 1]
        assert {task["status"] for task in shown} == {"PENDING"}
        assert "model_urls" not in shown[0]


def test_callers_see_their_own(tmp_path):
    service, app = make(tmp_path)
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
