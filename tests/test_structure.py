"""The house stands as it is drawn: floors, imports, versions, and what listing plugins may cost."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import networkx
import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"core": "maquette", "kernels": "maquette_kernels", "data3d": "maquette_data3d",
            "models": "maquette_models", "serve": "maquette_serve"}  # fmt: skip


def project(package):
    return tomllib.loads((ROOT / "packages" / package / "pyproject.toml").read_text())["project"]


@pytest.mark.parametrize("name", PACKAGES.values())
def test_every_module_imports(name):
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, prefix=f"{name}."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def test_imports_go_down_the_floors_only():
    command = [Path(sys.executable).with_name("lint-imports"), "--config", "pyproject.toml", "--no-cache"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_neither_modules_nor_rooms_import_in_a_circle():
    """A room is a folder, or a module, directly below a package. Imports for type checkers alone do not count."""
    graph = grimp.build_graph(*PACKAGES.values(), exclude_type_checking_imports=True, cache_dir=None)
    modules, rooms = networkx.DiGraph(), networkx.DiGraph()
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            modules.add_edge(importer, imported)
            ends = [".".join(name.split(".")[:2]) for name in (importer, imported)]
            if ends[0] != ends[1]:
                rooms.add_edge(*ends)
    for drawn in (modules, rooms):
        assert [sorted(c) for c in networkx.strongly_connected_components(drawn) if len(c) > 1] == []


@pytest.mark.parametrize("command", [["ruff", "check", "."], ["mypy"]])
def test_linters_are_content(command):
    tool = Path(sys.executable).with_name(command[0])
    done = subprocess.run([tool, *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("package", PACKAGES)
def test_siblings_are_pinned_to_one_version(package):
    version = project("core")["version"]
    own = project(package)
    assert own["version"] == version
    for requirement in own["dependencies"]:
        if requirement.startswith("maquette-"):
            assert requirement.endswith(f"=={version}"), requirement
    module = (ROOT / "packages" / package / "src" / PACKAGES[package] / "__init__.py").read_text()
    assert f'__version__ = "{version}"' in module
    assert (ROOT / "packages" / package / "src" / PACKAGES[package] / "py.typed").exists()


def test_all_packages_are_found_and_listing_them_imports_nothing_heavy():
    code = (
        "import sys; from maquette.cli import run, cli; "
        "status = run(cli, ['plugins'], standalone_mode=False); "
        "heavy = [m for m in ('torch', 'lightning', 'trimesh', 'numba', 'scipy', 'triton') if m in sys.modules]; "
        "assert not heavy, heavy; sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for expected in ("data3d", "kernels", "models", "serve", "grid_vae", "flow_matching", "text_to_3d", ".glb"):
        assert expected in done.stdout
    assert "broken" not in done.stdout


def test_every_registered_name_resolves_and_is_documented():
    from maquette import hookspecs, plugins

    for kind in hookspecs.KINDS:
        for entry in plugins.registry(kind):
            if entry.plugin not in ("core", "kernels", "data3d", "models", "serve"):
                continue  # other tests have added it
            assert entry.summary, f"{kind} '{entry.name}' has no docstring"
            if kind != "commands":
                assert entry.config


def test_no_file_is_too_long_and_no_name_says_nothing():
    for file in (ROOT / "packages").rglob("*.py"):
        lines = len(file.read_text().splitlines())
        assert lines <= 300, f"{file.relative_to(ROOT)} has {lines} lines"
        assert file.stem not in {"utils", "util", "base", "manager", "common", "helpers", "misc"}, file
    for folder in ("tests", "benchmarks", "examples"):
        for file in (ROOT / folder).rglob("*.py"):
            assert len(file.read_text().splitlines()) <= 500, f"{file.relative_to(ROOT)} is too long to be one story"


def test_nothing_names_this_machine():
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    for name in tracked.splitlines():
        file = ROOT / name
        if file.suffix in {".py", ".md", ".toml", ".txt", ".yaml", ".yml"} and file != Path(__file__):
            assert not re.search(r"/(root|home)/[a-z]", file.read_text()), name
