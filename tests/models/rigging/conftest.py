"""Shards of a few creatures and objects, and runs that have seen them for a moment."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from maquette.config import RunConfig, load, read_yaml
from maquette.runner import train
from maquette_data3d import BuildConfig, build_shards

CONFIGS = Path(__file__).parents[3] / "examples" / "configs"
FEATURES = [{"name": "surface", "points": 512, "skin": True}, {"name": "skeleton", "roles": True}]


@pytest.fixture(scope="session")
def rig_shards(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two folders: 16 creatures, and 6 objects that do not move."""
    folder, found = tmp_path_factory.mktemp("rigs"), []
    for name, count, classes in (("creatures", 16, ["creatures"]), ("objects", 6, ["furniture"])):
        settings = {"points": 512, "count": count, "classes": classes, "features": FEATURES, "thumbnails": 0}
        build_shards(BuildConfig("procedural", str(folder / name), 16, **settings, held_out=0.2, workers=1))
        found.append(str(folder / name))
    return found


@pytest.fixture(scope="session")
def rig_run(rig_shards: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs `skeleton` and `skin`, by the shipped configurations made small."""
    folder = tmp_path_factory.mktemp("runs")
    short = {"steps": 30, "validate_every": 0, "checkpoint_every": 30, "log_every": 10, "precision": "fp32"}
    small = {"width": 32, "heads": 2, "depth": 1}
    shape = {"name": "shape", "points": 256, "tokens": 16, "width": 32, "heads": 2, "depth": 1, "drop": 0}
    changes = {
        "skeleton": {
            "data": {"shards": rig_shards, "points": 256, "batch_size": 8, "joints": 16},
            "model": {**small, "conditioner": shape},
            "train": short,
        },
        "skin": {
            "data": {"shards": rig_shards[:1], "points": 256, "asked": 64, "batch_size": 4, "joints": 16},
            "model": {"width": 16, "heads": 2, "depth": 1, "pair": 16},
            "train": short,
        },
    }
    for name, change in changes.items():
        own = {**change, "folder": str(folder / name), "loggers": []}
        train(load(RunConfig, read_yaml(CONFIGS / f"{name}.yaml"), own))
    return folder


@pytest.fixture(scope="session")
def real_models() -> Path:
    """The folder of real models that MAQUETTE_MODELS names."""
    folder = os.environ.get("MAQUETTE_MODELS", "")
    if not folder or not Path(folder).is_dir():
        pytest.skip("MAQUETTE_MODELS names no folder of real models")
    return Path(folder)
