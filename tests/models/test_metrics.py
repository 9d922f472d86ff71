"""Metrics against values worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from maquette import plugins
from maquette.errors import MaquetteError
from maquette.types import Mesh
from maquette_models.metrics.occupancy import Occupancy, packed, unpacked
from maquette_models.metrics.volume_iou import pairwise_iou
from maquette_models.surface_points import surface_points


def metric(name: str, **settings: object):
    return plugins.build("metrics", {"name": name, **settings})


def box(start: int, stop: int, resolution: int = 8) -> Tensor:
    """A tsdf [1,1,R,R,R] that is inside for start <= x < stop."""
    field = torch.ones(1, 1, resolution, resolution, resolution)
    field[:, :, start:stop] = -1
    return field


def test_volume_iou_by_hand() -> None:
    own = metric("volume_iou")
    own.update(box(0, 4), box(2, 6))  # 2 of 6 slices
    own.update(torch.cat([box(0, 4), box(0, 2)]), torch.cat([box(0, 4), box(4, 6)]))
    assert own.compute().item() == pytest.approx((2 / 6 + 1 + 0) / 3)
    empty = metric("volume_iou")
    empty.update(torch.ones(1, 1, 4, 4, 4), torch.ones(1, 1, 4, 4, 4))
    assert empty.compute().item() == 1


def test_pairwise_iou_agrees_with_pairs() -> None:
    torch.manual_seed(0)
    a, b = torch.rand(3, 64) < 0.5, torch.rand(2, 64) < 0.3
    pairs = pairwise_iou(a, b)
    for i in range(3):
        for j in range(2):
            assert pairs[i, j].item() == pytest.approx(((a[i] & b[j]).sum() / (a[i] | b[j]).sum()).item())


def test_packing_is_lossless() -> None:
    occupied = torch.rand(3, 512) < 0.5
    assert torch.equal(unpacked(packed(occupied)), occupied)
    assert Occupancy(4)(box(0, 4)).view(4, 4, 4)[:, 0, 0].tolist() == [True, True, False, False]


POINTS = torch.tensor([[[0.0, 0, 0], [1, 0, 0]]])
MOVED = torch.tensor([[[0.0, 0, 0.1], [1, 0, 0], [1, 0, 0.3]]])


def test_chamfer_by_hand() -> None:
    own = metric("chamfer")
    own.update(POINTS, MOVED)
    assert own.compute().item() == pytest.approx(((0.1 + 0) / 2 + (0.1 + 0 + 0.3) / 3) / 2)


def test_f_score_by_hand() -> None:
    own = metric("f_score", tau=0.2)
    own.update(POINTS, MOVED)
    precision, recall = 1.0, 2 / 3
    assert own.compute().item() == pytest.approx(2 * precision * recall / (precision + recall))
    far = metric("f_score", tau=0.01)
    far.update(POINTS, POINTS + 1)
    assert far.compute().item() == 0
    with pytest.raises(MaquetteError, match="tau"):
        metric("f_score", tau=0.0)


def test_normal_consistency_by_hand() -> None:
    up, side = torch.tensor([0.0, 1, 0]), torch.tensor([0.6, 0.8, 0])
    normals = torch.stack([up, up])[None]
    other = torch.stack([side, -up, up])[None]
    for signed, expected in (
        (False, ((0.8 + 1) / 2 + (0.8 + 1 + 1) / 3) / 2),
        (True, ((0.8 - 1) / 2 + 0.8 / 3) / 2),
    ):
        own = metric("normal_consistency", signed=signed)
        own.update(POINTS, normals, MOVED, other)
        assert own.compute().item() == pytest.approx(expected)


def test_diversity_by_hand() -> None:
    own = metric("diversity", resolution=8)
    tsdf = torch.cat([box(0, 4), box(2, 6), box(0, 4), box(0, 4), box(7, 8)])
    own.update(tsdf, torch.tensor([0, 0, 1, 1, 2]))
    assert own.compute().item() == pytest.approx(((1 - 2 / 6) + 0) / 2)
    alone = metric("diversity", resolution=8)
    alone.update(box(0, 4), torch.tensor([0]))
    assert math.isnan(alone.compute().item())


def colored(*codes: tuple[int, int, int]) -> Mesh:
    """One square a colour, all of one area."""
    corner = np.array([[0, 0, 0], [0.1, 0, 0], [0.1, 0.1, 0], [0, 0.1, 0]], np.float32)
    vertices = np.concatenate([corner + np.float32([0, 0, 0.1 * i]) for i in range(len(codes))])
    faces = np.concatenate([np.array([[0, 1, 2], [0, 2, 3]]) + 4 * i for i in range(len(codes))])
    colors = np.repeat(np.array([[*code, 255] for code in codes], np.uint8), 4, axis=0)
    return Mesh(vertices, faces, colors)


def test_color_accuracy() -> None:
    red, blue, dark = (207, 58, 52), (59, 111, 196), (37, 37, 43)
    own = metric("color_accuracy")
    assert own.shares(colored(red, blue, red, red))["red"] == pytest.approx(0.75)
    own.update(colored(red, dark), "a tall red chair")
    own.update(colored(blue), "a red chair")
    own.update(colored(blue), "a chair")
    assert own.compute().item() == pytest.approx(0.5)
    with pytest.raises(MaquetteError, match="colors"):
        own.update(Mesh(np.zeros((3, 3)), np.array([[0, 1, 2]])), "a red chair")
    with pytest.raises(MaquetteError, match="hexadecimal"):
        metric("color_accuracy", palette={"red": "rouge!"})


def test_surface_points_are_even_and_on_the_surface() -> None:
    vertices = np.array(
        [[0, 0, 0], [0.3, 0, 0], [0.3, 0.1, 0], [0, 0.1, 0], [0, 0, 0.1], [0.1, 0, 0.1], [0.1, 0.1, 0.1]]
    )
    mesh = Mesh(vertices, np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6]]))
    points, normals = surface_points(mesh, 4000)
    low = points[:, 2] == 0
    assert low.float().mean().item() == pytest.approx(0.03 / 0.035, abs=0.03)
    assert torch.isin(points[:, 2], torch.tensor([0.0, 0.1])).all()
    torch.testing.assert_close(normals, torch.tensor([[0.0, 0, 1]]).expand(4000, 3))
    assert points[low][:, 0].mean().item() == pytest.approx(0.15, abs=0.01)
    assert torch.equal(points, surface_points(mesh, 4000)[0])
    with pytest.raises(MaquetteError, match="area"):
        surface_points(Mesh(np.zeros((3, 3)), np.array([[0, 1, 2]])), 10)
