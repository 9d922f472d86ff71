"""Toy shapes with paint, and runs trained on them, for the tests of this folder."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def toy_paints() -> ModuleType:
    """The plugin beside this file; its dataset is `toy_paints`."""
    spec = importlib.util.spec_from_file_location("toy_paints", Path(__file__).with_name("toy_paints.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules["toy_paints"] = module
    spec.loader.exec_module(module)
    module.install()
    return module


@pytest.fixture(scope="session")
def toy_runs(tmp_path_factory: pytest.TempPathFactory, toy_paints: ModuleType) -> Path:
    """A folder with the runs `autoencoder` and `flow`."""
    root = tmp_path_factory.mktemp("paint")
    toy_paints.train_all(root)
    return root
