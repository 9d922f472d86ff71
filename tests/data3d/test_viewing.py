"""The page of a folder of shards: one file, nothing from outside, strangers' texts harmless, samples as stored."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import shutil
import subprocess
import threading
import zlib
from html import unescape

import numpy as np
import pytest
from PIL import Image

from maquette.errors import MaquetteError
from maquette_data3d.viewing import write_page
from maquette_data3d.viewing.sample import packed_sample
from maquette_data3d.viewing.server import page_server
from maquette_data3d.viewing.shapes import sample_mesh
from tests.data3d import shard_folders
from tests.data3d import shown_samples as shown
from tests.data3d.shown_samples import HOSTILE

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def reader():
    return shown.shown_reader(3)


@pytest.fixture(scope="module")
def page(reader, tmp_path_factory):
    return write_page(reader, range(3), tmp_path_factory.mktemp("page") / "page.html", "Shapes <i>")


def unpacked(data):
    whole = zlib.decompress(data)
    length = int.from_bytes(whole[:4], "little")
    head = json.loads(whole[4 : 4 + length])
    arrays = {
        name: np.frombuffer(whole, a["type"], int(np.prod(a["shape"])), 4 + length + a["place"]).reshape(a["shape"])
        for name, a in head["arrays"].items()
    }
    return head, arrays


def test_a_packed_sample_is_the_sample(reader):
    head, arrays = unpacked(packed_sample(reader, 1))
    sample = reader.samples[1]
    for name in ("surface", "sharp", "near"):
        assert np.abs(arrays[name] / 65535 - 0.5 - sample[name].astype(float)).max() < 1e-5
    assert np.abs(arrays["normals"] / 127 - sample["normals"].astype(float)).max() < 5e-3
    assert np.array_equal(arrays["surface_color"], sample["surface_color"])
    assert np.array_equal(arrays["voxels"], sample["voxels"]) and arrays["voxels_resolution"].tolist() == [32]
    inner = (arrays["dual_points"] / 65535 * 32 - sample["dual_voxels"]) * 255
    assert np.abs(inner - sample["dual_points"]).max() < 0.2
    assert np.sign(arrays["field"]).tolist() == np.sign(np.round(sample["tsdf"][0].astype(float) * 127)).tolist()
    mesh, _, source = sample_mesh(reader, 1)
    assert source == "tsdf" and np.array_equal(arrays["mesh_faces"], mesh.faces)
    assert np.array_equal(arrays["mesh_colors"], mesh.colors[:, :3])
    assert [view["words"] for view in head["views"][:3]] == ["rgb 0", "rgb 1", "rgb 2"] and len(head["views"]) == 9
    assert bytes(arrays["view_rgb_0"][:4]) == b"RIFF"
    assert head["caption"] == reader.entry(1).caption and head["fields"]["tsdf"] == "float16 [1, 32, 32, 32]"


def test_colors_of_a_grid_are_taken_at_the_right_place():
    axis = (np.arange(16) + 0.5) / 16 - 0.5
    x, y, z = np.meshgrid(axis, axis, axis, indexing="ij")
    color = np.zeros((3, 8, 8, 8), np.uint8)
    color[0, 4:] = 255
    sample = {"tsdf": (np.sqrt(x * x + y * y + z * z) - 0.3)[None].astype(np.float16), "color": color}
    mesh, _, _ = sample_mesh(shown.ShownReader([sample], [shown.ShownEntry("a", "", "")]), 0)
    assert ((mesh.colors[:, 0] > 0) == (mesh.vertices[:, 0] >= 0)).all() and (mesh.colors[:, 3] == 255).all()


def test_a_stored_mesh_comes_first_and_large_or_empty_things_are_said(monkeypatch):
    corners = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    sample = {
        "mesh_vertices": np.array([[0, 0, 0], [0.4, 0, 0], [0, 0.4, 0]], np.float32),
        "mesh_faces": np.array([[0, 1, 2]], np.int32),
        "mesh_colors": corners,
        "tsdf": np.ones((1, 128, 128, 128), np.float16),
        "voxels": np.zeros((0, 3), np.int16),
        "joints": np.zeros((0, 3), np.float32),
        "joint_parents": np.zeros(0, np.int16),
        "view_depth": np.zeros((1, 8, 8), np.float16),
    }
    reader = shown.ShownReader([sample], [shown.ShownEntry("a", "", "")])
    head, arrays = unpacked(packed_sample(reader, 0))
    assert arrays["mesh_faces"].tolist() == [[0, 1, 2]] and arrays["mesh_colors"].tolist() == corners[0].tolist()
    assert arrays["voxels"].shape == (0, 3) and "joints" not in arrays
    assert arrays["field"].shape == (64, 64, 64) and any("every 2th cell of 128" in note for note in head["notes"])
    monkeypatch.setattr("maquette_data3d.viewing.sample.MOST_FACES", 0)
    head, arrays = unpacked(packed_sample(reader, 0))
    assert "mesh" not in arrays and any("not shown" in note for note in head["notes"])
    del sample["mesh_vertices"], reader.fields["mesh_vertices"]
    assert sample_mesh(reader, 0) is None


def test_points_and_voxels_are_cut_to_what_a_page_can_show(reader, monkeypatch):
    monkeypatch.setattr("maquette_data3d.viewing.sample.MOST_POINTS", 100)
    monkeypatch.setattr("maquette_data3d.viewing.sample.MOST_VOXELS", 50)
    head, arrays = unpacked(packed_sample(reader, 1))
    assert arrays["surface"].shape == arrays["normals"].shape == (100, 3) and arrays["surface_part"].shape == (100,)
    assert 25 <= len(arrays["voxels"]) <= 50 and len(arrays["dual_points"]) == len(arrays["dual_voxels"])
    assert any("the first 100 of 2000" in note for note in head["notes"])


def test_the_page_is_one_file_that_asks_for_nothing_and_runs_only_its_own_scripts(page):
    text = page.read_text(encoding="utf-8")
    assert set(re.findall(r"""(?:https?:)?//[\w.-]+\.[a-z]+""", text)) <= {"http://www.w3.org"}
    assert not re.search(r"<(?:link|iframe|object|embed|base|form)\b", text)
    policy = unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', text).group(1))
    assert "default-src 'none'" in policy and "connect-src 'none'" in policy and "unsafe" not in policy
    scripts = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    digests = ["'sha256-" + base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() + "'" for s in scripts]
    assert len(scripts) == 2 and all(digest in policy for digest in digests)
    assert "<title>Shapes &lt;i&gt;</title>" in text


def test_strangers_texts_never_become_markup(page, reader):
    text = page.read_text(encoding="utf-8")
    assert "document.title='taken'</script>" not in text and "<img src=x" not in text and "<b>one" not in text
    index = json.loads(re.search(r'id="index">(.*?)</script>', text, re.DOTALL).group(1))
    assert index["entries"][0]["caption"] == HOSTILE and index["entries"][0]["id"] == "<b>one"
    blob = re.search(r'id="sample-0">(.*?)</script>', text, re.DOTALL).group(1)
    head, _ = unpacked(base64.b64decode(blob))
    assert head["caption"] == HOSTILE and head["lineage"]["scale"] == "nan"
    assert all(entry["picture"].startswith("data:image/webp;base64,") for entry in index["entries"])


def test_a_folder_gets_an_index_and_the_page_is_the_same_twice(page, reader, tmp_path):
    again = write_page(reader, range(3), tmp_path / "out", "Shapes <i>")
    assert again == tmp_path / "out" / "index.html" and again.read_bytes() == page.read_bytes()
    assert page.stat().st_size < 2_000_000
    bare = write_page(reader, [2], tmp_path / "bare.html", pictures=False)
    assert '"picture": ""' in bare.read_text(encoding="utf-8")


def test_a_folder_on_disk_is_shown(tmp_path):
    from maquette_data3d.shards.format import fields_of
    from maquette_data3d.shards.reader import ShardReader

    samples = [shown.shape_sample(number, 16) for number in range(2)]
    fields = fields_of(samples[0], ragged=["voxels", "dual_voxels", "dual_points", "joints", "joint_parents"])
    shard_folders.write_folder(tmp_path / "shards", samples, fields)
    reader = ShardReader(tmp_path / "shards")
    text = write_page(reader, range(2), tmp_path / "page.html").read_text(encoding="utf-8")
    head, arrays = unpacked(base64.b64decode(re.search(r'id="sample-1">(.*?)</script>', text, re.DOTALL).group(1)))
    assert head["attributes"] == {"legs": 1} and head["lineage"] == {"source": "1.glb"}
    assert np.array_equal(arrays["voxels"], samples[1]["voxels"]) and head["class_name"] == "table"


@pytest.fixture
def served(reader):
    server = page_server(reader, 0, title="Live")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def asked(port, path, host=None):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


def test_the_server_sends_samples_when_they_are_looked_at(served, reader):
    status, text = asked(served, "/")
    assert status == 200 and b"connect-src &#39;self&#39;" in text and b"sample-0" not in text
    found = json.loads(asked(served, "/entries?from=0&search=")[1])
    assert [entry["number"] for entry in found["entries"]] == [0, 1, 2] and found["next"] is None
    word = reader.entry(2).caption.split()[-1].upper()
    hits = json.loads(asked(served, f"/entries?search={word}")[1])["entries"]
    assert 2 in [entry["number"] for entry in hits]
    assert unpacked(asked(served, "/sample?number=1")[1])[0]["id"] == "shape-1"


def test_the_server_refuses_what_is_not_there_and_strangers(served):
    assert asked(served, "/../../etc/passwd")[0] == 404
    for path in ("/sample?number=3", "/sample?number=-1", "/sample?number=x", "/sample", "/entries?from=x"):
        assert asked(served, path)[0] == 400
    assert asked(served, "/", host="rebound.example")[0] == 403
    with pytest.raises(MaquetteError, match="choose another port"):
        page_server(shown.ShownReader([], []), served)


def test_long_lists_come_in_pieces_and_searches_go_on_where_they_stopped():
    from maquette_data3d.viewing.server import PAGE, Answers

    entries = [shown.ShownEntry(f"s{n}", "odd" if n % 2 else "even", "c") for n in range(3 * PAGE)]
    answers = Answers(shown.ShownReader([], entries), np.arange(3 * PAGE), "t")
    for search, expected in (("", range(3 * PAGE)), ("ODD", range(1, 3 * PAGE, 2)), ("none", [])):
        seen, start = [], 0
        while start is not None:
            found = answers.entries(search, start)
            assert len(found["entries"]) <= PAGE
            seen += [entry["number"] for entry in found["entries"]]
            start = found["next"]
        assert seen == list(expected)


def test_a_chosen_few_are_the_whole_list():
    from maquette_data3d.viewing.server import Answers

    reader = shown.ShownReader([], [shown.ShownEntry(f"s{n}", "odd" if n % 2 else "even", "c") for n in range(9)])
    answers = Answers(reader, np.array([8, 3, 5]), "t")
    for search, expected in (("", [8, 3, 5]), ("odd", [3, 5]), ("s8", [8]), ("s4", [])):
        found = answers.entries(search, 0)
        assert [entry["number"] for entry in found["entries"]] == expected and found["next"] is None
    assert answers.entries("", 2)["entries"][0]["id"] == "s5" and b'"total": 3' in answers.first


def browse(address, tmp_path, *options):
    """Runs the browser on a page with drawing in software; its standard output."""
    drawing = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--virtual-time-budget=6000"]
    command = [CHROMIUM, "--headless", "--no-sandbox", f"--user-data-dir={tmp_path / 'profile'}", *drawing, *options]
    done = subprocess.run([*command, address], capture_output=True, timeout=120, check=True)
    return done.stdout.decode()


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")
def test_a_browser_shows_the_sample_and_its_texts_stay_texts(page, tmp_path):
    picture = tmp_path / "shot.png"
    size = ("--window-size=1200,900", "--hide-scrollbars")
    # The title changes only if a stranger's script ran.
    document = browse(f"{page.as_uri()}#0", tmp_path, "--dump-dom", *size)
    assert 'data-shown="0"' in document and "<title>Shapes &lt;i&gt;</title>" in document
    assert "flipped faces" in document and "3 of 3" in document
    body = document[document.index("<body") : document.index('id="index"')]
    assert "&lt;img src=x" in body and "<img src=x" not in body
    browse(f"{page.as_uri()}#1", tmp_path, f"--screenshot={picture}", *size)
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    stage = pixels[90:600, 560:1180]
    blue = (stage[..., 2] > stage[..., 0] + 60).sum()
    assert blue > 3000, "the table of sample 1 is blue"
