"""Files that nobody should trust: each ends in its reason, in bounded time and memory, and none in a crash."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maquette.errors import MaquetteError
from maquette_data3d.ingest.reading import ReadLimits, Scene, read
from tests.data3d import mesh_files
from tests.data3d.hostile_files import CASES
from tests.data3d.mesh_files import Gltf
from tests.security.mutations import places_of

F4 = np.float32
MEMORY = 3 * 2**30
SECONDS = 120  # for all files together, on a slow and busy machine
CHILD = """
import resource, sys, time
resource.setrlimit(resource.RLIMIT_AS, (%d, %d))
from pathlib import Path
from maquette.errors import MaquetteError
from maquette_data3d.ingest.reading import ReadLimits, read
for path in sys.argv[1:]:
    start = time.monotonic()
    try:
        scene = read(Path(path), ReadLimits(largest_bytes=64 * 2**20))
        words = f"read: {len(scene.faces)} triangles"
    except MaquetteError as error:
        words = str(error)
    print(Path(path).parent.name, round(time.monotonic() - start), words, sep="\\t", flush=True)
""" % (MEMORY, MEMORY)  # noqa: UP031 - the child's own braces would need doubling


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory):
    """What one child with little memory says of every file, in one life."""
    root = tmp_path_factory.mktemp("hostile")
    paths = []
    for number, (write, _) in enumerate(CASES.values()):
        (root / str(number)).mkdir()
        paths.append(str(write(root / str(number))))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHILD, *paths]
    log = root / "log"
    with log.open("w") as out:
        try:
            code = subprocess.run(
                command, stdout=out, stderr=out, timeout=SECONDS, check=False, env=environment
            ).returncode
        except subprocess.TimeoutExpired:
            code = "a timeout"
    found = [line.split("\t") for line in log.read_text().splitlines() if line.count("\t") == 2]
    return {int(number): words for number, _, words in found}, f"{code}: {log.read_text()[-300:]}"


@pytest.mark.parametrize("name", CASES)
def test_each_file_ends_in_its_reason(outcomes, name):
    if "fbx" in name:
        pytest.importorskip("ufbx")
    if "draco" in name:
        pytest.importorskip("DracoPy")
    found, ended = outcomes
    number = list(CASES).index(name)
    assert number in found, f"the child ended with {ended}"
    words = found[number]
    assert re.match(CASES[name][1], words), words
    assert ": " in words and str(Path.home()) not in words


def test_many_faces_are_refused_before_they_are_placed(tmp_path):
    made = Gltf().tetrahedron()
    made.json["nodes"] = [{"mesh": 0}] * 300
    made.json["scenes"] = [{"nodes": list(range(300))}]
    path = made.glb(tmp_path / "a.glb")
    assert len(read(path).faces) == 1200
    with pytest.raises(MaquetteError, match="too_many_faces: 1004"):
        read(path, ReadLimits(largest_faces=1000))


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A small good file of every format that is parsed in this process."""
    folder = tmp_path_factory.mktemp("good")
    made = {s: write(folder / f"a{s}").read_bytes() for s, write in mesh_files.WRITERS.items() if s != ".fbx"}
    rich = Gltf().tetrahedron(TEXCOORD_0=np.zeros((4, 2), F4), COLOR_0=np.ones((4, 4), F4))
    rich.json["materials"] = [
        {"pbrMetallicRoughness": {"baseColorTexture": {"index": rich.image(mesh_files.picture())}}}
    ]
    rich.json["meshes"][0]["primitives"][0]["material"] = 0
    made[".glb"] = rich.glb(folder / "rich.glb").read_bytes()
    return made


@pytest.mark.parametrize("suffix", [suffix for suffix in mesh_files.WRITERS if suffix != ".fbx"])
@given(data=st.data())
def test_damaged_files_give_a_scene_or_one_line(good, tmp_path_factory, suffix, data):
    damaged = bytearray(good[suffix])
    for _ in range(data.draw(st.integers(1, 8))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        damaged = damaged[: data.draw(st.integers(1, len(damaged)))]
    check(tmp_path_factory.mktemp("damaged") / f"a{suffix}", bytes(damaged))


@given(data=st.data())
def test_damaged_descriptions_give_a_scene_or_one_line(good, tmp_path_factory, data):
    """Values of the JSON itself replaced: what flipped bytes hardly ever reach."""
    raw = good[".glb"]
    (length,) = struct.unpack_from("<I", raw, 12)
    tree = json.loads(raw[20 : 20 + length])
    places = places_of(tree)
    odd = st.sampled_from([None, -1, 0, 1, 2**40, 1e300, "x", [], {}, [[]], True, [0, 0, 0]])
    for _ in range(data.draw(st.integers(1, 3))):
        node, key = data.draw(st.sampled_from(places))
        node[key] = data.draw(odd)
    text = json.dumps(tree).encode()
    text += b" " * (-len(text) % 4)
    body = struct.pack("<I4s", len(text), b"JSON") + text + raw[20 + length :]
    path = tmp_path_factory.mktemp("described") / "a.glb"
    check(path, struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body)


def check(path, damaged):
    path.write_bytes(damaged)
    try:
        found = read(path, ReadLimits(largest_bytes=2**24))
    except MaquetteError as error:
        assert "\n" not in str(error) and ": " in str(error)
    else:
        assert isinstance(found, Scene)
        assert np.isfinite(found.vertices[found.faces]).all() and found.faces.min() >= 0
        assert found.corner_colors.shape == (len(found.faces), 3, 3)


def test_damaged_fbx_gives_a_scene_or_one_line(tmp_path):
    pytest.importorskip("ufbx")
    good = mesh_files.fbx(tmp_path / "good.fbx", skin=[("hip", 0.0, [0, 1, 2, 3], [1, 1, 1, 1])]).read_bytes()
    rng = np.random.default_rng(0)
    for number in range(12):
        damaged = bytearray(good)
        for place in rng.integers(0, len(good), 6):
            damaged[place] = rng.integers(0, 256)
        check(tmp_path / f"{number}.fbx", bytes(damaged[: rng.integers(len(good) // 2, len(good))]))
