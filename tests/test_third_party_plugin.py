"""A stranger's package is installed like any other, and trains, with maquette's own code untouched."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def install(package: Path, site: Path) -> dict[str, str]:
    """Install a package into a folder of its own; gives the environment in which it is found."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", site]
    done = subprocess.run([*pip, package], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}


def maquette(environment: dict[str, str], folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "maquette.cli", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def test_the_example_plugin_is_installed_and_trained(tmp_path):
    source = ROOT / "examples" / "plugins" / "maquette-terrain"
    environment = install(source, tmp_path / "site")
    listed = maquette(environment, tmp_path, "plugins").stdout
    assert "maquette-terrain" in listed and "mixer_vae (terrain)" in listed and "terrain (terrain)" in listed
    shown = maquette(environment, tmp_path, "show", "architecture", "mixer_vae").stdout
    assert "latent_channels" in shown
    done = maquette(
        environment, tmp_path, "train", str(source / "train.yaml"), "train.steps=60", "train.validate_every=20"
    )
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "runs" / "terrain" / "result.json").read_text())
    with (tmp_path / "runs/terrain/logs/csv/version_0/metrics.csv").open(newline="") as rows:
        losses = [float(row["validation/loss"]) for row in csv.DictReader(rows) if row["validation/loss"]]
    assert result["step"] == 60 and len(losses) == 3 and losses[-1] < 0.9 * losses[0]


def test_the_examples_of_the_plugin_keep_their_promises(tmp_path):
    environment = install(ROOT / "examples" / "plugins" / "maquette-terrain", tmp_path / "site")
    code = """
from maquette import plugins
from maquette.testing import check_architecture, check_dataset
block = {"name": "terrain", "batch_size": 2}
check_dataset(lambda: plugins.build("datasets", block))
model = plugins.build("architectures", {"name": "mixer_vae"})
check_architecture(model, plugins.build("objectives", {"name": "vae"}), plugins.build("datasets", block).batch(0))
"""
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["my-shapes"])
def test_what_maquette_new_writes_is_installed_and_passes_its_own_tests(tmp_path, name):
    done = maquette(dict(os.environ), tmp_path, "new", name)
    assert done.returncode == 0, done.stderr
    package = tmp_path / f"maquette-{name}"
    environment = install(package, tmp_path / "site")
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "tests"],
        cwd=package,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert tests.returncode == 0, tests.stdout
    assert "4 passed" in tests.stdout


@pytest.mark.parametrize(
    ("name", "message"), [("3d", "cannot name a Python package"), ("a b", "cannot name"), ("", "cannot")]
)
def test_maquette_new_refuses_what_cannot_be_a_name(tmp_path, name, message):
    done = maquette(dict(os.environ), tmp_path, "new", name)
    assert done.returncode == 1 and message in done.stderr and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_maquette_new_does_not_overwrite(tmp_path):
    maquette(dict(os.environ), tmp_path, "new", "once")
    done = maquette(dict(os.environ), tmp_path, "new", "once")
    assert done.returncode == 1 and "exists already" in done.stderr
