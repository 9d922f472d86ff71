"""Files parsed apart: the same scene as in this process, and whatever goes wrong goes wrong there."""

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from maquette.errors import MaquetteError
from maquette.types import Animation, Material, Skeleton
from maquette_data3d.ingest import reading_apart, reading_child
from maquette_data3d.ingest.read_asset import read_asset
from maquette_data3d.ingest.reading import ReadLimits, read
from maquette_data3d.ingest.reading_apart import Confinement, Readers
from maquette_data3d.ingest.scene_file import read_scene, write_scene
from tests.data3d import hostile_files, mesh_files

LIMITS = ReadLimits()

TRIES = """
import json, os, socket, sys, tempfile
from pathlib import Path
from maquette_data3d.ingest.confinement import confine
inside, outside = Path(sys.argv[1]), Path(sys.argv[2])
given = confine(inside, 512, 20, 1)
def tried(action):
    try:
        action()
    except (OSError, MemoryError) as error:
        return type(error).__name__
    return "done"
outcomes = {
    "write inside": tried(lambda: (inside / "a").write_text("a")),
    "write outside": tried(lambda: (outside / "a").write_text("a")),
    "remove outside": tried(lambda: os.remove(outside / "there")),
    "truncate outside": tried(lambda: os.truncate(outside / "there", 0)),
    "signal": tried(lambda: os.kill(os.getppid(), 0)),
    "socket": tried(lambda: socket.socket()),
    "local socket": tried(lambda: socket.socket(socket.AF_UNIX)),
    "memory": tried(lambda: bytearray(2**31)),
    "large file": tried(lambda: (inside / "large").write_bytes(bytes(2**21))),
    "read": tried(lambda: (outside / "there").read_text()),
}
print(json.dumps([sorted(given), outcomes]))
"""


@pytest.fixture(scope="module")
def readers():
    made = Readers(most=2)
    yield made
    made.close()


def same(one, other):
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        if field.name == "skeleton" and a is not None:
            assert a.names == b.names and np.array_equal(a.parents, b.parents) and np.array_equal(a.rest, b.rest)
        elif field.name == "animations":
            assert [(c.name, c.times.tolist()) for c in a] == [(c.name, c.times.tolist()) for c in b]
        else:
            assert np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b, field.name


@pytest.mark.parametrize("suffix", mesh_files.WRITERS)
def test_a_scene_is_the_same_as_in_this_process(readers, tmp_path, suffix):
    if suffix == ".fbx":
        pytest.importorskip("ufbx")
    path = mesh_files.WRITERS[suffix](tmp_path / f"a{suffix}")
    same(readers.read(path, LIMITS, Confinement()), read(path, LIMITS))


def test_importers_read_apart(tmp_path):
    from maquette.assets import import_asset

    path = mesh_files.WRITERS[".glb"](tmp_path / "a.glb")
    assert np.array_equal(import_asset(path).mesh.vertices, read_asset(path).mesh.vertices)


def test_a_refusal_comes_back_as_it_is(readers, tmp_path):
    for name in ("uri above", "accessor of nothing", "huge picture", "3mf bomb"):
        (tmp_path / name).mkdir()
        path = hostile_files.CASES[name][0](tmp_path / name)
        with pytest.raises(MaquetteError, match=hostile_files.CASES[name][1]):
            readers.read(path, LIMITS, Confinement())


def test_memory_and_time_are_bounded(readers, tmp_path):
    path = hostile_files.soup(tmp_path)
    with pytest.raises(MaquetteError, match="memory: "):
        readers.read(path, LIMITS, Confinement(memory_mb=48))
    slow = tmp_path / "slow.obj"
    slow.write_text("v 0 0 0\nv 1 0 0\nv 0 1 1\n" + "f 1 2 3\n" * 4_000_000)
    with pytest.raises(MaquetteError, match="deadline: "):
        readers.read(slow, ReadLimits(largest_faces=10**9), Confinement(seconds=1))


def test_a_reader_that_dies_is_replaced(readers, tmp_path):
    path = mesh_files.WRITERS[".obj"](tmp_path / "a.obj")
    readers.read(path, LIMITS, Confinement())
    os.kill(readers._idle[-1].process.pid, signal.SIGKILL)
    with pytest.raises(MaquetteError, match="crashed: "):
        readers.read(path, LIMITS, Confinement())
    assert len(readers.read(path, LIMITS, Confinement()).faces)


def test_threads_share_the_readers(readers, tmp_path):
    path = mesh_files.WRITERS[".obj"](tmp_path / "a.obj")
    found = []
    work = [threading.Thread(target=lambda: found.append(readers.read(path, LIMITS, Confinement()))) for _ in range(6)]
    for thread in work:
        thread.start()
    for thread in work:
        thread.join()
    assert len(found) == 6 and len(readers._idle) <= 2


@pytest.mark.skipif(sys.platform != "linux", reason="seccomp and landlock are Linux's")
def test_a_confined_process_can_do_little(tmp_path):
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    (outside / "there").write_text("there")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", TRIES, str(inside), str(outside)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    given, outcomes = json.loads(ended.stdout)
    assert "limits" in given
    expected = {"write inside": "done", "read": "done", "memory": "MemoryError", "large file": "OSError"}
    if "files" in given:
        expected |= dict.fromkeys(("write outside", "remove outside", "truncate outside"), "PermissionError")
    if "calls" in given:
        expected |= dict.fromkeys(("socket", "local socket"), "PermissionError")
    assert outcomes.items() >= expected.items()
    assert (outside / "there").read_text() == "there"


def scene_of(tmp_path):
    return read(mesh_files.WRITERS[".glb"](tmp_path / "a.glb"), LIMITS)


def filled(name, value):
    return lambda scene: replace(scene, **{name: np.full_like(getattr(scene, name), value)})


def skinned(scene, **lies):
    """The scene with a chain of three joints and a clip of two frames, but for what is given."""
    count = len(scene.vertices)
    good = {
        "parents": np.array([-1, 0, 1], np.int32),
        "rest": np.tile(np.eye(4), (3, 1, 1)),
        "joints": np.zeros((count, 4), np.int32),
        "weights": np.full((count, 4), 0.25, np.float32),
        "rotations": np.zeros((2, 3, 4), np.float32),
        "translations": np.zeros((2, 3, 3), np.float32),
    } | lies
    skeleton = Skeleton(("a", "b", "c"), good["parents"], good["rest"])
    clip = Animation("walk", np.arange(2, dtype=np.float32), good["rotations"], good["translations"])
    return replace(scene, skeleton=skeleton, animations=(clip,), joints=good["joints"], weights=good["weights"])


def painted(scene, place):
    return replace(scene, materials=(Material("a", textures={"base_color": place}),))


LIES = {
    "faces": filled("faces", 99),
    "vertices": filled("vertices", np.nan),
    "material": filled("material", 7),
    "part": filled("part", -1),
    "a picture at infinity": lambda scene: painted(scene, float("inf")),
    "joints in a circle": lambda scene: skinned(scene, parents=np.array([2, 0, 1], np.int32)),
    "a joint above itself": lambda scene: skinned(scene, parents=np.array([-1, 1, 1], np.int32)),
    "joints above nothing": lambda scene: skinned(scene, parents=np.array([-1, 0, 9], np.int32)),
    "parents that are no places": lambda scene: skinned(scene, parents=np.array([-1.0, 0, 0])),
    "too few parents": lambda scene: skinned(scene, parents=np.array([-1, 0], np.int32)),
    "too few poses": lambda scene: skinned(scene, rest=np.tile(np.eye(4), (2, 1, 1))),
    "poses of another shape": lambda scene: skinned(scene, rest=np.zeros((3, 3))),
    "too few bound vertices": lambda scene: skinned(scene, joints=np.zeros((1, 4), np.int32)),
    "fewer weights than joints": lambda scene: skinned(scene, weights=np.zeros((len(scene.vertices), 2), np.float32)),
    "too few turns": lambda scene: skinned(scene, rotations=np.zeros((1, 3, 4), np.float32)),
    "turns of other joints": lambda scene: skinned(scene, rotations=np.zeros((2, 2, 4), np.float32)),
    "flat moves": lambda scene: skinned(scene, translations=np.zeros(2, np.float32)),
}


@pytest.mark.parametrize("name", LIES)
def test_what_a_child_says_is_not_believed(tmp_path, name):
    write_scene(LIES[name](scene_of(tmp_path)), tmp_path / "a.safetensors")
    with pytest.raises(MaquetteError, match="unreadable: what was read of it is no scene"):
        read_scene(tmp_path / "a.safetensors")


def test_a_good_skin_is_believed(tmp_path):
    scene = skinned(scene_of(tmp_path))
    write_scene(scene, tmp_path / "a.safetensors")
    same(read_scene(tmp_path / "a.safetensors"), scene)


def test_a_fork_holds_none_of_its_parents_pipes(monkeypatch, tmp_path):
    def look(job):
        held = {number: os.readlink(f"/proc/self/fd/{number}") for number in range(1024) if _open(number)}
        (tmp_path / "held").write_text(json.dumps(held))

    monkeypatch.setattr(reading_child, "_parse", look)
    one, other = os.pipe()
    assert reading_child._forked({}) == 0
    held = json.loads((tmp_path / "held").read_text())
    os.close(one), os.close(other)
    assert set(held) <= {"0", "1", "2"} and held["0"] == os.devnull


def _open(number):
    return os.path.lexists(f"/proc/self/fd/{number}")


def test_only_a_file_of_its_own_is_taken_for_what_was_read(tmp_path):
    write_scene(scene_of(tmp_path), tmp_path / "elsewhere")
    ways = (os.mkfifo, lambda path: path.symlink_to(tmp_path / "elsewhere"), lambda path: None)
    for number, leave in enumerate(ways):
        folder = tmp_path / str(number)
        folder.mkdir()
        leave(folder / reading_child.SCENE)
        with pytest.raises(MaquetteError, match="has left no scene"):
            reading_apart._result(folder, 0, Confinement())
    (folder / reading_child.ERROR).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(MaquetteError, match="has left no scene"):
        reading_apart._result(folder, 0, Confinement())


def test_a_scene_file_that_is_none_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    write_scene(scene_of(tmp_path), path)
    good = path.read_bytes()
    for bad in (b"", good[: len(good) // 2], b"\x80\x04" + good, good.replace(b'"F64"', b'"F32"')):
        path.write_bytes(bad)
        with pytest.raises(MaquetteError, match="unreadable"):
            read_scene(path)


def test_secrets_of_the_environment_do_not_reach_a_reader(monkeypatch, tmp_path):
    monkeypatch.setenv("SOME_API_KEY", "correct horse")
    made = Readers(most=1)
    try:
        made.read(mesh_files.WRITERS[".obj"](tmp_path / "a.obj"), LIMITS, Confinement())
        environment = Path(f"/proc/{made._idle[0].process.pid}/environ").read_bytes()
        assert b"correct horse" not in environment and b"PATH" in environment
    finally:
        made.close()
