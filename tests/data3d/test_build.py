"""Building shards: counted, resumable at any kill, the same bytes however the work is shared."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file

from maquette import config as words
from maquette.errors import MaquetteError
from maquette_data3d import BuildConfig, ShardReader, build_shards
from maquette_data3d.data_command import data
from maquette_data3d.procedural import CLASSES
from tests.data3d.built_folders import SHAPES, SMALL, drawn, hashes, interrupted


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
