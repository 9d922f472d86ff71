"""A segmenter trained on toy tables."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def toy_parts() -> ModuleType:
    """The module toy_parts.py."""
    spec = importlib.util.spec_from_file_location("toy_parts", Path(__file__).with_name("toy_parts.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules["toy_parts"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def parts_run(toy_parts, tmp_path_factory) -> Path:
    """A trained run."""
    return toy_parts.trained(tmp_path_factory.mktemp("parts") / "run")
