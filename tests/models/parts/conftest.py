"""A segmenter trained on toy tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.models.parts import toy_parts


@pytest.fixture(scope="session")
def parts_run(tmp_path_factory) -> Path:
    """A trained run."""
    return toy_parts.trained(tmp_path_factory.mktemp("parts") / "run")
