"""Sampling of sparse voxels and of three planes against ``grid_sample`` and closed forms."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from maquette.errors import MaquetteError
from maquette_kernels.resolution import fixed
from maquette_kernels.sampling.functions import sample_sparse_trilinear, sample_triplane
from maquette_kernels.sampling.sample_sparse_trilinear import SAMPLE_SPARSE_TRILINEAR
from maquette_kernels.sampling.sample_triplane import SAMPLE_TRIPLANE

IMPLEMENTATIONS = ("reference", "cpu")
SIDE = 6


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def full_grid(corner: int = 0, batch: int = 1) -> Tensor:
    """Every voxel of a cube, in a random order."""
    axis = torch.arange(corner, corner + SIDE)
    coords = torch.cartesian_prod(torch.arange(batch), axis, axis, axis).int()
    return coords[torch.randperm(len(coords), generator=torch.Generator().manual_seed(1))]


def dense_samples(features: Tensor, coords: Tensor, points: Tensor) -> Tensor:
    """``grid_sample`` of voxels scattered over a grid; outside of it is zero."""
    grid = features.new_zeros(features.shape[1], SIDE, SIDE, SIDE)
    x, y, z = coords[:, 1:].long().unbind(1)
    grid[:, z, y, x] = features.T
    place = (2 * points + 1) / SIDE - 1
    samples = functional.grid_sample(grid[None], place.view(1, 1, 1, -1, 3), align_corners=False)
    return samples.view(features.shape[1], -1).T


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("share", [1.0, 0.3])
def test_sparse_samples_are_those_of_the_dense_grid(implementation: str, share: float) -> None:
    """With all voxels and with some, inside and outside; values and both gradients."""
    coords = full_grid()[: int(share * SIDE**3)]
    features = draw(len(coords), 5).requires_grad_()
    points = ((SIDE + 3) * draw(200, 3, seed=2) - 2).requires_grad_()
    above = draw(200, 5, seed=3)
    with fixed(SAMPLE_SPARSE_TRILINEAR, implementation):
        ours = sample_sparse_trilinear(features, coords, points)
        mine = torch.autograd.grad(ours, (features, points), above)
    peer = dense_samples(features, coords, points)
    theirs = torch.autograd.grad(peer, (features, points), above)
    torch.testing.assert_close((ours, *mine), (peer, *theirs))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("corner", [-3, -32768, 32767 - SIDE])
def test_a_linear_field_is_reproduced(implementation: str, corner: int) -> None:
    """On both sides of zero and at both ends of the coordinates; its slope is the gradient of the points."""
    coords = full_grid(corner)
    slope = torch.tensor([2.0, -3.0, 5.0], dtype=torch.float64)
    points = (corner + 1 + (SIDE - 3) * draw(50, 3)).requires_grad_()
    with fixed(SAMPLE_SPARSE_TRILINEAR, implementation):
        samples = sample_sparse_trilinear((coords[:, 1:].double() @ slope).unsqueeze(1), coords, points)
        gradient = torch.autograd.grad(samples.sum(), points)[0]
    torch.testing.assert_close(samples.squeeze(1), points.detach() @ slope)
    torch.testing.assert_close(gradient, slope.expand(50, 3), atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_one_voxel_spreads_over_one_unit(implementation: str) -> None:
    """The impulse is a product of three hats about its voxel, below zero too."""
    coords = torch.tensor([[0, -1, 2, -4]], dtype=torch.int32)
    points = coords[:, 1:] + 3 * draw(300, 3) - 1.5
    with fixed(SAMPLE_SPARSE_TRILINEAR, implementation):
        samples = sample_sparse_trilinear(torch.ones(1, 1, dtype=torch.float64), coords, points).squeeze(1)
    torch.testing.assert_close(samples, (1 - (points - coords[0, 1:]).abs()).clamp(min=0).prod(1))
    assert 20 < (samples > 0).sum() < 280


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_renormalised_constants_stay_constant(implementation: str) -> None:
    """Wherever any corner is there, and have no gradient; elsewhere there is zero."""
    coords = full_grid()[: SIDE**3 // 4]
    points = ((SIDE + 3) * draw(300, 3) - 2).requires_grad_()
    with fixed(SAMPLE_SPARSE_TRILINEAR, implementation):
        ones = torch.ones(len(coords), 1, dtype=torch.float64)
        present = sample_sparse_trilinear(ones, coords, points.detach()).squeeze(1) > 0
        samples = sample_sparse_trilinear(7 * ones, coords, points, renormalise=True).squeeze(1)
        gradient = torch.autograd.grad(samples.sum(), points)[0]
    torch.testing.assert_close(samples.detach(), torch.where(present, 7.0, 0.0).double())
    assert gradient.abs().max() < 1e-9
    assert 0 < present.sum() < 300


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_elements_of_a_batch_are_apart(implementation: str) -> None:
    """Equal coordinates in two elements; an element without voxels, and one below zero, give zero."""
    coords = full_grid(batch=2)
    features = coords[:, :1].double() + 1
    points = torch.full((4, 3), 2.5, dtype=torch.float64)
    with fixed(SAMPLE_SPARSE_TRILINEAR, implementation):
        samples = sample_sparse_trilinear(features, coords, points, torch.tensor([1, 0, 2, -1]))
    assert samples.squeeze(1).tolist() == [2.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_points_without_a_place_give_zero(implementation: str) -> None:
    """Values and gradients, while the others keep theirs."""
    odd = [float("nan"), float("inf"), -float("inf"), 1e30, -40000.0]
    points = torch.full((len(odd) + 1, 3), 2.5)
    points[: len(odd), 1] = torch.tensor(odd)
    points.requires_grad_()
    coords = full_grid()
    with fixed(SAMPLE_SPARSE_TRILINEAR, implementation):
        features = coords[:, 1:].float().requires_grad_()
        samples = sample_sparse_trilinear(features, coords, points)
        pulled = torch.autograd.grad(samples.sum(), (features, points))
    assert samples.tolist() == [[0.0] * 3] * len(odd) + [[2.5] * 3]
    assert pulled[0].sum() == 3
    torch.testing.assert_close(pulled[1], torch.tensor([[0.0] * 3] * len(odd) + [[1.0] * 3]))


def test_voxels_beyond_sixteen_bits_are_never_met() -> None:
    """Not even by points whose key they would share were it cut short."""
    coords = torch.tensor([[0, 0, 0, 65536], [0, 0, -65536, 0], [-1, 0, 0, 0], [0, 1, 0, 0]], dtype=torch.int32)
    for implementation in IMPLEMENTATIONS:
        with fixed(SAMPLE_SPARSE_TRILINEAR, implementation):
            points = torch.tensor([[0.0, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, -1], [1, 0, 0]])
            samples = sample_sparse_trilinear(torch.ones(4, 1), coords, points)
        assert samples.squeeze(1).tolist() == [0.0, 0.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize("threads", [1, 2])
def test_many_points_are_cut_into_chunks(threads: int) -> None:
    """More points and voxels than one chunk, in any number of threads: the same bits as by one thread."""
    coords = full_grid(batch=20)
    features, points = draw(len(coords), 3).float(), (SIDE * draw(5001, 3, seed=4)).float()
    batch = torch.randint(0, 20, (5001,), generator=torch.Generator().manual_seed(5))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        leaf = features.clone().requires_grad_()
        samples = sample_sparse_trilinear(leaf, coords, points, batch)
        gradient = torch.autograd.grad(samples.sum(), leaf)[0]
    finally:
        torch.set_num_threads(before)
    last = slice(4800, None)
    with fixed(SAMPLE_SPARSE_TRILINEAR, "reference"):
        torch.testing.assert_close(samples[last], sample_sparse_trilinear(features, coords, points[last], batch[last]))
    weights = sample_sparse_trilinear(torch.ones(len(coords), 1), coords, points, batch)
    torch.testing.assert_close(gradient.sum(0), weights.sum().expand(3), rtol=1e-4, atol=1e-2)


def plane_samples(planes: Tensor, points: Tensor, border: str) -> Tensor:
    """``grid_sample`` of xy, xz and yz, [B, P, 3, C]."""
    taken = []
    for plane, axes in enumerate(((0, 1), (0, 2), (1, 2))):
        grid = points[..., axes].unsqueeze(1)
        found = functional.grid_sample(planes[:, plane], grid, padding_mode=border, align_corners=False)
        taken.append(found.squeeze(2).transpose(1, 2))
    return torch.stack(taken, 2)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("clamp", [False, True])
@pytest.mark.parametrize("concat", [False, True])
@pytest.mark.parametrize("side", [1, 2, 7])
def test_plane_samples_are_those_of_grid_sample(implementation: str, clamp: bool, concat: bool, side: int) -> None:
    """Inside and outside; values and both gradients."""
    planes = draw(2, 3, 4, side, side).requires_grad_()
    points = (3 * draw(2, 100, 3, seed=6) - 1.5).requires_grad_()
    above = draw(2, 100, 12 if concat else 4, seed=7)
    with fixed(SAMPLE_TRIPLANE, implementation):
        ours = sample_triplane(planes, points, concat=concat, clamp=clamp)
        mine = torch.autograd.grad(ours, (planes, points), above)
    peer = plane_samples(planes, points, "border" if clamp else "zeros")
    peer = peer.flatten(2) if concat else peer.sum(2)
    theirs = torch.autograd.grad(peer, (planes, points), above)
    torch.testing.assert_close((ours, *mine), (peer, *theirs))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_each_plane_sees_its_axes(implementation: str) -> None:
    """One texel of one plane: width is the first axis of its name, height the second."""
    for plane, (across, down) in enumerate(((0, 1), (0, 2), (1, 2))):
        planes = torch.zeros(1, 3, 1, 4, 4)
        planes[0, plane, 0, 3, 1] = 1  # row 3, column 1
        points = torch.full((1, 1, 3), 9.0)
        points[0, 0, across], points[0, 0, down] = -0.25, 0.75  # centres of column 1 and row 3
        with fixed(SAMPLE_TRIPLANE, implementation):
            assert sample_triplane(planes, points).item() == 1
            assert sample_triplane(planes, points, concat=True)[0, 0].tolist() == [float(p == plane) for p in range(3)]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("clamp", [False, True])
def test_coordinates_that_are_no_numbers_give_zero(implementation: str, clamp: bool) -> None:
    """On both planes that they lie in; the third still counts."""
    planes = torch.ones(1, 3, 2, 4, 4, requires_grad=True)
    points = torch.tensor([[[0.1, 0.1, float("nan")], [float("nan")] * 3]], requires_grad=True)
    with fixed(SAMPLE_TRIPLANE, implementation):
        samples = sample_triplane(planes, points, concat=True, clamp=clamp)
        pulled = torch.autograd.grad(samples.sum(), (planes, points))
    torch.testing.assert_close(samples, torch.tensor([[[1.0, 1, 0, 0, 0, 0], [0.0] * 6]]))
    assert pulled[0].sum() == 2
    assert torch.equal(pulled[1], torch.zeros(1, 2, 3))


def test_channels_last_give_the_same() -> None:
    """Planes that need no copy."""
    planes, points = draw(2, 3, 5, 6, 6).float(), (2 * draw(2, 40, 3, seed=8) - 1).float()
    last = planes.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
    assert torch.equal(sample_triplane(last, points), sample_triplane(planes, points))


def test_a_field_is_fitted_by_moving_points_and_features() -> None:
    """End to end: gradient descent brings points onto a level of a linear field, and features onto values."""
    coords = full_grid()
    features = (coords[:, 1:].double().sum(1, keepdim=True)).requires_grad_(False)
    points = (1 + 3 * draw(20, 3)).requires_grad_()
    for _ in range(60):
        loss = (sample_sparse_trilinear(features, coords, points) - 7.5).square().sum()
        points = (points - 0.1 * torch.autograd.grad(loss, points)[0]).detach().requires_grad_()
    torch.testing.assert_close(points.sum(1), torch.full((20,), 7.5, dtype=torch.float64), atol=1e-4, rtol=0)


ROWS, VOXELS, POINTS = torch.ones(4, 2), torch.zeros(4, 4, dtype=torch.int32), torch.zeros(5, 3)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: sample_sparse_trilinear(ROWS, VOXELS[:3], POINTS), r"coords must be int32 \[4, 4\]"),
        (lambda: sample_sparse_trilinear(ROWS, VOXELS.float(), POINTS), "coords must be int32"),
        (lambda: sample_sparse_trilinear(ROWS.int(), VOXELS, POINTS), "features must be floating"),
        (lambda: sample_sparse_trilinear(ROWS, VOXELS, POINTS.bfloat16()), "points must be float32"),
        (lambda: sample_sparse_trilinear(ROWS, VOXELS, POINTS, torch.zeros(4).int()), r"batch must be int32 \[5\]"),
        (lambda: sample_triplane(torch.ones(1, 3, 2, 4, 5), POINTS[None]), "planes must be"),
        (lambda: sample_triplane(torch.ones(1, 3, 2, 0, 0), POINTS[None]), "no texels"),
        (lambda: sample_triplane(torch.ones(2, 3, 2, 4, 4), POINTS[None]), r"points must be \[2, P, 3\]"),
        (lambda: sample_triplane(torch.ones(1, 3, 2, 4, 4), POINTS[None].half()), "points float32"),
        (lambda: sample_triplane(torch.empty(1, 3, 0, 32768, 32768), POINTS[None]), "split the batch"),
    ],
)
def test_wrong_calls_are_told_in_one_line(call: Callable[[], Tensor], told: str) -> None:
    with pytest.raises(MaquetteError, match=told) as raised:
        call()
    assert "\n" not in str(raised.value)
