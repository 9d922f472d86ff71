"""Toy surfaces and a toy autoencoder, registered for the tests of this folder."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def installed(name: str) -> ModuleType:
    """The plugin in the file of that name beside this one."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    module.install()
    return module


@pytest.fixture(scope="session")
def toy_surfaces() -> ModuleType:
    """Its dataset is `toy_surfaces`."""
    return installed("toy_surfaces")


@pytest.fixture(scope="session")
def toy_autoencoder() -> ModuleType:
    """Its architecture is `toy_autoencoder`."""
    return installed("toy_autoencoder")
