"""The MCP server of Meshy, as its makers publish it, does its work with our service.

It is an npm package: unpack it, `npm install --omit=dev` in it, and give its dist/index.js as MESHY_MCP_SERVER.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from maquette.assets import import_asset
from maquette_serve.service.keys import Keys
from maquette_serve.service.store import Store
from tests.serve.meshy.mcp_client import McpClient

HERE = Path(__file__).parent
SCRIPT = os.environ.get("MESHY_MCP_SERVER", "")
PLUGIN = HERE / "stand_in_pipelines.py"
ROLES = ("text=modeller", "image=modeller", "texture=painter", "rig=rigger")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path(SCRIPT).is_file(), reason="MESHY_MCP_SERVER names no dist/index.js"),
]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [Path(sys.executable).with_name("maquette"), "--plugin", PLUGIN, "serve", "--plugin", PLUGIN]
    words = [word for role in ROLES for word in ("--role", role)]
    folder = tmp_path_factory.mktemp("service")
    key = Keys(Store(f"sqlite:///{folder / 'tasks.db'}").engine).create("ann", rate=100.0)
    server = subprocess.Popen([*map(str, command), "--data", str(folder), "--port", str(port), *words])
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert server.poll() is None
        try:
            if httpx.get(f"{address}/readyz").status_code == 200:
                break
        except httpx.TransportError:
            time.sleep(0.5)
    yield address, key
    server.terminate()
    server.wait(30)


@pytest.fixture(scope="module")
def mcp(served, tmp_path_factory):
    folder = tmp_path_factory.mktemp("mcp")
    client = McpClient(SCRIPT, folder, MESHY_API_HOST=served[0], MESHY_API_KEY=served[1])
    client.folder = folder
    yield client
    client.close()


def finished(mcp, made, kind):
    task = mcp.call("meshy_get_task_status", task_id=made["task_id"], task_type=kind)
    assert task["outcome"] == "SUCCEEDED"
    return task


def downloaded(mcp, made, kind, suffix="glb"):
    path = mcp.folder / f"{made['task_id']}.{suffix}"
    mcp.call("meshy_download_model", task_id=made["task_id"], task_type=kind, format=suffix, save_to=str(path))
    return path


@pytest.fixture(scope="module")
def preview(mcp):
    made = mcp.call("meshy_text_to_3d", prompt="a red chair", ai_model="latest", target_polycount=600)
    task = finished(mcp, made, "text-to-3d")
    assert task["face_count"] <= 600
    assert set(task["model_urls"]) == {"glb", "obj", "fbx", "stl", "usdz"}
    return made["task_id"]


def test_a_preview_is_refined_and_downloaded(mcp, preview):
    made = mcp.call("meshy_text_to_3d_refine", preview_task_id=preview, ai_model="latest", enable_pbr=True)
    finished(mcp, made, "text-to-3d")
    asset = import_asset(downloaded(mcp, made, "text-to-3d"))
    assert asset.mesh.images
    assert list(mcp.folder.rglob("*base_color.png"))


def test_a_picture_becomes_a_model(mcp):
    picture = mcp.folder / "picture.png"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(picture)
    made = mcp.call("meshy_image_to_3d", file_path=str(picture), target_formats=["stl"], should_texture=False)
    assert set(finished(mcp, made, "image-to-3d")["model_urls"]) == {"glb", "stl"}
    assert downloaded(mcp, made, "image-to-3d", "stl").stat().st_size > 84
    made = mcp.call("meshy_multi_image_to_3d", file_paths=[str(picture)] * 2)
    finished(mcp, made, "multi-image-to-3d")


def test_a_model_is_painted_anew(mcp, preview):
    made = mcp.call("meshy_retexture", input_task_id=preview, text_style_prompt="old wood")
    finished(mcp, made, "retexture")
    assert import_asset(downloaded(mcp, made, "retexture")).mesh.images


def test_a_model_is_rigged_as_tall_as_it_is_to_be(mcp, preview):
    made = mcp.call("meshy_rig", input_task_id=preview, height_meters=1.5)
    finished(mcp, made, "rigging")
    told = mcp.call("meshy_download_model", task_id=made["task_id"], task_type="rigging")
    content = httpx.get(told["rigged_character_glb_url"]).content
    (mcp.folder / "rigged.glb").write_bytes(content)
    mesh = import_asset(mcp.folder / "rigged.glb").mesh
    assert mesh.skin is not None
    assert np.ptp(mesh.vertices[:, 1]) == pytest.approx(1.5, rel=1e-3)


def test_a_model_is_remeshed_resized_converted_unwrapped_and_checked(mcp, preview):
    made = mcp.call("meshy_remesh", input_task_id=preview, target_formats=["glb"], target_polycount=400)
    assert 100 < finished(mcp, made, "remesh")["face_count"] < 1200
    made = mcp.call("meshy_resize", input_task_id=preview, resize_height=0.05)
    finished(mcp, made, "resize")
    assert np.ptp(import_asset(downloaded(mcp, made, "resize")).mesh.vertices[:, 1]) == pytest.approx(0.05, rel=1e-3)
    made = mcp.call("meshy_convert", input_task_id=preview, target_formats=["3mf"])
    finished(mcp, made, "convert")
    assert downloaded(mcp, made, "convert", "3mf").read_bytes()[:2] == b"PK"
    made = mcp.call("meshy_uv_unwrap", input_task_id=preview)
    finished(mcp, made, "uv-unwrap")
    made = mcp.call("meshy_analyze_printability", input_task_id=preview)
    finished(mcp, made, "print-analyze")
    made = mcp.call("meshy_repair_printability", input_task_id=preview)
    finished(mcp, made, "print-repair")


def test_the_rest_answers(mcp, preview):
    assert mcp.call("meshy_check_balance")["balance"] > 0
    assert preview in str(mcp.call("meshy_list_tasks", task_type="text-to-3d"))
    assert "makes no pictures" in mcp.refused("meshy_text_to_image", prompt="a chair", ai_model="nano-banana")
    made = mcp.call("meshy_text_to_3d", prompt="a chair", ai_model="latest")
    mcp._ask("tools/call", name="meshy_cancel_task", arguments={"task_id": made["task_id"], "task_type": "text-to-3d"})
