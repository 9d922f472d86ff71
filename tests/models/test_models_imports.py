"""Every module of the package imports, and every registered target exists."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys

import pytest

import maquette_models
from maquette import hookspecs, plugins

MODULES = [module.name for module in pkgutil.walk_packages(maquette_models.__path__, "maquette_models.")]


@pytest.mark.parametrize("name", MODULES)
def test_module_imports(name: str) -> None:
    assert importlib.import_module(name).__doc__


def own_entries() -> list[tuple[str, str]]:
    return [(kind, e.name) for kind in hookspecs.KINDS for e in plugins.registry(kind) if e.plugin == "models"]


def test_everything_is_registered() -> None:
    names = {name for _, name in own_entries()}
    assert {"grid_vae", "dit", "class_caption", "vae", "flow_matching", "latents", "euler", "heun"} <= names
    assert {"marching_cubes", "volume_iou", "f_score", "chamfer", "normal_consistency", "text_to_3d"} <= names


def test_targets_exist() -> None:
    for kind, name in own_entries():
        if kind == "commands":  # told by a line of help in the place of a config
            assert callable(plugins.lookup(kind, name).build)
            continue
        entry = plugins.lookup(kind, name)
        assert entry.config is not None
        assert callable(entry.build)


def test_plugin_module_imports_no_torch() -> None:
    code = "import sys, maquette_models.plugin; sys.exit('torch' in sys.modules or 'lightning' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
