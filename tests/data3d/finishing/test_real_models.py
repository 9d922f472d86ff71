"""Finishing on real models: a sample in ordinary tests, every one in the slow test."""

import numpy as np
import pytest

from maquette.assets import import_asset
from maquette.finishing import finish
from maquette.types import Asset, Mesh
from maquette_data3d.finishing.selection import areas

SAMPLE = 15


def _checked(mesh: Mesh) -> None:
    assert len(mesh.faces)
    assert np.isfinite(mesh.vertices).all()
    assert areas(mesh.vertices, mesh.faces).sum() > 0
    if mesh.skin is not None:
        total = mesh.skin.weights.sum(1)
        assert ((np.abs(total - 1) < 1e-4) | (total == 0)).all()


def _tenth_and_unwrapped(asset: Asset) -> None:
    before = asset.mesh
    fewer = finish(asset, [{"name": "decimate", "share": 0.1}]).mesh
    _checked(fewer)
    assert len(fewer.faces) <= max(np.ceil(len(before.faces) * 0.1), 4)
    assert fewer.materials == before.materials
    unwrapped = finish(asset, ["unwrap"]).mesh
    assert unwrapped.uv.min() >= 0
    assert unwrapped.uv.max() <= 1
    assert (unwrapped.faces == before.faces).all()


def _files(folder):
    files = sorted(folder.rglob("*.glb"))
    assert files
    return files


def test_a_sample_of_real_models_goes_through(real_models) -> None:
    files = _files(real_models)
    for path in files[:: len(files) // SAMPLE][:SAMPLE]:
        asset = import_asset(path)
        _tenth_and_unwrapped(asset)
        _checked(
            finish(asset, [{"name": "repair", "inner_shells": True}, "origin", {"name": "units", "size_m": 1.0}]).mesh
        )


@pytest.mark.slow
def test_every_real_model_goes_through(real_models) -> None:
    for path in _files(real_models):
        _tenth_and_unwrapped(import_asset(path))
