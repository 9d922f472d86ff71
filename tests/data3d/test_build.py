"""Building shards: counted, resumable at any kill, the same bytes however the work is shared."""

from __future__ import annotations

import hashlib
import json
import os
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
from maquette_data3d.data_command import data
from maquette_data3d.procedural import CLASSES, sample_shape
from maquette_data3d.shards.assemble import splits
from maquette_data3d.shards.pool import Pool
from maquette_data3d.shards.process import Outcome, Settings

SMALL = {"resolution": 16, "points": 128}


def hashes(folder):
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(folder.rglob("*")) if p.is_file()}  # fmt: skip


def lines(folder):
    return [json.loads(line) for line in (folder / "index.jsonl").read_text().splitlines()]


def test_a_folder_holds_what_the_manual_says(shards):
    about = json.loads((shards / "shards.json").read_text())
    index = lines(shards)
    assert sorted(p.name for p in shards.iterdir()) == [
        "index.jsonl", "report.json", "shard_00000.safetensors", "shard_00001.safetensors",
        "shard_00002.safetensors", "shards.json"]  # fmt: skip
    assert about["classes"] == list(CLASSES) and about["samples"] == 24 and about["resolution"] == 16
    training = [entry["caption"] for entry in index if entry["split"] == "train"]
    assert about["vocabulary"] == sorted({w for c in training for w in c.lower().replace(",", "").split()})
    assert about["splits"] == {"train": len(training), "validation": 24 - len(training)} and len(training) < 24
    for number, entry in enumerate(index):
        assert (entry["shard"], entry["row"]) == (f"shard_{number // 10:05d}.safetensors", number % 10)
        assert entry["caption"] == sample_shape(0, number).caption
    first = load_file(shards / "shard_00000.safetensors")
    assert {k: (v.dtype.name, v.shape) for k, v in first.items()} == {
        "tsdf": ("float16", (10, 1, 16, 16, 16)), "color": ("uint8", (10, 3, 8, 8, 8)),
        "surface": ("float16", (10, 256, 3)), "normals": ("float16", (10, 256, 3)),
        "class_id": ("int64", (10,))}  # fmt: skip
    assert np.array_equal(first["tsdf"][3], sample_shape(0, 3).fields(16, 0.05, 256)["tsdf"])
    reader = ShardReader(shards)
    for number in range(len(reader)):
        reader.verify(number)


def test_workers_change_no_byte(shards, tmp_path):
    build_shards(BuildConfig("procedural", str(tmp_path / "s"), 16, points=256, count=24, shard_samples=10, workers=3))
    assert hashes(tmp_path / "s") == hashes(shards)


def test_building_again_does_nothing_and_other_settings_are_refused(shards):
    before = {p: p.stat().st_mtime_ns for p in shards.iterdir()}
    config = {"points": 256, "count": 24, "shard_samples": 10}
    assert build_shards(BuildConfig("procedural", str(shards), 16, **config)).kept == 24
    assert {p: p.stat().st_mtime_ns for p in shards.iterdir()} == before
    with pytest.raises(MaquetteError, match="other settings"):
        build_shards(BuildConfig("procedural", str(shards), 32, **config))


@pytest.mark.skipif(sys.platform != "linux", reason="kills a process group")
def test_a_build_that_is_killed_again_and_again_ends_with_the_same_bytes(tmp_path):
    settings = ["resolution=32", "points=512", "count=30", "shard_samples=7"]
    build_shards(BuildConfig("procedural", str(tmp_path / "whole"), 32, points=512, count=30, shard_samples=7))
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
        outcomes = tmp_path / "killed" / ".work" / "outcomes"
        while process.poll() is None and len(list(outcomes.glob("*.json"))) < target:
            time.sleep(0.01)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert kills >= 2
    assert hashes(tmp_path / "killed") == hashes(tmp_path / "whole")


def test_a_lost_sample_is_made_again(tmp_path, monkeypatch):
    from maquette_data3d.shards import build

    def interrupted(ledger, *arguments, **keywords):
        for path in sorted((ledger.folder / "samples").glob("*")):
            path.write_bytes(b"damaged")
        raise KeyboardInterrupt

    config = BuildConfig("procedural", str(tmp_path / "s"), 16, points=128, count=9, shard_samples=4, workers=1)
    real = build.assemble.Assembler._write
    monkeypatch.setattr(build.assemble.Assembler, "_write", lambda self: interrupted(self.ledger))
    with pytest.raises(KeyboardInterrupt):
        build_shards(config)
    monkeypatch.setattr(build.assemble.Assembler, "_write", real)
    build_shards(config)
    reader = ShardReader(tmp_path / "s")
    for number in range(9):
        reader.verify(number)


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
    assert {entry["file"] for entry in report.quarantined_files} == {"chair/notes.glb", "flat.obj", "nan.obj"}
    assert {"file": "wooden_crate-01.ply", "repairs": {"duplicate_faces": 2}} in report.repaired_files
    assert report.repaired == len(report.repaired_files) < report.kept
    assert json.loads((out / "report.json").read_text()) == report.plain()
    about = json.loads((out / "shards.json").read_text())
    assert about["classes"] == sorted({*CLASSES[:6], "object"})
    entries = {entry["id"]: entry for entry in lines(out)}
    crate = entries["wooden_crate-01.ply"]
    assert (crate["caption"], crate["class"]) == ("wooden crate 01", "object")
    content = (tmp_path / "in" / "wooden_crate-01.ply").read_bytes()
    assert crate["lineage"]["sha256"] == hashlib.sha256(content).hexdigest()
    assert crate["lineage"]["repairs"]["duplicate_faces"] == 2
    assert entries["table/table-00001.obj"]["caption"] == sample_shape(1, 1).caption
    assert not (out / ".work").exists()
    build_shards(BuildConfig(str(tmp_path / "in"), str(tmp_path / "again"), **SMALL, workers=3))
    assert hashes(tmp_path / "again") == hashes(out)


def test_ingested_procedural_files_agree_with_the_analytic_field(tmp_path):
    write_mesh_files(tmp_path / "in", 8, seed=2, resolution=96)
    build_shards(BuildConfig(str(tmp_path / "in"), str(tmp_path / "out"), 32, points=256, workers=2))
    reader = ShardReader(tmp_path / "out")
    for number, entry in enumerate(reader.entries):
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


def test_a_child_that_dies_or_hangs_loses_only_its_file(tmp_path, monkeypatch):
    """A stand-in for the parser kills itself or sleeps at files of certain names."""
    package = tmp_path / "stand_in"
    package.mkdir()
    (package / "sitecustomize.py").write_text(
        "import os, signal, sys, time\n"
        "sys.argv[0:1] == ['-m'] and None\n"
        "import maquette_data3d.shards.process as process\n"
        "whole = process._mesh_file\n"
        "def tricky(item, class_id, settings):\n"
        "    if 'die' in item.name: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    if 'hang' in item.name: time.sleep(600)\n"
        "    if 'eat' in item.name: bytearray(10**11)\n"
        "    return whole(item, class_id, settings)\n"
        "process._mesh_file = tricky\n"
    )
    monkeypatch.syspath_prepend(str(package))
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a", "b-die", "c", "d-hang", "e", "f-eat", "g", "h-die"):
        (folder / f"{name}.ply").write_bytes(trimesh.creation.icosphere(2).export(file_type="ply"))
    config = BuildConfig(str(folder), str(tmp_path / "out"), **SMALL, workers=2, deadline_s=4, memory_mb=2000)
    report = build_shards(config)
    assert report.reasons == {"crashed": 2, "deadline": 1, "memory": 1} and report.kept == 4
    assert "signal 9" in str(report.quarantined_files)


def test_workers_that_cannot_start_are_one_line(monkeypatch):
    settings = Settings(16, 0.05, 64, 0, 1000)
    monkeypatch.setattr(sys, "executable", sys.executable)
    pool = Pool(1, settings, True, 5.0, 1000)
    pool.setup["settings"]["nonsense"] = 1
    item = {"number": 0, "name": "procedural/0/0", "path": None, "caption": None, "class_name": None}
    with pytest.raises(MaquetteError, match="worker processes do not start"):
        list(pool.run([{"item": item, "class_id": None, "target": "unused"}]))


def test_copies_of_a_shape_stay_on_one_side():
    def outcome(number, key):
        return Outcome(number, content=hashlib.sha256(str(key).encode()).hexdigest())

    many = [outcome(n, n % 500) for n in range(1000)]
    sides = splits(many, 0.1)
    assert sides[:500] == sides[500:] and 60 < sides.count("validation") < 140
    assert set(splits([outcome(0, 0), outcome(1, 1)], 0.1)) == {"train", "validation"}
    assert splits([outcome(0, 0)], 0.1) == ["train"]
    assert set(splits(many, 0.0)) == {"train"}


def test_the_command_builds_and_inspects(tmp_path):
    runner = CliRunner()
    out = str(tmp_path / "out")
    done = runner.invoke(data, ["build", "procedural", out, "count=8", "resolution=16", "points=64", "workers=1"])
    assert done.exit_code == 0 and "8 kept" in done.output
    seen = runner.invoke(data, ["inspect", out, "--verify"])
    assert seen.exit_code == 0 and "8 samples" in seen.output and "every checksum holds" in seen.output
    for arguments, message in [
        (["build", "procedural", out + "2", "resolutoin=16"], "did you mean 'resolution'"),
        (["build", "procedural", out + "2", "resolution=17"], "multiple of 8"),
        (["build", str(tmp_path / "none"), out + "2"], "does not exist"),
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
    report = build_shards(BuildConfig(str(tmp_path / "in"), str(tmp_path / "out"), 32, points=512, workers=2))
    assert report.kept + report.quarantined == report.found == len({p.name for p in names})
    assert report.kept >= 0.9 * report.found
    reader = ShardReader(tmp_path / "out")
    for number in range(len(reader)):
        assert (reader.array(number, "tsdf") < 0).mean() > 1e-3
        points = reader.array(number, "surface").astype(np.float32)
        assert np.abs(points).max() < 0.5
