"""Each wheel installs alone, with its declared dependencies only, and passes its own tests. Minutes: marked slow."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# What a package is built on must be installed with it: siblings are not on any index.
BELOW = {
    "core": [],
    "kernels": ["core"],
    "data3d": ["core", "kernels"],
    "models": ["core", "kernels"],
    "serve": ["core"],
}


@pytest.mark.slow
@pytest.mark.parametrize("package", BELOW)
def test_a_wheel_alone_passes_its_own_tests(package, tmp_path):
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    for name in (*BELOW[package], package):
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path]
        subprocess.run(build, cwd=ROOT / "packages" / name, check=True, capture_output=True)
    (own,) = tmp_path.glob(f"maquette_{package}-*.whl")
    below = [str(wheel) for wheel in tmp_path.glob("*.whl") if wheel != own]
    requirements = [*below, f"{own}[test]", "pytest", "pytest-xdist", "hypothesis"]
    install = [python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt", *requirements]
    subprocess.run(install, check=True)
    shared = ["-n", "auto", "--dist", "loadfile"]
    tests = [python, "-m", "pytest", "-q", *shared, "-c", ROOT / "pyproject.toml", f"--rootdir={ROOT}"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    done = subprocess.run(
        [*tests, ROOT / "tests" / package], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "passed" in done.stdout
