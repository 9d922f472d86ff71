"""Building shards: counted, resumable at any kill, incremental, the same bytes however the work is shared."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import trimesh
from click.testing import CliRunner
from safetensors.numpy import load_file

from maquette import config as words
from maquette.errors import MaquetteError
from maquette_data3d import BuildConfig, ShardReader, build_shards, write_mesh_files
from maquette_data3d.building.config import FilterConfig
from maquette_data3d.building.job import Job, Limits
from maquette_data3d.building.outcome import Outcome
from maquette_data3d.building.pool import Pool
from maquette_data3d.building.recipe import Recipe
from maquette_data3d.building.sources import Item
from maquette_data3d.building.splits import joined, splits, splits_of_collections
from maquette_data3d.data_command import data
from maquette_data3d.procedural import CLASSES, sample_shape
from maquette_data3d.shards import tools
from maquette_data3d.shards.verification import verify

SMALL = {"resolution": 16, "points": 128, "thumbnails": 0}
SHAPES = {"count": 24, "shard_samples": 10, "resolution": 16, "points": 256, "thumbnails": 2}
# What a clock has a part in.
TIMED = ("report.html", "throughput.json")


def hashes(folder):
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name not in TIMED
    }


def interrupted(*_, **__):
    raise KeyboardInterrupt


def drawn(number):
    return sample_shape(0, number, 1.0, CLASSES)


def files(folder):
    return {entry["file"]: entry for entry in map(json.loads, (folder / "files.jsonl").read_text().splitlines())}


def test_a_folder_holds_what_the_manual_says(shards):
    about = json.loads((shards / "shards.json").read_text())
    names = sorted(p.name for p in shards.iterdir() if not p.name.startswith("shard_"))
    assert names == ["files.jsonl", "index.parquet", "report.html", "report.json", "shards.json", "throughput.json"]
    assert [(s["file"][:11], s["samples"]) for s in about["shards"]] == [
        ("shard_00000", 10), ("shard_00001", 10), ("shard_00002", 4)]  # fmt: skip
    assert sorted(s["file"] for s in about["shards"]) == sorted(p.name for p in shards.glob("shard_*"))
    assert about["classes"] == list(CLASSES) and about["samples"] == 24 and about["resolution"] == 16
    reader = ShardReader(shards)
    training = reader.captions(reader.split("train"))
    assert about["vocabulary"] == sorted({w for c in training for w in c.lower().replace(",", "").split()})
    assert about["splits"] == {"train": len(training), "validation": 24 - len(training)} and len(training) < 24
    assert about["fields"]["tsdf"] == {"dtype": "float16", "shape": [1, 16, 16, 16], "ragged": False}
    first = load_file(shards / about["shards"][0]["file"])
    assert {k: (v.dtype.name, v.shape) for k, v in first.items()} == {
        "tsdf": ("float16", (10, 1, 16, 16, 16)), "color": ("uint8", (10, 3, 8, 8, 8)),
        "surface": ("float16", (10, 256, 3)), "normals": ("float16", (10, 256, 3))}  # fmt: skip
    assert np.array_equal(first["tsdf"][3], drawn(3).fields(16, 0.05, 256)["tsdf"])
    assert np.array_equal(first["surface"][3], drawn(3).fields(16, 0.05, 256)["surface"])
    for number in range(len(reader)):
        entry = reader.entry(number)
        assert entry.caption == drawn(number).caption and entry.attributes["color"]
        assert (reader.shard_of[number], reader.row_of[number]) == divmod(number, 10)
        reader.verify(number)


@pytest.mark.parametrize("engine", ["serial", "local", {"name": "ray", "jobs": 5}])
def test_engines_and_workers_change_no_byte(shards, tmp_path, engine):
    if isinstance(engine, dict):
        pytest.importorskip("ray")
    build_shards(BuildConfig("procedural", str(tmp_path / "s"), **SHAPES, workers=3, engine=engine))
    assert hashes(tmp_path / "s") == hashes(shards)


def test_building_again_does_nothing_and_other_settings_are_refused(shards):
    before = {p: p.stat().st_mtime_ns for p in shards.iterdir()}
    assert build_shards(BuildConfig("procedural", str(shards), **SHAPES)).kept == 24
    assert {p: p.stat().st_mtime_ns for p in shards.iterdir()} == before
    with pytest.raises(MaquetteError, match="other settings"):
        build_shards(BuildConfig("procedural", str(shards), **{**SHAPES, "points": 200}))


@pytest.mark.skipif(sys.platform != "linux", reason="kills a process group")
def test_a_build_that_is_killed_again_and_again_ends_with_the_same_bytes(tmp_path):
    settings = ["resolution=32", "points=512", "count=30", "shard_samples=7", "thumbnails=9"]
    whole = {"points": 512, "count": 30, "shard_samples": 7, "thumbnails": 9}
    build_shards(BuildConfig("procedural", str(tmp_path / "whole"), 32, **whole))
    program = "import sys; from maquette_data3d.data_command import data; data(sys.argv[1:], standalone_mode=False)"
    command = [
        sys.executable,
        "-c",
        program,
        "build",
        "procedural",
        str(tmp_path / "killed"),
        *settings,
        "workers=2",
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    kills = 0
    for target in (3, 13, 29):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        log = tmp_path / "killed" / ".work" / "log.jsonl"
        while process.poll() is None and not (log.is_file() and log.read_bytes().count(b'{"outcome"') >= target):
            time.sleep(0.01)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert kills >= 2
    assert hashes(tmp_path / "killed") == hashes(tmp_path / "whole")


def test_a_lost_sample_is_made_again(tmp_path, monkeypatch):
    from maquette_data3d.building import assemble

    def damaged(self, lot):
        for path in sorted(self.ledger.samples.glob("*")):
            path.write_bytes(b"damaged")
        raise KeyboardInterrupt

    config = BuildConfig("procedural", str(tmp_path / "s"), **{**SMALL, "count": 9, "shard_samples": 4}, workers=1)
    with monkeypatch.context() as broken:
        broken.setattr(assemble.Assembler, "_write", damaged)
        with pytest.raises(KeyboardInterrupt):
            build_shards(config)
    build_shards(config)
    reader = ShardReader(tmp_path / "s")
    for number in range(9):
        reader.verify(number)


def test_a_torn_line_of_the_log_is_as_if_it_had_never_been(tmp_path, monkeypatch):
    from maquette_data3d.building import build

    config = BuildConfig("procedural", str(tmp_path / "s"), **{**SMALL, "count": 6}, engine="serial")
    with monkeypatch.context() as broken:
        broken.setattr(build, "write_all", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build_shards(config)
    log = tmp_path / "s" / ".work" / "log.jsonl"
    log.write_bytes(log.read_bytes()[:-40])
    build_shards(config)
    build_shards(BuildConfig("procedural", str(tmp_path / "t"), **{**SMALL, "count": 6}, engine="serial"))
    assert hashes(tmp_path / "s") == hashes(tmp_path / "t")


def meshes(folder):
    write_mesh_files(folder, 6, seed=1, formats=("glb", "obj", "ply", "stl", "off"), resolution=16)
    (folder / "chair" / "notes.glb").write_text("not a mesh")
    (folder / "flat.obj").write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nf 1 2 3\n")
    (folder / "nan.obj").write_text("v 0 0 nan\nv 1 0 0\nv 1 1 0\nv 0 0 1\nf 1 2 3\nf 1 2 4\n")
    (folder / "readme.txt").write_text("no mesh, not counted")
    twice = trimesh.creation.box()
    twice = trimesh.Trimesh(twice.vertices, np.concatenate([twice.faces, twice.faces[:2]]), process=False)
    (folder / "wooden_crate-01.ply").write_bytes(twice.export(file_type="ply"))
    return folder


def test_every_file_of_a_folder_is_kept_or_quarantined_with_its_reason(tmp_path):
    out = tmp_path / "out"
    report = build_shards(BuildConfig(str(meshes(tmp_path / "in")), str(out), **SMALL, workers=2))
    assert (report.found, report.kept, report.quarantined) == (10, 7, 3)
    assert report.kept + report.quarantined == report.found
    assert report.reasons == {"flat": 1, "non_finite": 1, "wrong_extension": 1}
    assert {e["file"] for e in report.files("quarantined")} == {"chair/notes.glb", "flat.obj", "nan.obj"}
    assert files(out)["wooden_crate-01.ply"]["repairs"] == {"duplicate_faces": 2}
    assert report.repaired == len(list(report.files("repaired"))) < report.kept
    assert len(list(report.files())) == report.found and report.repairs["duplicate_faces"] >= 1
    assert json.loads((out / "report.json").read_text()) == report.plain()
    about = json.loads((out / "shards.json").read_text())
    assert about["classes"] == sorted({*CLASSES[:6], "object"})
    reader = ShardReader(out)
    entries = {entry.id: entry for entry in map(reader.entry, range(len(reader)))}
    crate = entries["wooden_crate-01.ply"]
    assert (crate.caption, crate.class_name) == ("wooden crate 01", "object")
    content = (tmp_path / "in" / "wooden_crate-01.ply").read_bytes()
    assert crate.lineage["sha256"] == hashlib.sha256(content).hexdigest()
    assert crate.lineage["repairs"]["duplicate_faces"] == 2 and crate.lineage["quality"]["faces"] == 12
    assert crate.lineage["placement"]["scale"] == pytest.approx(0.9)
    assert entries["table/table-00001.obj"].caption == sample_shape(1, 1).caption
    assert not (out / ".work").exists()
    build_shards(BuildConfig(str(tmp_path / "in"), str(tmp_path / "again"), **SMALL, workers=3))
    assert hashes(tmp_path / "again") == hashes(out)


def test_ingested_procedural_files_agree_with_the_analytic_field(tmp_path):
    write_mesh_files(tmp_path / "in", 8, seed=2, resolution=96)
    build_shards(BuildConfig(str(tmp_path / "in"), str(tmp_path / "out"), 32, points=256, workers=2))
    reader = ShardReader(tmp_path / "out")
    for number, entry in enumerate(map(reader.entry, range(len(reader)))):
        shape = sample_shape(2, int(entry.id.partition("-")[2][:5]))
        found, true = reader.array(number, "tsdf")[0] < 0, shape.tsdf(32, 0.05) < 0
        assert (found & true).sum() / (found | true).sum() > 0.93, entry.caption
        color = reader.array(number, "color").astype(int)
        solid = shape.tsdf(16, 0.05) < 0
        assert np.abs(color - shape.color_grid(16))[:, solid].mean() < 12


def test_wrong_sources_are_one_line_and_leave_nothing(tmp_path):
    def refused(source, **settings):
        with pytest.raises(MaquetteError) as caught:
            build_shards(BuildConfig(str(source), str(tmp_path / "out"), **{**SMALL, **settings}, workers=1))
        assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()
        return str(caught.value)

    assert "does not exist" in refused(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "holds no mesh files" in refused(tmp_path / "empty")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.glb").write_text("text")
    assert "none of the 1 mesh files" in refused(tmp_path / "bad")
    (tmp_path / "bad" / "manifest.jsonl").write_text("{broken\n")
    assert "line 1" in refused(tmp_path / "bad")
    with pytest.raises(MaquetteError, match="is not empty"):
        build_shards(BuildConfig("procedural", str(tmp_path / "bad"), **SMALL, count=1))


def boxes(folder, sizes):
    folder.mkdir(exist_ok=True)
    for name, size in sizes.items():
        (folder / f"{name}.ply").write_bytes(trimesh.creation.box(size).export(file_type="ply"))


def test_only_what_is_new_or_changed_is_done_again(tmp_path):
    source, out = tmp_path / "in", tmp_path / "out"
    sizes = {name: (1, 1 + number / 8, 2) for number, name in enumerate("bcdefg")}
    boxes(source, sizes)
    (source / "broken.stl").write_bytes(b"no mesh")
    config = BuildConfig(str(source), str(out), **{**SMALL, "thumbnails": 3}, shard_samples=3, workers=2)
    build_shards(config)
    times = json.loads((out / "throughput.json").read_text())
    assert times["grid"]["samples"] == 6
    boxes(source, {"a": (3, 1, 1), "e": (1, 3, 1)})
    (source / "g.ply").unlink()
    report = build_shards(config)
    assert (report.found, report.kept, report.quarantined) == (7, 6, 1)
    times = json.loads((out / "throughput.json").read_text())
    assert times["grid"]["samples"] == 2, "one file is new and one has changed"
    fresh = tmp_path / "fresh"
    build_shards(BuildConfig(str(source), str(fresh), **{**SMALL, "thumbnails": 3}, shard_samples=3, workers=1))
    assert hashes(out) == hashes(fresh)


def test_a_lost_shard_is_made_again(shards, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(shards, copy)
    lost = sorted(copy.glob("shard_*"))[1]
    lost.unlink()
    build_shards(BuildConfig("procedural", str(copy), **SHAPES))
    assert lost.is_file() and hashes(copy) == hashes(shards)
    times = json.loads((copy / "throughput.json").read_text())
    assert times["grid"]["samples"] == 10, "the others are taken over"


def test_a_file_that_changes_while_a_build_is_interrupted_is_done_again(tmp_path, monkeypatch):
    from maquette_data3d.building import build

    boxes(tmp_path / "in", {"a": (1, 1, 1), "b": (1, 2, 1)})
    config = BuildConfig(str(tmp_path / "in"), str(tmp_path / "out"), **SMALL, engine="serial")
    with monkeypatch.context() as broken:
        broken.setattr(build, "write_all", interrupted)
        with pytest.raises(KeyboardInterrupt):
            build_shards(config)
    boxes(tmp_path / "in", {"b": (1, 5, 1)})
    build_shards(config)
    build_shards(BuildConfig(str(tmp_path / "in"), str(tmp_path / "fresh"), **SMALL, engine="serial"))
    assert hashes(tmp_path / "out") == hashes(tmp_path / "fresh")


def test_copies_and_near_copies_are_found_and_stay_on_one_side(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    shape = trimesh.util.concatenate(
        [trimesh.creation.box((1, 1, 1)), trimesh.creation.icosphere(2, 0.4).apply_translation((0.9, 0.3, 0.2))]
    )
    turned = shape.copy().apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, (0, 1, 0)))
    shuffled = trimesh.Trimesh(shape.vertices, shape.faces[::-1], process=False)
    other = trimesh.creation.cylinder(0.2, 3)
    meshes = {"a": shape, "b": shuffled, "c": shape.subdivide(), "d": turned, "e": other}
    for name, mesh in meshes.items():
        (folder / f"{name}.ply").write_bytes(mesh.export(file_type="ply"))
    report = build_shards(BuildConfig(str(folder), str(tmp_path / "out"), **SMALL, held_out=0.5, engine="serial"))
    reader = ShardReader(tmp_path / "out")
    assert (report.kept, report.duplicates, report.near_duplicate_groups) == (5, 1, 1)
    assert list(reader.column("duplicate_of")) == ["", "a.ply", "", "", ""]
    assert list(reader.column("group")) == ["a.ply"] * 4 + ["e.ply"]
    sides = [reader.entry(number).split for number in range(5)]
    assert len(set(sides[:4])) == 1 and sides[4] != sides[0]
    dropped = {**SMALL, "duplicates": "drop", "near_duplicates": 1.0}
    report = build_shards(BuildConfig(str(folder), str(tmp_path / "less"), **dropped, engine="serial"))
    assert (report.kept, report.reasons) == (4, {"duplicate": 1})
    assert "a.ply" in next(report.files("quarantined"))["detail"]
    assert list(ShardReader(tmp_path / "less").column("group")) == ["a.ply", "c.ply", "d.ply", "e.ply"]


def test_filters_quarantine_with_the_figure(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "ball.ply").write_bytes(trimesh.creation.icosphere(3).export(file_type="ply"))
    (folder / "box.ply").write_bytes(trimesh.creation.box().export(file_type="ply"))
    (folder / "brick.ply").write_bytes(trimesh.creation.box((1, 2, 1)).subdivide().export(file_type="ply"))
    (folder / "plate.ply").write_bytes(trimesh.creation.box((1, 1, 0.002)).subdivide().export(file_type="ply"))
    filters = FilterConfig(min_faces=13, max_faces=1000, min_flatness=0.01)
    report = build_shards(BuildConfig(str(folder), str(tmp_path / "out"), **SMALL, filters=filters, engine="serial"))
    assert report.reasons == {"filtered": 3} and report.kept == 1
    assert {entry["file"]: entry["detail"] for entry in report.files("quarantined")} == {
        "ball.ply": "faces 1280 is more than 1000",
        "box.ply": "faces 12 is less than 13",
        "plate.ply": "flatness 0.002 is less than 0.01",
    }


STAND_IN = """
import maquette_data3d.building.process as process, os, signal, time
whole = process._Making.mesh_file
def tricky(self, path):
    if 'die' in path.name: os.kill(os.getpid(), signal.SIGKILL)
    if 'hang' in path.name: time.sleep(600)
    if 'eat' in path.name: bytearray(10**11)
    return whole(self, path)
process._Making.mesh_file = tricky
"""


@pytest.mark.parametrize("engine", ["local", {"name": "ray", "jobs": 3}])
def test_a_child_that_dies_or_hangs_loses_only_its_file(tmp_path, monkeypatch, engine):
    """A stand-in for the parser kills itself or sleeps at files of certain names."""
    if isinstance(engine, dict):
        pytest.importorskip("ray")
    package = tmp_path / "stand_in"
    package.mkdir()
    (package / "sitecustomize.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(str(package))
    monkeypatch.setenv("PYTHONPATH", str(package))
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a", "b-die", "c", "d-hang", "e", "f-eat", "g", "h-die"):
        (folder / f"{name}.ply").write_bytes(trimesh.creation.icosphere(2).export(file_type="ply"))
    limits = {"workers": 2, "deadline_s": 4, "memory_mb": 2000}
    report = build_shards(BuildConfig(str(folder), str(tmp_path / "out"), **SMALL, **limits, engine=engine))
    assert report.reasons == {"crashed": 2, "deadline": 1, "memory": 1} and report.kept == 4
    assert "signal 9" in str(list(report.files("quarantined")))


def test_a_child_that_ran_out_of_memory_is_given_no_further_file(tmp_path, monkeypatch):
    """An engine that hands over a few files at a time comes back while that child is still ending."""
    package = tmp_path / "stand_in"
    package.mkdir()
    (package / "sitecustomize.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(str(package))
    ball = trimesh.creation.icosphere(2).export(file_type="ply")
    jobs = []
    for number, name in enumerate(("a-eat", "b")):
        (tmp_path / f"{name}.ply").write_bytes(ball)
        item = Item(number, name, path=str(tmp_path / f"{name}.ply"))
        jobs.append(Job(item, str(tmp_path / f"{name}.safetensors")))
    with Pool(Recipe.of(BuildConfig("unused", "unused", **SMALL)), Limits(30.0, 2000)) as pool:
        reasons = [outcome.reason for job in jobs for outcome in pool.run([job])]
    assert reasons == ["memory", None]


CLINGING = """
import maquette_data3d.building.process as process, ctypes, os, pathlib
def clinging(self, path):
    pathlib.Path(path).with_suffix('.pid').write_text(str(os.getpid()))
    ctypes.PyDLL(None).sleep(600)  # holds Python's lock: no thread of the child can run
process._Making.mesh_file = clinging
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux to end children")
def test_children_go_with_their_parent_whatever_they_do(tmp_path):
    (tmp_path / "stand_in").mkdir()
    (tmp_path / "stand_in" / "sitecustomize.py").write_text(CLINGING)
    boxes(tmp_path / "in", {"a": (1, 1, 1)})
    program = "import sys; from maquette_data3d.data_command import data; data(sys.argv[1:], standalone_mode=False)"
    command = [sys.executable, "-c", program, "build", str(tmp_path / "in"), str(tmp_path / "out"), "workers=1"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "stand_in"), *sys.path])}
    parent = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    note = tmp_path / "in" / "a.pid"
    while parent.poll() is None and not (note.is_file() and note.read_text()):
        time.sleep(0.05)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    child = Path(f"/proc/{note.read_text()}/stat")
    for _ in range(200):
        if not child.exists() or child.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("the child outlived its parent")


def test_workers_that_cannot_start_are_one_line():
    recipe = Recipe.of(BuildConfig("procedural", "unused", **SMALL))
    with Pool(recipe, Limits(5.0, 1000)) as pool:
        pool.setup["recipe"]["nonsense"] = 1
        with pytest.raises(MaquetteError, match="worker processes do not start"):
            list(pool.run([Job(Item(0, "procedural/0/0"), "unused")]))


def test_copies_of_a_shape_stay_on_one_side():
    def outcome(number, key):
        return Outcome(number, content=hashlib.sha256(str(key).encode()).hexdigest())

    many = [outcome(n, n % 500) for n in range(1000)]
    sides = splits(many, [n % 500 for n in range(1000)], 0.1)
    assert sides[:500] == sides[500:] and 60 < sides.count("validation") < 140
    assert set(splits([outcome(0, 0), outcome(1, 1)], [0, 1], 0.1)) == {"train", "validation"}
    assert splits([outcome(0, 0)], [0], 0.1) == ["train"]
    assert set(splits(many, range(1000), 0.0)) == {"train"}
    different = [outcome(n, n) for n in range(1000)]  # in groups of five shapes that are alike
    sides = splits(different, [n // 5 for n in range(1000)], 0.1)
    assert all(len(set(sides[n : n + 5])) == 1 for n in range(0, 1000, 5))
    assert 40 < sides.count("validation") < 180, "large groups are held out no more often than small ones"


def test_held_out_pairs_are_a_split_of_their_own(tmp_path):
    config = BuildConfig(
        "procedural", str(tmp_path / "s"), **{**SMALL, "resolution": 32, "count": 120}, held_out_pairs=True
    )
    build_shards(config)
    reader = ShardReader(tmp_path / "s")
    unseen = {reader.entry(number).id for number in reader.split("unseen_pairs")}
    assert unseen == {f"procedural/0/{number}" for number in range(120) if drawn(number).held_out}
    assert 0 < len(unseen) < 60
    assert len(reader.split("train")) + len(reader.split("validation")) == len(reader) - len(unseen)


def test_paraphrases_are_stored_and_drawn_from(tmp_path):
    from maquette_data3d.stream.dataset import Shards, ShardsConfig

    build_shards(BuildConfig("procedural", str(tmp_path / "s"), **{**SMALL, "count": 3}, paraphrases=4, held_out=0))
    stream = Shards(ShardsConfig(str(tmp_path / "s"), batch_size=3, paraphrases=True))
    stream.setup()
    batches = stream.train_dataloader()
    seen = {}
    for batch, _ in zip(batches, range(30), strict=False):
        for name, caption in zip(batch["id"], batch["caption"], strict=True):
            seen.setdefault(name, set()).add(caption)
    assert seen == {f"procedural/0/{n}": set(drawn(n).captions(5)) for n in range(3)}


def test_a_url_gets_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MAQUETTE_CACHE", str(tmp_path / "cache"))
    build_shards(BuildConfig("procedural", (tmp_path / "far").as_uri(), **{**SMALL, "count": 4}, engine="serial"))
    build_shards(BuildConfig("procedural", str(tmp_path / "near"), **{**SMALL, "count": 4}, engine="serial"))
    assert hashes(tmp_path / "far") == hashes(tmp_path / "near")
    assert not list((tmp_path / "cache" / "builds").iterdir())


def test_the_command_builds_and_inspects(tmp_path):
    runner = CliRunner()
    out = str(tmp_path / "out")
    done = runner.invoke(data, ["build", "procedural", out, "count=8", "resolution=16", "points=64", "workers=1"])
    assert done.exit_code == 0 and "8 kept" in done.output
    seen = runner.invoke(data, ["inspect", out])
    assert seen.exit_code == 0 and "8 samples" in seen.output and "tsdf: float16 [1, 16, 16, 16]" in seen.output
    assert "every checksum holds" in runner.invoke(data, ["verify", out]).output
    for arguments, message in [
        (["build", "procedural", out + "2", "resolutoin=16"], "did you mean 'resolution'"),
        (["build", "procedural", out + "2", "resolution=17"], "multiple of 8"),
        (["build", str(tmp_path / "none"), out + "2"], "does not exist"),
        (["build", "procedural", out + "2", "features=[gird]"], "did you mean 'grid'"),
        (["build", "procedural", out + "2", "engine=rya"], "did you mean 'ray'"),
        (["build", "procedural", out + "2", "engine=5"], "engine 5 has no name"),
        (["build", "procedural", out + "2", "features=[3]"], "feature 3 has no name"),
        (["build", "procedural", out + "2", "features=[{name: views, lights: foo}]"], "studio, sun, flat"),
        (["build", "procedural", out + "2", "features=[{name: views, count: 0}]"], "count 0 is less than 1"),
        (["build", "procedural", out + "2", "features=[{name: surface, points: -3}]"], "points -3 is less than 1"),
        (["build", "procedural", out + "2", "features=[{name: grid, resolution: 7}]"], "multiple of 8"),
        (["build", "procedural", out + "2", "features=[{name: grid, precision: foo}]"], "float16, exact"),
        (["build", "procedural", "nope://place"], "Protocol not known"),
        (["inspect", str(tmp_path)], "holds no shards"),
    ]:
        failed = runner.invoke(data, arguments)
        assert isinstance(failed.exception, MaquetteError) and message in str(failed.exception)
    assert not Path(out + "2").exists()
    assert words.read_words(["a=1"]) == {"a": 1}


def test_real_models(real_models, tmp_path):
    names = sorted(p for p in real_models.rglob("*.glb"))[::120][:12]
    (tmp_path / "in").mkdir()
    for path in names:
        (tmp_path / "in" / path.name).symlink_to(path.resolve())
    report = build_shards(
        BuildConfig(str(tmp_path / "in"), str(tmp_path / "out"), 32, points=512, workers=2, thumbnails=4)
    )
    assert report.kept + report.quarantined == report.found == len({p.name for p in names})
    assert report.kept >= 0.9 * report.found
    reader = ShardReader(tmp_path / "out")
    for number in range(len(reader)):
        assert (reader.array(number, "tsdf") < 0).mean() > 1e-3
        points = reader.array(number, "surface").astype(np.float32)
        assert np.abs(points).max() < 0.5


def test_collections_stay_whole(tmp_path):
    packs = {f"a/{n}.obj": "one" for n in range(3)} | {f"b/{n}.obj": "one" for n in range(2)}
    packs |= {f"c/{n}.obj": "two" for n in range(4)} | {f"d/{n}.obj": "three" for n in range(6)}
    for number, name in enumerate(packs):
        path = tmp_path / "meshes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        trimesh.creation.box((1, 1 + number * 0.1, 0.4)).export(path)
    manifest = [json.dumps({"file": name, "pack": pack}) for name, pack in packs.items()]
    (tmp_path / "meshes" / "manifest.jsonl").write_text("\n".join(manifest))
    settings = {**SMALL, "held_out": 0.3, "near_duplicates": 1.0}
    for split_by, whole in (("pack", packs), ("folder", {name: name[0] for name in packs})):
        out = tmp_path / split_by
        build_shards(BuildConfig(str(tmp_path / "meshes"), str(out), **settings, split_by=split_by))
        reader = ShardReader(out)
        sides = {}
        for entry in map(reader.entry, range(len(reader))):
            sides.setdefault(whole[entry.id], set()).add(entry.split)
        assert all(len(side) == 1 for side in sides.values()), sides
        assert {side for (side,) in sides.values()} == {"train", "validation"}
        assert not verify(out), "groups of the index are whole collections"
        # What is split anew later does not divide them either.
        tools.split(out, {"train": 0.5, "validation": 0.5})
        again = {(whole[e.id], e.split) for e in map(ShardReader(out).entry, range(len(reader)))}
        assert len(again) == len(set(whole.values()))


def test_collections_are_held_out_by_their_share_of_the_samples():
    names = [f"pack {n // 10}" for n in range(1000)]
    sides = splits_of_collections([n // 10 * 10 for n in range(1000)], names, 0.2)
    assert sides.count("validation") == 200
    assert set(splits_of_collections([0, 0, 2], ["a", "a", "b"], 0.01)) == {"train", "validation"}
    assert splits_of_collections([0, 0], ["a", "a"], 0.5) == ["train", "train"]
    # A copy in another pack ties the two together.
    assert joined([0, 1, 2, 1], ["a", "a", "b", "b"]) == [0, 0, 0, 0]
    assert joined([0, 1, 0], ["", "", ""]) == [0, 1, 0]


def test_the_share_without_an_inside_is_noted(tmp_path):
    sheet = trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [1, 0, 1], [0, 0, 1.0]], [[0, 2, 1], [0, 3, 2]])
    box = trimesh.creation.box((1, 1, 1))
    for name, mesh in (("box", box), ("both", box + sheet.apply_translation([0, 2, 0]))):
        mesh.export(tmp_path / f"{name}.obj")
    build_shards(BuildConfig(str(tmp_path), str(tmp_path / "s"), **SMALL, held_out=0))
    reader = ShardReader(tmp_path / "s")
    areas = {entry.id: entry.attributes["open_area"] for entry in map(reader.entry, range(len(reader)))}
    assert areas == {"box.obj": 0.0, "both.obj": pytest.approx(1 / 7, abs=1e-3)}
