"""Toy surfaces, registered for the tests of this folder."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def toy_surfaces() -> ModuleType:
    """The plugin, its dataset registered as `toy_surfaces`."""
    spec = importlib.util.spec_from_file_location("toy_surfaces", Path(__file__).with_name("toy_surfaces.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules["toy_surfaces"] = module
    spec.loader.exec_module(module)
    module.install()
    return module
