"""What is released: five wheels that hold what they should, work together and alone, and name whose work is in them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.release_versions import RELEASED, needed

ROOT = Path(__file__).parents[1]
MODULES = {"core": "maquette", "kernels": "maquette_kernels", "data3d": "maquette_data3d",
           "models": "maquette_models", "serve": "maquette_serve"}  # fmt: skip
BELOW: dict[str, list[str]] = {"core": [], "kernels": ["core"], "data3d": ["core", "kernels"],
                               "models": ["core", "kernels"], "serve": ["core"]}  # fmt: skip


def build(package: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    subprocess.run(command, cwd=ROOT / "packages" / package, check=True, capture_output=True)
    (wheel,) = folder.glob(f"maquette_{package}-*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheels(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheels")
    return {package: build(package, folder) for package in MODULES}


@pytest.mark.parametrize("package", MODULES)
def test_a_wheel_holds_what_is_tracked_and_nothing_else(wheels, package):
    source = ROOT / "packages" / package / "src"
    listed = subprocess.run(["git", "ls-files", source], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    tracked = {str((ROOT / name).relative_to(source)) for name in listed.splitlines()}
    with zipfile.ZipFile(wheels[package]) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
        licences = [name for name in archive.namelist() if name.endswith("licenses/LICENSE")]
        text = archive.read(licences[0])
    assert held == tracked
    assert f"{MODULES[package]}/py.typed" in held
    assert text == (ROOT / "LICENSE").read_bytes()


def test_wheels_are_the_same_bytes_each_time(wheels, tmp_path):
    assert build("core", tmp_path).read_bytes() == wheels["core"].read_bytes()


def run_from_wheels(packages: list[str], wheels: dict[str, Path], folder: Path, code: str) -> str:
    """Python with these of our packages and no other, and everybody else's as installed."""
    for package in packages:
        with zipfile.ZipFile(wheels[package]) as archive:
            archive.extractall(folder)
    # -S: site-packages is on the path but its .pth files are not read, which would bring the checkout in.
    path = os.pathsep.join([str(folder), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    environment = {**os.environ, "PYTHONPATH": path}
    command = [sys.executable, "-S", "-c", code]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_all_five_work_together(wheels, tmp_path):
    code = "import sys; from maquette.cli import main; sys.argv = ['maquette', 'plugins']; main()"
    told = run_from_wheels(list(MODULES), wheels, tmp_path, code)
    assert "broken" not in told
    for plugin in MODULES:
        assert re.search(rf"{plugin}\s+\S+\s+maquette-{plugin}\s+ok", told), told


@pytest.mark.parametrize("package", MODULES)
def test_each_works_without_those_that_are_not_below_it(wheels, package, tmp_path):
    """Every name that it registers resolves, config and build, without a sibling or what is above."""
    code = f"""
import importlib
import importlib.util
from maquette import hookspecs, plugins
absent = {[MODULES[other] for other in MODULES if other not in (*BELOW[package], package)]!r}
assert not any(importlib.util.find_spec(name) for name in absent)
asked = 0
for kind in hookspecs.KINDS:
    for entry in plugins.registry(kind):
        if entry.plugin == {package!r}:
            assert callable(entry.build) and (kind == "commands" or entry.summary and entry.config), (kind, entry.name)
            asked += 1
assert asked
print(asked, importlib.import_module({MODULES[package]!r}).__file__)
"""
    told = run_from_wheels([*BELOW[package], package], wheels, tmp_path, code)
    assert str(tmp_path) in told


def test_versions_agree():
    version = tomllib.loads((ROOT / "packages/core/pyproject.toml").read_text())["project"]["version"]
    assert OmegaConf.load(ROOT / "CITATION.cff").version == version
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == version
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest and newest.group(1) == version


def test_everything_vendored_has_its_licence_and_is_named():
    """What came from elsewhere is minified script; each lies beside its licence and is told in NOTICE."""
    notice = (ROOT / "NOTICE").read_text()
    vendored = sorted((ROOT / "packages").rglob("*.min.js"))
    assert len(vendored) >= 2
    for file in vendored:
        stem = file.name.removesuffix(".min.js")
        licences = [path for path in file.parent.iterdir() if "LICENSE" in path.name and path.name.startswith(stem)]
        assert licences and str(file.relative_to(ROOT)) in notice, file


def test_the_released_versions_name_everything_that_is_needed():
    listed = re.findall(r"^([a-z0-9-]+)==\S+$", RELEASED.read_text(), re.MULTILINE)
    assert listed == list(needed()), "python tests/release_versions.py writes it anew"


def test_the_container_is_made_of_what_is_here_at_the_versions_that_were_tested():
    text = (ROOT / "Containerfile").read_text()
    for source in re.findall(r"^COPY (?!--from)(\S+)", text, re.MULTILINE):
        assert (ROOT / source).exists(), source
    assert re.findall(r"pip install -c /(\S+)", text) == [RELEASED.name]
    assert re.search(r"^ARG PYTHON=3\.\d+\.\d+-", text, re.MULTILINE), "an exact version of the interpreter"
