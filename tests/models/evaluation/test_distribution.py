"""Coverage, matching distance and 1-nearest-neighbour accuracy of clouds whose likeness is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from maquette import plugins
from maquette_models.evaluation.distribution import TRAINING, chamfer_matrix, clouds_figures, spread_out


def clouds(count: int, seed: int, center: float = 0.0) -> Tensor:
    """Balls of points around centres that are spread by 1."""
    generator = torch.Generator().manual_seed(seed)
    centers = torch.randn(count, 1, 3, generator=generator) + center
    return centers + 0.05 * torch.randn(count, 32, 3, generator=generator)


def test_chamfer_matrix_agrees_with_the_metric() -> None:
    a, b = clouds(3, 0), clouds(2, 1)
    matrix = chamfer_matrix(a, b)
    for i in range(3):
        for j in range(2):
            metric = plugins.build("metrics", {"name": "chamfer"})
            metric.update(a[i : i + 1], b[j : j + 1])
            assert matrix[i, j].item() == pytest.approx(metric.compute().item(), rel=1e-5)
    assert torch.allclose(chamfer_matrix(a, a), chamfer_matrix(a, a.clone()), atol=1e-6)


def test_the_same_spread_cannot_be_told_apart() -> None:
    found = clouds_figures(clouds(80, 0), clouds(80, 1), clouds(80, 2))
    low, high = found["nearest_neighbour_accuracy"].interval
    assert low < 0.55 and high > 0.45
    assert 0.4 < found["coverage"].value < 0.8, "as often as among equals"
    assert 0.4 < found["coverage"].beside[TRAINING] < 0.8


def test_others_are_told_apart() -> None:
    held_out, training = clouds(20, 1), clouds(20, 2)
    far = clouds_figures(clouds(20, 0, center=10.0), held_out, training)
    assert far["nearest_neighbour_accuracy"].value == 1
    assert far["minimum_matching_distance"].value > 10 > far["minimum_matching_distance"].beside[TRAINING]
    one = clouds_figures(held_out[:1].expand(20, -1, -1), held_out, training)
    assert one["coverage"].value == 1 / 20 and one["nearest_neighbour_accuracy"].value >= 0.95
    copies = clouds_figures(held_out.clone(), held_out, training)
    assert copies["coverage"].value == 1 and copies["nearest_neighbour_accuracy"].value == 0


def test_equally_many_are_compared() -> None:
    found = clouds_figures(clouds(30, 0), clouds(12, 1), clouds(5, 2))
    assert found["coverage"].n == 12 and found["nearest_neighbour_accuracy"].n == 24
    assert TRAINING not in found["coverage"].beside, "too few"
    assert spread_out(torch.arange(10), 5).tolist() == [0, 2, 4, 6, 8]
