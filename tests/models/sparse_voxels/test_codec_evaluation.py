"""The measure of what voxels keep, and real models, most of them open, through voxels and back."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from maquette.types import Mesh
from maquette_data3d import read_mesh
from maquette_models.sparse_voxels.codec_evaluation import evaluate_codec, likeness


def real_meshes(folder: Path, count: int) -> Iterator[Mesh]:
    """Every so many-th model, so that all packs are seen."""
    files = [json.loads(line)["file"] for line in (folder / "manifest.jsonl").read_text().splitlines()]
    for file in files[:: max(len(files) // count, 1)][:count]:
        yield read_mesh(folder / file)


def moved(mesh: Mesh, by: float) -> Mesh:
    return Mesh(mesh.vertices + np.array([0, by, 0], np.float32), mesh.faces, mesh.colors)


def test_likeness_tells_a_distance_and_a_color(meshes: SimpleNamespace) -> None:
    sheet = meshes.sheet()
    near, far = likeness(moved(sheet, 0.008), sheet, 2000), likeness(moved(sheet, 0.015), sheet, 2000)
    assert near.f_score[0.005] < 0.05 and near.f_score[0.01] == 1
    assert far.f_score[0.01] < 0.05 and far.f_score[0.02] == 1 and far.color < 0.01
    other = Mesh(sheet.vertices, sheet.faces, np.full_like(sheet.colors, 255))
    assert likeness(other, sheet, 500).color > 0.5


def test_what_is_missing_counts(meshes: SimpleNamespace) -> None:
    """Half a sheet finds itself in the whole one, but not the other way round."""
    whole = meshes.sheet()
    half = Mesh(whole.vertices, whole.faces[whole.vertices[whole.faces][:, :, 0].max(axis=1) <= 1e-6], whole.colors)
    assert 0.6 < likeness(half, whole, 4000).f_score[0.005] < 0.72  # precision 1, recall 1/2


def test_open_ones_are_told_apart(meshes: SimpleNamespace) -> None:
    figures = evaluate_codec([meshes.sheet(), meshes.sphere(0.3)], 48)
    assert (figures["open_share"].value, figures["open_share"].n) == (0.5, 2)
    assert figures["f_score@.01"].n == 2 and figures["open_f_score@.01"].n == 1
    assert figures["worst_f_score@.01"].value > 0.99


def test_a_few_real_models(real_models: Path) -> None:
    figures = evaluate_codec(real_meshes(real_models, 4), 128)
    assert figures["worst_f_score@.01"].value >= 0.99


@pytest.mark.slow
def test_a_hundred_open_real_models(real_models: Path) -> None:
    figures = evaluate_codec(real_meshes(real_models, 280), 256)
    assert figures["open_f_score@.01"].n >= 100
    assert figures["open_f_score@.01"].value >= 0.99
    assert figures["open_worst_f_score@.01"].value >= 0.98
    assert figures["open_color_error"].value <= 0.02
