"""Flexible dual grids beyond the generic test: closed forms, round trips, batches, gradients that move a surface."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from maquette.errors import MaquetteError
from maquette_kernels.dual_grid.dual_grid_encode.operation import workload
from maquette_kernels.dual_grid.functions import dual_grid_decode, dual_grid_encode

CORNERS = torch.tensor(list(itertools.product((0, 1), repeat=3)))
# Sides of a cube with corners as above, each turned outwards.
SIDES = torch.tensor([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])


def box(size: tuple[float, ...], middle: tuple[float, ...] = (0.0, 0.0, 0.0)) -> tuple[Tensor, Tensor]:
    """Vertices float64 [8, 3] and faces int32 [12, 3]."""
    vertices = (CORNERS - 0.5) * torch.tensor(size, dtype=torch.float64) + torch.tensor(middle, dtype=torch.float64)
    return vertices, SIDES[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3).int()


def ball() -> tuple[Tensor, Tensor]:
    """A closed ball of radius .45, whose poles and seam are welded."""
    vertices, faces, _ = workload(torch.device("cpu"), torch.float64)
    unique, place = torch.unique((vertices * 1e9).round().long(), dim=0, return_inverse=True)
    faces = place[faces.long()]
    kept = (faces != faces.roll(1, 1)).all(1)
    return unique / 1e9, faces[kept].int()


def volume(vertices: Tensor, faces: Tensor) -> float:
    """Enclosed by outward faces."""
    a, b, c = vertices.double()[faces.long()].unbind(1)
    return (torch.linalg.det(torch.stack([a, b, c], 1)).sum() / 6).item()


def sides_in_use(faces: Tensor) -> Tensor:
    """How often each directed side of a face is met by one that runs the other way; 0 where it is a border."""
    ends = torch.stack([faces, faces.roll(-1, 1)], 2).reshape(-1, 2).long()
    there, back = ends[:, 0] * 2**31 + ends[:, 1], ends[:, 1] * 2**31 + ends[:, 0]
    return (there[:, None] == back).sum(1) if len(there) < 5000 else torch.isin(there, back).long()


def round_trip(vertices: Tensor, faces: Tensor, resolution: int) -> tuple[Tensor, Tensor]:
    """Decoded vertices and faces."""
    voxels, points, edges, signs = dual_grid_encode(vertices, faces, resolution)
    return dual_grid_decode(voxels, points, edges, signs, resolution=resolution)[:2]


def test_a_plane_has_its_points_on_it_and_crosses_one_axis():
    sheet = torch.tensor([[-0.6, -0.6, 0.1], [0.6, -0.6, 0.1], [0.6, 0.6, 0.1], [-0.6, 0.6, 0.1]])
    voxels, points, edges, signs = dual_grid_encode(sheet, torch.tensor([[0, 1, 2], [0, 2, 3]]), 5)
    assert torch.equal(voxels, torch.cartesian_prod(torch.arange(5), torch.arange(5), torch.tensor([3])).int())
    assert edges[:, 2].all() and not edges[:, :2].any() and torch.equal(signs, edges)
    # It is at height (.1 + .5) * 5 = 3 and is moved by 2.3e-6; the other coordinates are those of the mean.
    assert torch.allclose(points, torch.tensor([0.5, 0.5, 2.3e-6]).expand(25, 3), atol=2e-5)


@pytest.mark.parametrize("resolution", [7, 16, 33])
def test_a_closed_box_stays_closed_and_sharp(resolution):
    vertices, faces = box((0.75, 0.53, 0.31), (0.02, -0.03, 0.05))
    found, cut = round_trip(vertices, faces, resolution)
    assert (sides_in_use(cut) == 1).all()
    assert abs(volume(found, cut) / volume(vertices, faces) - 1) < 1e-3
    assert torch.cdist(vertices, found.double()).amin(1).max() < 0.02 / resolution


def test_a_ball_is_kept_within_a_fraction_of_a_voxel_and_a_bowl_stays_open():
    vertices, faces = ball()
    found, cut = round_trip(vertices, faces, 48)
    assert (sides_in_use(cut) > 0).all() and abs(volume(found, cut) / volume(vertices, faces) - 1) < 2e-3
    assert (found.norm(dim=1) - 0.45).abs().max() < 0.1 / 48
    bowl = faces[vertices[faces.long()].mean(1)[:, 2] < 0]
    found, cut = round_trip(vertices, bowl, 48)
    assert (sides_in_use(cut) == 0).sum() > 50
    assert abs(found[:, 2].max().item() - vertices[bowl.long().unique(), 2].max().item()) < 0.2 / 48


def test_what_is_inside_survives():
    outer, faces = box((0.8, 0.8, 0.8))
    inner, _ = box((0.31, 0.31, 0.31))
    found, cut = round_trip(torch.cat([outer, inner]), torch.cat([faces, faces + 8]), 24)
    assert (sides_in_use(cut) == 1).all()
    assert abs(volume(found, cut) - 0.8**3 - 0.31**3) < 1e-3
    assert (found.abs().amax(1) < 0.2).any()


def test_a_border_draws_points_to_it():
    sheet = torch.tensor([[-0.4, -0.4, 0.01], [0.23, -0.4, 0.01], [0.23, 0.4, 0.01], [-0.4, 0.4, 0.01]])
    voxels, points, _, _ = dual_grid_encode(sheet, torch.tensor([[0, 1, 2], [0, 2, 3]]), 10)
    rim = voxels[:, 0] == 7
    assert rim.any() and ((points[rim, 0] - 0.3).abs() < 0.01).all()


def test_edges_may_be_logits_and_batches_lie_beside_each_other():
    vertices, faces = box((0.6, 0.5, 0.4))
    voxels, points, edges, signs = dual_grid_encode(vertices, faces, 8)
    single = dual_grid_decode(voxels, points, edges, signs, resolution=8)
    batch = torch.arange(2).repeat_interleave(len(voxels)).int()[:, None]
    twice = [torch.cat([t, t]) for t in (points, edges.float() - 0.5, signs.float() - 0.5)]
    found, cut, sources = dual_grid_decode(torch.cat([batch, voxels.repeat(2, 1)], 1), *twice, resolution=8)
    owner = batch[sources.long(), 0]
    assert len(found) == 2 * len(single[0]) and len(cut) == 2 * len(single[1])
    for element in (0, 1):
        assert torch.equal(found[owner == element], single[0])
        mine = cut[owner[cut[:, 0].long()] == element]
        assert torch.equal(mine - element * len(single[0]), single[1])


def test_split_weights_choose_the_diagonal_and_blend_towards_it():
    voxels = torch.tensor([[0, 0, 0], [0, 0, 1], [0, 1, 0], [0, 1, 1]], dtype=torch.int32)
    edges = torch.zeros(4, 3, dtype=torch.bool)
    edges[3, 0] = True
    points = torch.tensor([[0.9, 0.5, 0.5], [0.1, 0.5, 0.5], [0.1, 0.5, 0.5], [0.9, 0.5, 0.5]])
    for heavy, shared in (((0, 3), {0, 3}), ((1, 2), {1, 2})):
        weights = torch.ones(4)
        weights[list(heavy)] = 3.0
        _, faces, sources = dual_grid_decode(voxels, points, edges, None, weights, resolution=1)
        assert set(sources[faces[0].long()].tolist()) & set(sources[faces[1].long()].tolist()) == shared
        found, faces, sources = dual_grid_decode(voxels, points, edges, None, weights, resolution=1, blend=True)
        assert len(faces) == 4 and sources[-1] == 3
        assert torch.allclose(found[-1, 0] + 0.5, (9 * points[heavy[0], 0] + points[3 - heavy[0] ^ 1, 0]) / 10)


def test_gradients_move_points_onto_a_ball_and_weights_to_the_better_diagonal():
    vertices, faces = ball()
    voxels, points, edges, signs = dual_grid_encode(vertices.float(), faces, 12)
    moved, weights = (points + 0.3).requires_grad_(), torch.ones(len(voxels), requires_grad=True)
    solver = torch.optim.Adam([moved, weights], 0.02)
    losses = []
    for _ in range(60):
        found, _, _ = dual_grid_decode(voxels, moved, edges, signs, weights, resolution=12, blend=True)
        loss = ((found.norm(dim=1) - 0.45) ** 2).mean()
        solver.zero_grad()
        loss.backward()
        solver.step()
        losses.append(loss.item())
    assert losses[-1] < 0.01 * losses[0]
    assert (weights - 1).abs().max() > 0.01


def test_sides_in_planes_of_the_grid_are_on_one_side_of_them():
    vertices, faces = box((0.5, 0.5, 0.5))  # every side lies in a plane of the grid
    voxels, _, edges, _ = dual_grid_encode(vertices, faces, 8)
    found, cut = round_trip(vertices, faces, 8)
    assert (sides_in_use(cut) == 1).all() and len(cut) == 2 * edges.sum() == 2 * 6 * 4 * 4
    assert torch.allclose(found.abs().amax(1), torch.full((len(found),), 0.25, dtype=torch.float64), atol=2e-4)
    assert voxels.amin() == 2 and voxels.amax() == 6


def test_nothing_gives_nothing_and_mistakes_are_told():
    vertices, faces = box((0.5, 0.5, 0.5))
    for none in (dual_grid_encode(vertices, faces[:0], 8), dual_grid_encode(vertices + 5, faces, 8)):
        assert [tuple(t.shape) for t in none] == [(0, 3)] * 4
        assert [len(t) for t in dual_grid_decode(*none, resolution=8)] == [0, 0, 0]
    with pytest.raises(MaquetteError, match="resolution is 0; give one from 1 to 2048"):
        dual_grid_encode(vertices, faces, 0)
    with pytest.raises(MaquetteError, match="a vertex is not finite"):
        dual_grid_encode(vertices / 0, faces, 8)
    with pytest.raises(MaquetteError, match="faces must be int32 or int64"):
        dual_grid_encode(vertices, faces.float(), 8)
    voxels, points, edges, signs = dual_grid_encode(vertices, faces, 8)
    with pytest.raises(MaquetteError, match=r"signs must be bool \[\d+, 3\]"):
        dual_grid_decode(voxels, points, edges, signs[:, :2], resolution=8)
    with pytest.raises(MaquetteError, match="voxels must be int32"):
        dual_grid_decode(voxels.long(), points, edges, signs, resolution=8)
