"""The rasteriser against exact arithmetic, other formulas and finite differences; whole renders that fit targets."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from maquette.errors import MaquetteError
from maquette_kernels.raster.functions import antialias, edge_opposites, interpolate, rasterise, rasterise_uv
from maquette_kernels.raster.scenes import bumpy_sphere, facing_camera

SQUARE = torch.tensor([[0, 1, 2], [2, 1, 3]], dtype=torch.int32)


def from_pixels(pixels, size, z=0.0, w=1.0):
    """Positions in clip space [1, V, 4] of points [V, 2] given in pixels (x, y)."""
    pixels = torch.as_tensor(pixels, dtype=torch.float64)
    scaled = (pixels / torch.tensor([size[1], size[0]]) * 2 - 1) * w
    depth = torch.full((len(pixels), 1), float(z))
    return torch.cat([scaled, depth * w, torch.full_like(depth, w)], -1)[None]


def outline(image_height, image_width, positions, faces):
    """A mesh drawn white on black with blended edges [B, H, W, 1]."""
    face_id, _, depth = rasterise(positions, faces, image_height, image_width)
    white = (face_id >= 0).to(positions.dtype).unsqueeze(-1)
    return antialias(white, face_id, depth, positions, faces)


def test_a_fan_covers_each_pixel_once():
    # Corners and edges run through the middles of pixels; each pixel must belong to exactly one face of the fan.
    for middle in ([4.5, 4.5], [3.0, 5.5], [4.5, 2.25]):
        rim = [[0.5, 0.5], [4.5, 0.0], [8.5, 0.5], [9.0, 4.5], [8.5, 8.5], [4.5, 9.0], [0.5, 8.5], [0.0, 4.5]]
        fan = torch.tensor([[8, i, (i + 1) % 8] for i in range(8)], dtype=torch.int32)
        positions = from_pixels([*rim, middle], (9, 9)).float()
        hits = sum(rasterise(positions, fan[i : i + 1], 9, 9)[0] >= 0 for i in range(8))
        turned = sum(rasterise(positions, fan[i : i + 1].flip(-1), 9, 9)[0] >= 0 for i in range(8))
        assert hits.max() == 1
        assert hits[0, 1:8, 1:8].eq(1).all()
        assert torch.equal(hits, turned)


def test_coverage_is_that_of_exact_arithmetic():
    rng = np.random.default_rng(3)
    for _ in range(20):
        corners = rng.integers(-40, 110, (3, 2)) / 8 + 0.015625  # off the lattice of middles: no ties
        seen = rasterise(from_pixels(corners, (9, 8)).float(), torch.tensor([[0, 1, 2]], dtype=torch.int32), 9, 8)[0]
        (ax, ay), (bx, by), (cx, cy) = [[Fraction(float(v)) for v in corner] for corner in corners]
        for row in range(9):
            for column in range(8):
                x, y = column + Fraction(1, 2), row + Fraction(1, 2)
                sides = [
                    (bx - ax) * (y - ay) - (by - ay) * (x - ax),
                    (cx - bx) * (y - by) - (cy - by) * (x - bx),
                    (ax - cx) * (y - cy) - (ay - cy) * (x - cx),
                ]
                inside = all(s > 0 for s in sides) or all(s < 0 for s in sides)
                assert (seen[0, row, column] >= 0).item() == inside


def test_weights_and_depth_are_perspective_correct():
    # A plane a x + b y + c z = 1 in space seen by a pinhole: the point on each pixel's ray is known in closed form.
    corners = torch.tensor([[-1.0, -1.2, 3.0], [1.5, -0.8, 5.0], [0.1, 1.4, 2.0]], dtype=torch.float64)
    near, far = 0.5, 20.0
    x, y, z = corners.unbind(-1)
    clip = torch.stack([x, y, z * (far + near) / (far - near) - 2 * far * near / (far - near), z], -1)[None].float()
    face_id, weights, depth = rasterise(clip, torch.tensor([[0, 1, 2]], dtype=torch.int32), 40, 30)
    plane = torch.linalg.solve(corners, torch.ones(3, dtype=torch.float64))
    rows, columns = (face_id[0] >= 0).nonzero().unbind(-1)
    assert len(rows) > 50
    ray = torch.stack([(2 * columns + 1) / 30 - 1, (2 * rows + 1) / 40 - 1, torch.ones(len(rows))], -1).double()
    points = ray / (ray @ plane)[:, None]
    torch.testing.assert_close(weights[0, rows, columns].double() @ corners, points, atol=1e-5, rtol=1e-5)
    expected = (far + near) / (far - near) - 2 * far * near / (far - near) / points[:, 2]
    torch.testing.assert_close(depth[0, rows, columns].double(), expected, atol=1e-6, rtol=1e-6)


def test_of_two_faces_the_nearer_and_of_equals_the_first_is_seen():
    near, far = from_pixels([[0, 0], [9, 0], [0, 9]], (9, 9), 0.25), from_pixels([[0, 0], [9, 0], [0, 9]], (9, 9), 0.5)
    positions = torch.cat([far, near, near], 1).float()
    faces = torch.arange(9, dtype=torch.int32).view(3, 3)
    face_id, _, depth = rasterise(positions, faces, 9, 9)
    assert face_id[0, 2, 2] == 1
    assert depth[0, 2, 2] == 0.25
    assert depth[0, 8, 8] == 1.0
    assert face_id[0, 8, 8] == -1


def test_a_floor_that_passes_under_the_camera_is_cut_at_the_near_plane():
    # An endless floor at y = 1 below the eye: all of the lower half sees it, up to the horizon, nothing else does.
    corners = torch.tensor([[-400.0, 1, -300], [400, 1, -300], [-400, 1, 3000], [400, 1, 3000]], dtype=torch.float64)
    x, y, z = corners.unbind(-1)
    clip = torch.stack([x, y, z * 1.0002 - 0.2, z], -1)[None].float()
    face_id, weights, _ = rasterise(clip, SQUARE, 32, 32)
    rows = (torch.arange(32) * 2 + 1) / 32 - 1
    assert (face_id[0, :16] == -1).all()
    assert (face_id[0, 17:] >= 0).all()
    row, column = 24, 20
    hit = weights[0, row, column].double() @ corners[SQUARE[face_id[0, row, column]].long()]
    torch.testing.assert_close(
        hit, torch.tensor([(41 / 32 - 1) / rows[row], 1, 1 / rows[row]]).double(), atol=2e-3, rtol=0
    )


def test_far_and_odd_corners_do_no_harm():
    positions = from_pixels([[4, 4], [1e9, 5], [5, -1e9], [2, 2], [3, 3]], (8, 8)).float()
    positions[0, 3] = float("nan")
    faces = torch.tensor([[0, 1, 2], [0, 1, 3], [4, 4, 0], [0, 4, 0]], dtype=torch.int32)
    face_id, weights, _ = rasterise(positions, faces, 8, 8)
    assert face_id[0, 3, 7] == 0
    assert face_id[0, 7, 0] == -1
    assert ((face_id == 0) | (face_id == -1)).all()
    assert weights.isfinite().all()
    torch.testing.assert_close(weights.sum(-1), (face_id >= 0).float())


def test_depth_and_weights_have_gradients_where_faces_are_cut():
    corners = torch.tensor([[-4.0, 1.1, -3], [3, 0.9, -2], [-3, 1.2, 30], [5, 1, 25]], dtype=torch.float64)
    x, y, z = corners.unbind(-1)
    clip = torch.stack([x, y, z * 1.002 - 0.2, z], -1)[None].requires_grad_()
    upstream = torch.randn(1, 7, 6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def loss(positions):
        _, weights, depth = rasterise(positions, SQUARE, 7, 6)
        return (torch.cat([weights, depth.unsqueeze(-1)], -1) * upstream).sum()

    assert torch.autograd.gradcheck(loss, (clip,), eps=1e-7, atol=1e-4)


def test_interpolation_of_linear_attributes_is_linear_on_the_screen():
    positions = from_pixels([[0, 0], [16, 0], [0, 12], [16, 12]], (12, 16)).float()
    face_id, weights, _ = rasterise(positions, SQUARE, 12, 16)
    assert (face_id >= 0).all()
    found = interpolate(torch.tensor([[[0.0, 0], [16, 0], [0, 12], [16, 12]]]), SQUARE, face_id, weights)
    columns, rows = torch.arange(16) + 0.5, torch.arange(12) + 0.5
    torch.testing.assert_close(found[0, ..., 0], columns.expand(12, 16), atol=1e-5, rtol=0)
    torch.testing.assert_close(found[0, ..., 1], rows[:, None].expand(12, 16), atol=1e-5, rtol=0)


def test_baking_into_a_texture_inverts_the_unwrapping():
    # A height field unwrapped from above: texels must hold the points that lie there, whatever the triangulation.
    grid = torch.stack(torch.meshgrid(torch.linspace(0, 1, 9), torch.linspace(0, 1, 9), indexing="ij"), -1).view(-1, 2)
    cell = (torch.arange(8)[:, None] * 9 + torch.arange(8)).flatten()
    faces = torch.cat([torch.stack([cell, cell + 1, cell + 9], 1), torch.stack([cell + 1, cell + 10, cell + 9], 1)])
    faces = faces.to(torch.int32)
    points = torch.cat([grid, (0.3 * grid[:, :1] + grid[:, 1:] * 0.7)], -1)
    face_id, weights = rasterise_uv(grid, faces, 24, 20)
    assert (face_id >= 0).all()
    texture = interpolate(points[None], faces, face_id, weights)[0]
    u, v = ((torch.arange(20) + 0.5) / 20).expand(24, 20), ((torch.arange(24) + 0.5) / 24)[:, None].expand(24, 20)
    torch.testing.assert_close(texture, torch.stack([u, v, 0.3 * u + 0.7 * v], -1), atol=1e-6, rtol=1e-5)


def test_opposites_of_a_closed_mesh_an_open_one_and_a_seam():
    faces = torch.tensor([[0, 1, 2], [0, 2, 3], [0, 3, 1], [3, 2, 1]], dtype=torch.int32)
    assert edge_opposites(faces).tolist() == [[3, 3, 3], [1, 1, 1], [2, 2, 2], [0, 0, 0]]
    assert edge_opposites(SQUARE).tolist() == [[-1, 3, -1], [0, -1, -1]]
    three = torch.tensor([[0, 1, 2], [1, 0, 3], [0, 1, 4]], dtype=torch.int32)
    assert edge_opposites(three).tolist() == [[-1, -1, -1]] * 3
    assert edge_opposites(faces[:0]).shape == (0, 3)
    _, ball = bumpy_sphere(5)
    assert (edge_opposites(ball) >= 0).all()


def test_an_upright_edge_gives_exactly_its_coverage():
    # A square from column 2.3 to 6.8 and row 1.6 to 5: blended, rows hold its exact width, columns its height.
    positions = from_pixels([[2.3, 1.6], [6.8, 1.6], [2.3, 5.0], [6.8, 5.0]], (8, 9))
    image = outline(8, 9, positions, SQUARE)[0, ..., 0]
    torch.testing.assert_close(
        image[3], torch.tensor([0, 0, 0.7, 1, 1, 1, 0.8, 0, 0], dtype=torch.float64), atol=1e-9, rtol=0
    )
    torch.testing.assert_close(
        image[:, 4], torch.tensor([0, 0.4, 1, 1, 1, 0, 0, 0], dtype=torch.float64), atol=1e-9, rtol=0
    )


def test_edges_inside_of_a_mesh_are_not_blended():
    positions = from_pixels([[1, 1], [9, 1], [1, 9], [9, 9]], (10, 10)).float()
    face_id, _, depth = rasterise(positions, SQUARE, 10, 10)
    image = torch.rand(1, 10, 10, 2)
    blended = antialias(image, face_id, depth, positions, SQUARE)
    assert torch.equal(blended[:, 2:8, 2:8], image[:, 2:8, 2:8])
    parted = antialias(image, face_id, depth, positions, SQUARE, opposites=torch.full((2, 3), -1, dtype=torch.int32))
    assert not torch.equal(parted[:, 2:8, 2:8], image[:, 2:8, 2:8])


@pytest.mark.parametrize("turn", [0.1, 0.6, 1.1, 2.0])
def test_the_area_of_a_silhouette_and_its_gradient_are_those_of_the_triangle(turn):
    # The area of a polygon and its derivative are known; the blended picture's sum must follow both.
    angles = torch.tensor([0.0, 1.9, 4.1], dtype=torch.float64) + turn
    corners = (64 + 55 * torch.stack([angles.cos(), angles.sin()], -1)).requires_grad_()
    (ax, ay), (bx, by), (cx, cy) = corners
    area = 0.5 * ((bx - ax) * (cy - ay) - (by - ay) * (cx - ax)).abs()
    exact = torch.autograd.grad(area, corners)[0]
    zeros, ones = torch.zeros(3, 1, dtype=torch.float64), torch.ones(3, 1, dtype=torch.float64)
    w = torch.tensor([[1.0], [2.0], [0.5]], dtype=torch.float64)
    positions = torch.cat([corners / 64 - 1, zeros, ones], -1)[None] * w
    drawn = outline(128, 128, positions, torch.tensor([[0, 1, 2]], dtype=torch.int32)).sum()
    found = torch.autograd.grad(drawn, corners)[0]
    assert abs(drawn.item() - area.item()) < 1.5
    # Rows and columns sample each of two edges up to half a pixel short or long at either end; gradients are about 50.
    assert (found - exact).abs().max() < 2


def test_gradients_of_a_blended_picture_are_finite_differences():
    vertices, faces = bumpy_sphere(4)
    clip = facing_camera(vertices)[None].requires_grad_()
    colours = torch.rand(1, len(vertices), 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    target = torch.rand(1, 24, 24, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def loss(positions):
        face_id, weights, depth = rasterise(positions, faces, 24, 24)
        image = interpolate(colours, faces, face_id, weights)
        return (antialias(image, face_id, depth, positions, faces) - target).square().sum()

    (found,) = torch.autograd.grad(loss(clip), clip)
    # Steps so small that no pixel changes hands; along random directions, so that all vertices count.
    for seed in range(3):
        step = 1e-7 * torch.randn(clip.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        with torch.no_grad():
            slope = loss(clip + step) - loss(clip - step)
        assert math.isclose(slope.item(), 2 * (found * step).sum().item(), rel_tol=1e-4)


def test_descent_finds_where_a_ball_is_and_how_large():
    vertices, faces = bumpy_sphere(6)
    vertices = vertices.float()
    opposites = edge_opposites(faces)

    def picture(place, size):
        clip = facing_camera(vertices * size + torch.cat([place, place.new_zeros(1)]))[None]
        face_id, _, depth = rasterise(clip, faces, 48, 48)
        white = (face_id >= 0).float().unsqueeze(-1)
        return antialias(white, face_id, depth, clip, faces, opposites=opposites)

    target = picture(torch.tensor([0.21, -0.13]), torch.tensor(0.62))
    place, size = torch.zeros(2, requires_grad=True), torch.tensor(0.8, requires_grad=True)
    optimiser = torch.optim.Adam([place, size], 0.02)
    for step in range(80):
        for group in optimiser.param_groups:
            group["lr"] = 0.02 * (1 - step / 80)
        optimiser.zero_grad()
        (picture(place, size) - target).square().mean().backward()
        optimiser.step()
    torch.testing.assert_close(place.detach(), torch.tensor([0.21, -0.13]), atol=2e-3, rtol=0)
    assert abs(size.item() - 0.62) < 2e-3


def test_without_blending_a_silhouette_has_no_gradient():
    positions = from_pixels([[1, 1], [6, 2], [2, 7]], (8, 8)).requires_grad_()
    face_id, weights, _ = rasterise(positions, torch.tensor([[0, 1, 2]], dtype=torch.int32), 8, 8)
    (gradient,) = torch.autograd.grad(weights.sum(), positions)
    assert gradient.abs().max() < 1e-12
    assert not face_id.requires_grad


def test_mistakes_are_told_in_one_line():
    positions = torch.zeros(1, 3, 4)
    faces = torch.zeros(1, 3, dtype=torch.int32)
    with pytest.raises(MaquetteError, match=r"positions must be \[B, V, 4\]"):
        rasterise(positions[0], faces, 4, 4)
    with pytest.raises(MaquetteError, match="faces must be int32"):
        rasterise(positions, faces.long(), 4, 4)
    with pytest.raises(MaquetteError, match="at most 16384"):
        rasterise(positions, faces, 4, 20000)
    with pytest.raises(MaquetteError, match=r"uv must be \[V, 2\]"):
        rasterise_uv(positions[0], faces, 4, 4)
    face_id, weights, depth = rasterise(positions, faces, 4, 4)
    with pytest.raises(MaquetteError, match="barycentrics must be"):
        interpolate(torch.zeros(1, 3, 2), faces, face_id, weights[..., :2])
    with pytest.raises(MaquetteError, match="image must be"):
        antialias(torch.zeros(1, 4, 5, 3), face_id, depth, positions, faces)
