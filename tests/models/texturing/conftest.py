"""Toy shapes with paint, and runs trained on them, for the tests of this folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.models.texturing import toy_paints


@pytest.fixture(scope="session")
def toy_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs `autoencoder` and `flow`."""
    root = tmp_path_factory.mktemp("paint")
    toy_paints.install()
    toy_paints.train_all(root)
    return root
