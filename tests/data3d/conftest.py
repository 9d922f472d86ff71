"""Small shard folders and the folder of real models that several tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from maquette_data3d import BuildConfig, build_shards


@pytest.fixture(scope="session")
def shards(tmp_path_factory):
    """24 procedural shapes at a small resolution."""
    out = tmp_path_factory.mktemp("procedural") / "shards"
    config = {"points": 256, "count": 24, "shard_samples": 10, "thumbnails": 2}
    build_shards(BuildConfig("procedural", str(out), 16, **config, workers=1))
    return out


@pytest.fixture(scope="session")
def real_models():
    """The folder of real models that MAQUETTE_MODELS names."""
    folder = os.environ.get("MAQUETTE_MODELS", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("MAQUETTE_MODELS names no folder of real models")
    return Path(folder)
