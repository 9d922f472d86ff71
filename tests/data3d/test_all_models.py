"""All real models at once: counted, killed and continued, one process, four, and Ray. Minutes long: make test-slow."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from maquette_data3d import BuildConfig, ShardReader, build_shards
from maquette_data3d.building.report import read_report

pytestmark = pytest.mark.slow
SETTINGS = {"resolution": 32, "points": 1024, "shard_samples": 128, "thumbnails": 64}
KILLS = 5
PROGRAM = "import sys; from maquette_data3d.data_command import data; data(sys.argv[1:], standalone_mode=False)"


def hashes(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.name not in ("report.html", "throughput.json")
    }


@pytest.fixture(scope="module")
def whole(real_models, tmp_path_factory):
    """One undisturbed build by one process."""
    out = tmp_path_factory.mktemp("models") / "whole"
    build_shards(BuildConfig(str(real_models), str(out), **SETTINGS, workers=1))
    return out


def test_every_model_is_kept_or_quarantined(whole, real_models):
    report = read_report(whole)
    found = sum(1 for path in real_models.rglob("*.glb"))
    assert report.kept + report.quarantined == report.found == found
    assert report.kept >= 0.99 * found
    reader = ShardReader(whole)
    for number in range(len(reader)):
        reader.verify(number)
    sides = {}
    for group, side in zip(reader.column("group"), reader.column("split"), strict=True):
        assert sides.setdefault(group, side) == side


def test_four_processes_give_the_same_bytes(whole, real_models, tmp_path):
    build_shards(BuildConfig(str(real_models), str(tmp_path / "four"), **SETTINGS, workers=4))
    assert hashes(tmp_path / "four") == hashes(whole)


def test_ray_gives_the_same_bytes(whole, real_models, tmp_path):
    pytest.importorskip("ray")
    build_shards(BuildConfig(str(real_models), str(tmp_path / "ray"), **SETTINGS, workers=2, engine="ray"))
    assert hashes(tmp_path / "ray") == hashes(whole)


@pytest.mark.skipif(sys.platform != "linux", reason="kills a process group")
def test_five_kills_change_no_byte(whole, real_models, tmp_path):
    out = tmp_path / "killed"
    words = [f"{key}={value}" for key, value in SETTINGS.items()]
    command = [sys.executable, "-c", PROGRAM, "build", str(real_models), str(out), *words, "workers=2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    log, total = out / ".work" / "log.jsonl", len(ShardReader(whole))
    chance = random.Random(5)
    for number in range(KILLS):
        target = int(total * (number + chance.random()) / KILLS)
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and not (log.is_file() and log.read_bytes().count(b'{"outcome"') >= target):
            time.sleep(0.05)
        assert process.poll() is None, "it was done before it could be killed"
        process.send_signal(signal.SIGKILL)
        process.wait()
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert hashes(out) == hashes(whole)
