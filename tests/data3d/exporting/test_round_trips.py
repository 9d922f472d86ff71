"""Random models, procedural shapes and real files through every format and back."""

from __future__ import annotations

import numpy as np
import pytest

from maquette.types import Asset
from maquette_data3d.ingest.read_asset import read_asset
from maquette_data3d.procedural import CLASSES, sample_shape
from tests.data3d.exporting import random_assets as assets


@pytest.fixture(scope="module")
def formats():
    """The module formats.py, where all that it reads with is installed."""
    for library in ("lib3mf", "pxr", "pygltflib", "ufbx", "yourdfpy", "mujoco", "meshopt"):
        pytest.importorskip(library)
    from tests.data3d.exporting import formats

    return formats


@pytest.mark.parametrize("seed", [10, 11])
def test_random_assets(seed, formats, tmp_path):
    assert formats.failures(assets.random_asset(seed), tmp_path) == {}


def test_a_generated_surface(formats, tmp_path):
    assert formats.failures(Asset(sample_shape(0, 5).mesh(20), {"prompt": "a chair"}), tmp_path) == {}


def test_real_files(formats, real_models, tmp_path):
    """A textured, a rigged and a plain one."""
    files = sorted(path for path in real_models.rglob("*.glb") if path.stat().st_size < 400_000)
    picked = [files[place] for place in np.linspace(0, len(files) - 1, 5).astype(int)]
    for file in picked:
        assert formats.failures(read_asset(file), tmp_path / file.stem) == {}, file


@pytest.mark.slow
def test_two_hundred_models(formats, real_models, tmp_path):
    """What benchmarks/export_round_trips.py measures, as a test: no format loses anything of any model."""
    random = np.random.default_rng(0)
    files = sorted(path for path in real_models.rglob("*") if path.suffix in (".glb", ".gltf", ".fbx", ".obj"))
    models = [read_asset(files[place]) for place in random.permutation(len(files))[:80]]
    models += [Asset(sample_shape(1, at, classes=CLASSES).mesh(24)) for at in range(60)]
    models += [assets.random_asset(seed) for seed in range(100, 160)]
    lost = {}
    for number, asset in enumerate(models):
        found = formats.failures(asset, tmp_path / str(number))
        lost |= {f"{number} {asset.metadata.get('source', '')}": found} if found else {}
    assert lost == {}
