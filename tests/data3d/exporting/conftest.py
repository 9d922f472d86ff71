"""Assets of every kind, and what one asset and its copy have to share."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

import pytest


def _loaded(name):
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def module():
    """Gives a module of this folder by its name."""
    return functools.lru_cache(_loaded)


@pytest.fixture(scope="session")
def assets():
    """The module random_assets.py."""
    return _loaded("random_assets")


@pytest.fixture(scope="session")
def copies():
    """The module copies.py."""
    return _loaded("copies")
