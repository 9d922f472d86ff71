"""Where the real models are."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def real_models():
    """The folder that MAQUETTE_MODELS names."""
    folder = os.environ.get("MAQUETTE_MODELS")
    if not folder:
        pytest.skip("MAQUETTE_MODELS names no folder of models")
    return Path(folder)
