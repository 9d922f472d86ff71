"""Marching cubes and the octree decoder against closed forms, scikit-image and themselves."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from maquette.errors import MaquetteError
from maquette_kernels.resolution import fixed
from maquette_kernels.surface import cases, functions, laws
from maquette_kernels.surface.marching_cubes import MARCHING_CUBES
from maquette_kernels.surface.octree import OctreeOptions, lattice_points, octree_decode
from maquette_kernels.surface.sparse_marching_cubes import SPARSE_MARCHING_CUBES

DENSE = pytest.mark.parametrize("implementation", ["cpu", "reference"])


def ball(points: Tensor, radius: float = 0.37, centre: tuple[float, float, float] = (0.03, -0.02, 0.01)) -> Tensor:
    """Distances of points [P, 3] from a ball's surface; in double precision on the way, so that vectorised code and
    its remainder loop agree in every bit.
    """
    return ((points.double() - torch.tensor(centre)).square().sum(1).sqrt() - radius).float()


def ball_grid(side: int, radius: float) -> Tensor:
    axis = torch.arange(side) - (side - 1) / 2 + 0.07
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).norm(dim=0) - radius


def coords_of(grid: Tensor) -> Tensor:
    return torch.ones(grid.shape).nonzero().int()


def dense_mesh(field, resolution: int, bounds: tuple[float, float] = (-0.5, 0.5)) -> tuple[Tensor, Tensor]:
    points = lattice_points(torch.ones([resolution + 1] * 3).nonzero(), resolution, bounds)
    vertices, faces = functions.marching_cubes(field(points).view([resolution + 1] * 3))
    return bounds[0] + vertices * ((bounds[1] - bounds[0]) / resolution), faces


@DENSE
def test_one_sample_gives_one_octahedron(implementation):
    grid = torch.ones(3, 3, 3)
    grid[1, 1, 1] = -3.0
    with fixed(MARCHING_CUBES, implementation):
        vertices, faces = functions.marching_cubes(grid)
    expected = [[0.25, 1, 1], [1, 0.25, 1], [1, 1, 0.25], [1.75, 1, 1], [1, 1.75, 1], [1, 1, 1.75]]
    assert vertices.tolist() == expected, "in order of the samples that the edges leave, then of axes"
    assert len(faces) == 8 and laws.open_edges(faces) == 0
    assert laws.signed_volume(vertices, faces) == pytest.approx(4 / 3 * 0.75**3)


@DENSE
def test_a_ball_has_its_volume_and_faces_outwards(implementation):
    with fixed(MARCHING_CUBES, implementation):
        vertices, faces = functions.marching_cubes(ball_grid(24, 9.3))
    assert laws.open_edges(faces) == 0
    assert laws.signed_volume(vertices, faces) == pytest.approx(4 / 3 * math.pi * 9.3**3, rel=0.01)
    assert len(vertices) - len(faces) * 3 / 2 + len(faces) == 2, "Euler's characteristic of a ball"


@given(seed=st.integers(0, 2**31), shape=st.tuples(*[st.integers(2, 7)] * 3), levels=st.sampled_from([1, 2, 50]))
@settings(max_examples=60)
def test_any_field_gives_a_closed_surface(seed, shape, levels):
    """Also fields of whole numbers, many of which are exactly the level."""
    field = torch.randint(-levels, levels + 1, shape, generator=torch.Generator().manual_seed(seed)).float()
    grid = torch.nn.functional.pad(field, [1] * 6, value=1.0)
    vertices, faces = functions.marching_cubes(grid)
    assert laws.open_edges(faces) == 0
    assert len(vertices.unique(dim=0)) == len(vertices), "no two vertices in one place"
    corners = vertices[faces.long()].double()
    area = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=1)
    assert (area > 0).all()
    with fixed(MARCHING_CUBES, "reference"):
        slow = functions.marching_cubes(grid)
    assert torch.equal(vertices, slow[0]) and torch.equal(faces, slow[1])


def test_every_case_cuts_exactly_its_crossed_edges():
    slots, counts = cases.triangles()
    corner, axis = cases.edges()
    for case in range(256):
        used = {int(edge) for edge in slots[case, : 3 * counts[case]]}
        ends = [(int(c), int(c) | 1 << int(a)) for c, a in zip(corner, axis, strict=True)]
        assert used == {e for e, (a, b) in enumerate(ends) if (case >> a & 1) != (case >> b & 1)}, case
        assert (slots[case, 3 * counts[case] :] == -1).all()
    assert counts.max() * 3 < cases.SLOTS


def test_vertices_are_those_of_scikit_image():
    from skimage.measure import marching_cubes

    grid = ball_grid(20, 6.8) + 0.2 * torch.sin(torch.arange(20.0))[:, None, None]
    theirs, their_faces, _, _ = marching_cubes(grid.numpy(), 0.4, gradient_direction="descent")
    ours, faces = functions.marching_cubes(grid, 0.4, clearance=0.0)
    both = theirs.astype(np.float64), ours.double().numpy()
    ranked = [points[np.lexsort(np.round(points, 3).T)] for points in both]
    np.testing.assert_allclose(*ranked, atol=2e-5)
    surfaces = (torch.from_numpy(theirs.copy()), torch.from_numpy(their_faces.copy())), (ours, faces)
    volumes = [laws.signed_volume(*surface) for surface in surfaces]
    assert volumes[0] == pytest.approx(volumes[1], rel=1e-3)


@DENSE
def test_axes_can_be_exchanged(implementation):
    arguments = (torch.randn(5, 6, 70, generator=torch.Generator().manual_seed(0)), 0.25, 0.01)

    def run(*given):
        with fixed(MARCHING_CUBES, implementation):
            return MARCHING_CUBES(*given)

    laws.dense_turns(run, arguments)


@DENSE
def test_what_is_not_a_number_is_outside(implementation):
    grid = torch.full((3, 3, 3), float("nan"))
    grid[1, 1, 1] = -1.0
    grid[1, 1, 2], grid[0, 1, 1] = float("inf"), -float("inf")
    with fixed(MARCHING_CUBES, implementation):
        vertices, faces = functions.marching_cubes(grid, clearance=0.125)
    assert vertices.isfinite().all()
    assert [1.5, 1.0, 1.0] in vertices.tolist(), "halfway to a sample that is NaN"
    assert [1.0, 1.0, 1.125] in vertices.tolist(), "as near as may be where the other end is infinite"
    assert len(faces) == 12


def test_the_gradient_of_a_plane_is_its_motion():
    height = torch.tensor(2.3, requires_grad=True)
    grid = (torch.arange(6.0) - height)[:, None, None].expand(6, 4, 3) * 0.7
    vertices, _ = functions.marching_cubes(grid)
    assert torch.allclose(vertices[:, 0], height.expand(12))
    vertices[:, 0].sum().backward()
    assert height.grad.item() == pytest.approx(12.0, rel=1e-6)


def test_a_ball_can_be_fitted():
    radius = torch.tensor(3.0, requires_grad=True)
    optimiser = torch.optim.Adam([radius], lr=0.2)
    for _ in range(60):
        vertices, _ = functions.marching_cubes(ball_grid(16, 0.0) - radius)
        loss = ((vertices - 7.5 + 0.07).norm(dim=1) - 5.5).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert radius.item() == pytest.approx(5.5, abs=0.05)


def test_narrow_grids_are_widened():
    grid = ball_grid(9, 3.1).bfloat16().requires_grad_()
    vertices, faces = functions.marching_cubes(grid)
    expected = functions.marching_cubes(grid.detach().float())
    assert vertices.dtype == torch.float32
    assert torch.equal(vertices, expected[0]) and torch.equal(faces, expected[1])
    vertices.sum().backward()
    assert grid.grad.dtype == torch.bfloat16 and grid.grad.abs().sum() > 0


def test_threads_do_not_show():
    grid, before = torch.randn(40, 9, 70, generator=torch.Generator().manual_seed(3)), torch.get_num_threads()
    one = functions.marching_cubes_with_edges(grid)
    try:
        torch.set_num_threads(3)
        three = functions.marching_cubes_with_edges(grid)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(one, three, strict=True))


def test_attributes_come_along():
    grid = torch.randn(6, 7, 8, generator=torch.Generator().manual_seed(1))
    vertices, _, edges = functions.marching_cubes_with_edges(grid, 0.1)
    weights = functions.edge_weights(grid.flatten(), edges, 0.1, functions.CLEARANCE)
    attributes = coords_of(grid).float() @ torch.tensor([[1.0, 0.5], [2.0, -1.0], [3.0, 0.25]])
    found = functions.interpolate_on_edges(attributes, edges, weights)
    torch.testing.assert_close(found, vertices @ torch.tensor([[1.0, 0.5], [2.0, -1.0], [3.0, 0.25]]))


@pytest.mark.parametrize("implementation", ["cpu", "reference"])
def test_sparse_is_dense_where_all_samples_are_there(implementation):
    grid = torch.randn(2, 5, 6, 9, generator=torch.Generator().manual_seed(2))
    order = torch.randperm(grid.numel(), generator=torch.Generator().manual_seed(3))
    with fixed(SPARSE_MARCHING_CUBES, implementation):
        vertices, faces, edges = functions.sparse_marching_cubes(grid.flatten()[order], coords_of(grid)[order], 0.2)
    halves = [functions.marching_cubes_with_edges(part, 0.2) for part in grid]
    assert torch.equal(vertices, torch.cat([half[0] for half in halves]))
    assert torch.equal(faces, torch.cat([halves[0][1], halves[1][1] + len(halves[0][0])]))
    assert torch.equal(order[edges], torch.cat([halves[0][2], halves[1][2] + grid[0].numel()]))


def test_cells_that_miss_a_sample_are_left_out():
    grid = ball_grid(9, 3.1)
    kept = torch.ones(9, 9, 9, dtype=torch.bool)
    kept[4, 4, 1] = False  # a sample beside the surface
    vertices, faces, _ = functions.sparse_marching_cubes(grid[kept], kept.nonzero().int())
    whole, all_faces = functions.marching_cubes(grid)
    centres = whole[all_faces.long()].mean(1)
    expected = ~((centres - torch.tensor([4.0, 4.0, 1.0])).abs() < 1).all(1)
    assert 0 < expected.sum() < len(all_faces)
    assert torch.equal(vertices[faces.long()], whole[all_faces.long()][expected])
    assert len(faces.unique()) == len(vertices), "vertices of missing cells only are left out"
    assert laws.open_edges(faces) > 0


def test_what_does_not_fit_is_told():
    with pytest.raises(MaquetteError, match=r"grid must be float32 or float64 \[X, Y, Z\], got torch.float32 \(4, 4\)"):
        functions.marching_cubes(torch.zeros(4, 4))
    with pytest.raises(MaquetteError, match="clearance must be in"):
        functions.marching_cubes(torch.zeros(4, 4, 4), clearance=0.5)
    with pytest.raises(MaquetteError, match=r"coords must be int32 \[2, 4\]"):
        functions.sparse_marching_cubes(torch.zeros(2), torch.zeros(2, 4))
    with pytest.raises(MaquetteError, match="two samples have the same coordinates"):
        functions.sparse_marching_cubes(torch.zeros(2), torch.zeros(2, 3, dtype=torch.int32))
    with pytest.raises(MaquetteError, match="coordinates in"):
        functions.sparse_marching_cubes(torch.zeros(1), torch.tensor([[0, 0, 40000]], dtype=torch.int32))


@pytest.mark.parametrize("lipschitz", [None, 1.0])
def test_octree_gives_the_dense_mesh_from_few_points(lipschitz):
    asked = []

    def field(points: Tensor) -> Tensor:
        asked.append(points)
        return ball(points)

    options = OctreeOptions(lipschitz=lipschitz, chunk=1000)
    vertices, faces, evaluated = octree_decode(field, 64, 16, options=options)
    expected = dense_mesh(ball, 64)
    assert torch.equal(vertices, expected[0]) and torch.equal(faces, expected[1])
    points = torch.cat(asked)
    assert max(map(len, asked)) <= 1000
    assert len(points) == evaluated == len(points.unique(dim=0)), "no point twice"
    assert evaluated < 0.17 * 65**3


@given(seed=st.integers(0, 2**31), amplitude=st.sampled_from([0.02, 0.08]))
@settings(max_examples=15)
def test_octree_with_the_right_constant_loses_nothing(seed, amplitude):
    waves = torch.randn(3, 3, generator=torch.Generator().manual_seed(seed)).double() * 20

    def field(points: Tensor) -> Tensor:
        return (ball(points, 0.3) + amplitude * torch.sin(points.double() @ waves).sum(1)).float()

    steepest = 1 + amplitude * waves.norm(dim=0).sum().item()
    vertices, faces, _ = octree_decode(field, 32, 4, options=OctreeOptions(lipschitz=steepest))
    expected = dense_mesh(field, 32)
    assert torch.equal(vertices, expected[0]) and torch.equal(faces, expected[1])


def needle(points: Tensor) -> Tensor:
    """A ball with a thin needle, which coarse samples miss and the finest see."""
    rod = torch.maximum((points[:, 1:] - 1 / 32 / 2).abs().amax(1) - 0.02, points[:, 0].abs() - 0.42)
    return torch.minimum(ball(points, 0.2, (0.0, 0.0, 0.0)), rod)


def test_octree_follows_the_surface_out_of_the_cells_it_began_in():
    vertices, faces, evaluated = octree_decode(needle, 32, 4)
    expected = dense_mesh(needle, 32)
    assert expected[0].abs().max() > 0.4, "the needle is in the dense mesh"
    assert torch.equal(vertices, expected[0]) and torch.equal(faces, expected[1])
    assert evaluated < 0.4 * 33**3


def test_octree_without_a_constant_loses_what_hides_between_coarse_samples():
    def field(points: Tensor) -> Tensor:
        return torch.minimum(ball(points, 0.2, (0.0, 0.0, 0.0)), ball(points, 0.04, (0.38, 0.38, 0.38)))

    blind, sure = (octree_decode(field, 32, 4, options=OctreeOptions(lipschitz=c))[0] for c in (None, 1.0))
    assert blind.amax() < 0.21
    assert sure.amax() > 0.4


def test_octree_options_and_gradients():
    radius = torch.tensor(0.3, requires_grad=True)
    vertices, faces, _ = octree_decode(
        lambda p: (p - 3.0).norm(dim=1, keepdim=True) / radius, 32, 8, (2.0, 4.0), OctreeOptions(level=1.0)
    )
    assert laws.signed_volume(vertices.detach() - 3.0, faces) == pytest.approx(4 / 3 * math.pi * 0.3**3, rel=0.1)
    (vertices - 3.0).norm(dim=1).mean().backward()
    assert radius.grad.item() == pytest.approx(1.0, abs=0.1)
    empty = octree_decode(lambda p: torch.ones(len(p)), 16, 4)
    assert empty[0].shape == empty[1].shape == (0, 3) and empty[2] == 125


def test_octree_tells_what_does_not_fit():
    with pytest.raises(MaquetteError, match="resolution 96 is not coarse 32 times a power of two"):
        octree_decode(ball, 96, 32)
    with pytest.raises(MaquetteError, match="bounds are"):
        octree_decode(ball, 32, 8, (1.0, -1.0))
    with pytest.raises(MaquetteError, match="chunk is 0"):
        octree_decode(ball, 32, 8, options=OctreeOptions(chunk=0))
    with pytest.raises(MaquetteError, match=r"the field gave torch.float32 \(729, 3\) for 729 points"):
        octree_decode(lambda points: points, 32, 8)
