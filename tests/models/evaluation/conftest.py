"""A small shard folder of two classes with a split of unseen pairs, and toy runs to measure on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from maquette_data3d import BuildConfig, build_shards
from tests.models import toy_shapes as toy

toy.install()


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("evaluation") / "shards"
    settings = {"resolution": 16, "points": 1024, "thumbnails": 0, "engine": "serial", "variety": 0.25}
    chosen = {"count": 48, "classes": ["chair", "car"], "held_out": 0.25, "held_out_pairs": True}
    build_shards(BuildConfig("procedural", str(folder), **settings, **chosen))
    return str(folder)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained `autoencoder` and a trained `flow`, of other shapes."""
    root = tmp_path_factory.mktemp("runs")
    toy.train_autoencoder(root / "autoencoder", steps=60)
    toy.train_flow(root / "flow", root / "autoencoder", steps=40)
    return root
