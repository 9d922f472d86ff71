"""Distances and insides of meshes against formulas: single triangles, boxes, known solid angles; and their edges."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from maquette.errors import MaquetteError
from maquette_kernels.distance import recent_trees
from maquette_kernels.distance.closest_on_mesh import CLOSEST_ON_MESH
from maquette_kernels.distance.closest_on_mesh.operation import judge
from maquette_kernels.distance.functions import (
    MeshQuery,
    closest_on_mesh,
    inside_mesh,
    sdf_grid,
    signed_distance,
    unsigned_distance,
    winding_number,
)
from maquette_kernels.distance.inside_mesh import INSIDE_MESH
from maquette_kernels.distance.meshes import torus
from maquette_kernels.distance.winding_number import WINDING_NUMBER
from maquette_kernels.resolution import fixed

EVERY = pytest.mark.parametrize("implementation", ["cpu", "triton", "reference"])
HALF = torch.tensor([1.0, 0.75, 0.5])


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def box() -> tuple[Tensor, Tensor]:
    """A box with half sides HALF, 12 faces that look outwards; the corners are exact in float32."""
    corners = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=3))) * HALF
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    return corners, torch.tensor([[q[0], q[i], q[i + 1]] for q in quads for i in (1, 2)], dtype=torch.int32)


def box_distance(points: Tensor) -> Tensor:
    """Its signed distance, by formula."""
    beyond = points.abs() - HALF.to(points)
    return beyond.clamp(min=0).norm(dim=1) + beyond.amax(1).clamp(max=0)


@EVERY
def test_one_triangle_is_met_in_each_of_its_seven_regions(implementation: str) -> None:
    vertices = torch.tensor([[0.0, 0, 0], [4, 0, 0], [0, 2, 0]])
    expected = [
        ([1, 0.5, 3], 3.0, [0.5, 0.25, 0.25]),
        ([1, 0.5, -3], 3.0, [0.5, 0.25, 0.25]),
        ([1, -2, 0], 2.0, [0.75, 0.25, 0]),
        ([-2, 0.5, 0], 2.0, [0.75, 0, 0.25]),
        ([3, 3, 0], 5**0.5, [0, 0.5, 0.5]),
        ([-3, -4, 12], 13.0, [1, 0, 0]),
        ([7, -4, 0], 5.0, [0, 1, 0]),
        ([-1, 5, 0], 10**0.5, [0, 0, 1]),
        ([0, 0, 0], 0.0, [1, 0, 0]),
    ]
    points, distances, weights = (torch.tensor(column, dtype=torch.float32) for column in zip(*expected, strict=True))
    with fixed(CLOSEST_ON_MESH, implementation):
        distance, face, found = closest_on_mesh(points, vertices, torch.tensor([[0, 1, 2]]))
    torch.testing.assert_close(distance, distances, rtol=1e-6, atol=0)
    torch.testing.assert_close(found, weights, rtol=0, atol=1e-6)
    assert face.dtype == torch.int32 and not face.any()


@EVERY
def test_a_box_has_the_distance_of_its_formula_and_the_gradient_of_its_sides(implementation: str) -> None:
    points = drawn(0, 150, 3).requires_grad_()
    with fixed(CLOSEST_ON_MESH, implementation), fixed(INSIDE_MESH, implementation):
        distance = signed_distance(points, *box())
        gradient = torch.autograd.grad(distance.sum(), points)[0]
    truth = points.detach().double().requires_grad_()
    expected = box_distance(truth)
    torch.testing.assert_close(distance.double(), expected, rtol=1e-6, atol=1e-6)
    right = torch.autograd.grad(expected.sum(), truth)[0]
    # A direction is as uncertain as the point is near: by the rounding of coordinates over the distance.
    assert ((gradient - right).norm(dim=1) * expected.abs() < 1e-6).all()


@EVERY
def test_moving_the_whole_mesh_moves_the_distance_as_moving_the_points_back_does(implementation: str) -> None:
    points, (vertices, faces) = drawn(1, 70, 3).requires_grad_(), torus(6, 5)
    vertices.requires_grad_()
    with fixed(CLOSEST_ON_MESH, implementation):
        weighted = (unsigned_distance(points, vertices, faces) * drawn(2, 70)).sum()
        of_points, of_vertices = torch.autograd.grad(weighted, (points, vertices))
    torch.testing.assert_close(of_vertices.sum(0), -of_points.sum(0), rtol=1e-4, atol=1e-5)
    assert (of_vertices[faces.unique().long()] != 0).any(1).sum() > 10


@EVERY
def test_solid_angles_that_are_known(implementation: str) -> None:
    vertices, faces = box()
    points = torch.tensor([[0.0, 0, 0], [0.5, -0.25, 0.25], [2, 0, 0], [0, 0, -4], [1, 0.25, 0.125], [1, 0.75, 0]])
    with fixed(WINDING_NUMBER, implementation):
        closed = winding_number(points, vertices, faces, accuracy=0)
        one_side = winding_number(torch.zeros(1, 3), vertices / HALF, faces[:2], accuracy=0)
        flipped = winding_number(points, vertices, faces.flip(1), accuracy=0)
    # Inside, outside, in a side and in an edge: a face in whose plane a point lies counts nothing.
    expected = torch.tensor([1, 1, 0, 0, 0.5, 0.25])
    torch.testing.assert_close(closed, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(flipped, -expected, rtol=0, atol=1e-6)
    assert abs(one_side.item() - 1 / 6) < 1e-6


@EVERY
def test_many_tiles_of_faces_and_points(implementation: str) -> None:
    """Hundreds of faces, so that whole tiles are passed over; a torus's distance by formula."""
    points, (vertices, faces) = drawn(3, 130, 3), torus(16, 12)
    order = torch.randperm(len(faces), generator=torch.Generator().manual_seed(0))
    with fixed(CLOSEST_ON_MESH, implementation), fixed(INSIDE_MESH, implementation):
        found = closest_on_mesh(points, vertices, faces[order])
        inside = inside_mesh(points, vertices, faces[order])
    oracles = CLOSEST_ON_MESH.reference(points.double(), vertices.double(), faces[order])
    assert judge((points, vertices, faces[order]), found, oracles) is None
    ring = (points[:, :2].norm(dim=1) - 1).square() + points[:, 2].square() - 0.4**2
    clear = ring.abs() > 0.05
    assert torch.equal(inside[clear], (ring < 0)[clear])


@EVERY
def test_faces_without_area_and_faces_given_twice(implementation: str) -> None:
    vertices = drawn(4, 12, 3)
    vertices[3] = (vertices[0] + vertices[1]) / 2
    faces = torch.tensor([[0, 0, 0], [1, 1, 2], [0, 1, 3], [3, 0, 1], [5, 6, 7], [5, 6, 7], [7, 6, 5], [8, 9, 8]])
    points = torch.cat([drawn(5, 80, 3), vertices])
    with fixed(CLOSEST_ON_MESH, implementation), fixed(WINDING_NUMBER, implementation):
        found = closest_on_mesh(points, vertices, faces)
        number = winding_number(points, vertices, faces, accuracy=0)
    oracles = CLOSEST_ON_MESH.reference(points.double(), vertices.double(), faces)
    assert judge((points, vertices, faces), found, oracles) is None
    assert number.isfinite().all()


@EVERY
def test_what_is_not_finite_is_left_out(implementation: str) -> None:
    vertices, faces = box()
    bad = torch.tensor([[float("nan"), 0, 0], [float("inf"), 0, 0]])
    points = torch.cat([drawn(6, 5, 3), bad, -bad[1:]])
    both = torch.cat([vertices, bad]), torch.cat([faces[:4], torch.tensor([[8, 1, 2], [3, 9, 0]]), faces[4:]])
    named = (CLOSEST_ON_MESH, WINDING_NUMBER, INSIDE_MESH)
    with fixed(named[0], implementation), fixed(named[1], implementation), fixed(named[2], implementation):
        distance, face, weights = closest_on_mesh(points, *both)
        torch.testing.assert_close(distance[:5], box_distance(points[:5]).abs(), rtol=1e-6, atol=1e-6)
        assert distance[5:].isnan().all() and (face[5:] == -1).all() and not weights[5:].any()
        assert not ((face == 4) | (face == 5)).any() and face.max() > 5
        number, inside = winding_number(points, *both, accuracy=0), inside_mesh(points, *both)
        assert number[5:].isnan().all() and torch.equal(number[:5] > 0.5, box_distance(points[:5]) < 0)
        assert torch.equal(inside, torch.cat([box_distance(points[:5]) < 0, torch.zeros(3, dtype=torch.bool)]))
        nowhere = closest_on_mesh(points, bad, torch.tensor([[0, 1, 0]]))[0]
    assert nowhere[:5].isinf().all() and nowhere[5:].isnan().all()


@EVERY
def test_nothing_is_infinitely_far(implementation: str) -> None:
    vertices, none = drawn(7, 4, 3).requires_grad_(), torch.zeros(0, 3, dtype=torch.int32)
    points = drawn(8, 3, 3).requires_grad_()
    with fixed(CLOSEST_ON_MESH, implementation), fixed(INSIDE_MESH, implementation):
        distance, face, weights = closest_on_mesh(points, vertices, none)
        gradients = torch.autograd.grad(distance.sum(), (points, vertices))
        assert not inside_mesh(points.detach(), vertices.detach(), none).any()
        assert closest_on_mesh(points[:0], vertices, none)[2].shape == (0, 3)
    assert distance.isinf().all() and (face == -1).all() and not weights.any()
    assert not gradients[0].any() and not gradients[1].any()


@EVERY
def test_on_a_corner_the_distance_and_its_gradient_are_0(implementation: str) -> None:
    vertices, faces = box()
    points = vertices.clone().requires_grad_()
    with fixed(CLOSEST_ON_MESH, implementation):
        distance, _, weights = closest_on_mesh(points, vertices, faces)
        gradient = torch.autograd.grad(distance.sum(), points)[0]
    assert not distance.any() and not gradient.any()
    assert torch.equal(weights.amax(1), torch.ones(8))


@pytest.mark.parametrize("accuracy, bound", [(1.3, 0.12), (2.0, 0.03), (4.0, 0.006)])
def test_far_parts_count_as_one_within_the_stated_bound(accuracy: float, bound: float) -> None:
    vertices, faces = torus(40, 24)
    points = drawn(9, 3000, 3)
    exact = winding_number(points, vertices, faces, accuracy=0)
    assert (winding_number(points, vertices, faces, accuracy=accuracy) - exact).abs().max() < bound
    assert (exact - exact.round()).abs().max() < 1e-5


def test_signs_are_hard_where_faces_are_missing() -> None:
    vertices, faces = torus(40, 24)
    keep = torch.rand(len(faces), generator=torch.Generator().manual_seed(0)) > 0.05
    points = drawn(10, 3000, 3)
    holed, whole = (signed_distance(points, vertices, some) for some in (faces[keep], faces))
    assert torch.equal(holed.abs(), unsigned_distance(points, vertices, faces[keep]))
    clear = whole.abs() > 0.02
    assert (holed.sign() != whole.sign())[clear].float().mean() < 0.005


def test_a_mesh_query_answers_as_the_functions_do() -> None:
    points, (vertices, faces) = drawn(11, 200, 3), torus(12, 8)
    mesh = MeshQuery(vertices, faces)
    for ours, theirs in zip(mesh.closest(points), closest_on_mesh(points, vertices, faces), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(mesh.winding_number(points), winding_number(points, vertices, faces))
    assert torch.equal(mesh.signed_distance(points), signed_distance(points, vertices, faces))
    vertices += 100  # a copy was taken
    assert mesh.closest(points)[0].max() < 10


def test_remembered_trees_are_of_the_mesh_as_it_is_now() -> None:
    points, (vertices, faces) = drawn(12, 50, 3), torus(6, 5)
    recent_trees.forget()
    before = unsigned_distance(points, vertices, faces)
    assert recent_trees.tree_of(vertices, faces) is recent_trees.tree_of(vertices.clone(), faces.clone())
    vertices.mul_(2)
    assert torch.equal(unsigned_distance(2 * points, vertices, faces), 2 * before)


def test_threads_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    points, (vertices, faces) = drawn(13, 5000, 3), torus(12, 8)
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda count=threads: count)
        found.append((*closest_on_mesh(points, vertices, faces), winding_number(points, vertices, faces)))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_double_precision_is_kept() -> None:
    points, (vertices, faces) = drawn(14, 60, 3).double(), box()
    found = signed_distance(points, vertices.double(), faces)
    torch.testing.assert_close(found, box_distance(points), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("resolution, band, holed", [(20, 0.12, False), (37, 0.05, True), (3, 9.0, False)])
def test_a_grid_holds_the_distances_of_its_cells(resolution: int, band: float, holed: bool) -> None:
    vertices, faces = torus(24, 16)
    vertices, faces = vertices / 3.2 + 1.0, faces[9:] if holed else faces
    grid = sdf_grid(vertices, faces, resolution, band=band, low=0.4, side=1.2)
    axis = (torch.arange(resolution) + 0.5) * (1.2 / resolution) + 0.4
    points = torch.cartesian_prod(axis, axis, axis)
    expected = signed_distance(points, vertices, faces).clamp(-band, band).view(grid.shape)
    torch.testing.assert_close(grid, expected, rtol=1e-5, atol=2e-6)
    assert (grid < 0).any() and (grid.abs() < band).any()
    positive = sdf_grid(vertices, faces, resolution, band=band, low=0.4, side=1.2, signed=False)
    assert torch.equal(positive, grid.abs())


def test_a_grid_of_nothing_is_far_from_it() -> None:
    grid = sdf_grid(torch.zeros(0, 3), torch.zeros(0, 3, dtype=torch.int64), 6, band=0.5)
    assert torch.equal(grid, torch.full((6, 6, 6), 0.5))


def test_signed_distance_is_one_graph() -> None:
    points, (vertices, faces) = drawn(15, 20, 3), box()
    compiled = torch.compile(signed_distance, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(points, vertices, faces), signed_distance(points, vertices, faces))


def test_mistakes_are_told_in_one_line() -> None:
    points, (vertices, faces) = torch.zeros(2, 3), box()
    for wrong, match in (
        ((points[0], vertices, faces), r"points must be \[N, 3\]"),
        ((points.half(), vertices, faces), "must both be float32 or both float64"),
        ((points, vertices.double(), faces), "must both be float32 or both float64"),
        ((points, vertices, faces.float()), "faces must be int32 or int64"),
    ):
        with pytest.raises(MaquetteError, match=match):
            closest_on_mesh(*wrong)
    with pytest.raises(MaquetteError, match=r"accuracy is 0\.5; give 0 for exact"):
        winding_number(points, vertices, faces, accuracy=0.5)
    with pytest.raises(MaquetteError, match="faces must be"):
        MeshQuery(vertices, faces.float())
    with pytest.raises(MaquetteError, match="sdf_grid: resolution 0"):
        sdf_grid(vertices, faces, 0, band=1.0)
