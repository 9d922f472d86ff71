"""Pictures laid back on a surface: round trips, what hides what, which views are chosen, how gaps are filled."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maquette.errors import MaquetteError
from maquette.types import Mesh
from maquette_models.texturing.view_atlas import atlas_of, points_on
from maquette_models.texturing.view_attributes import shown_attributes, to_linear
from maquette_models.texturing.view_cameras import around, spread
from maquette_models.texturing.view_choice import choose_views
from maquette_models.texturing.view_inpainting import inpaint_surface
from maquette_models.texturing.view_maps import corner_normals, view_maps
from maquette_models.texturing.view_projection import SurfacePoints, cosines
from maquette_models.texturing.view_scene import ViewedMesh, viewed
from tests.models.texturing.painted_shapes import box, globe, paint_at, textured


def scene_of(mesh, cameras, size):
    normals = corner_normals(mesh)
    maps, fine = (view_maps(mesh, normals, cameras, side) for side in (size, 256))
    return ViewedMesh(mesh, normals, cameras, maps, fine)


def psnr(found, true):
    return -10 * math.log10(max(float((found - true).square().mean()), 1e-12))


@pytest.mark.parametrize(("mesh", "seen_share"), [(globe(), 0.99), (box([-0.3, -0.2, -0.4], [0.3, 0.2, 0.4]), 0.99)])
def test_a_texture_comes_back_from_its_pictures(mesh, seen_share):
    painted, atlas = textured(mesh)
    scene = viewed(painted, 6, 192, candidates=12)
    values, weight = scene.laid_back(atlas.points, scene.pictures())
    seen = weight > 0
    assert seen.float().mean() > seen_share
    assert psnr(values[seen], paint_at(atlas.points.positions)[seen]) > 38


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), count=st.integers(1, 3), fov=st.floats(15, 80))
def test_no_camera_moves_colours(seed, count, fov):
    """What any camera shows of a point is the paint at that point, whatever the camera's place and lens."""
    painted, atlas = textured(globe(rows=8, columns=16), 64)
    directions = torch.from_numpy(np.random.default_rng(seed).normal(size=(count, 3)))
    scene = scene_of(painted, around(directions, 0.5, fov), 96)
    values, weight = scene.laid_back(atlas.points, scene.pictures())
    seen = weight > 1e-2
    assert seen.any()
    away = (values - paint_at(atlas.points.positions))[seen].abs()
    assert away.max() < 0.2 and away.mean() < 0.02


def test_what_is_hidden_gets_nothing():
    """A box behind a sphere: seen from the front, no texel of the box has the sphere's colour."""
    ball, back = globe(0.2), box([-0.35, -0.35, -0.45], [0.35, 0.35, -0.3])
    both = Mesh(
        np.concatenate([ball.vertices, back.vertices]),
        np.concatenate([ball.faces, back.faces + len(ball.vertices)]),
        np.concatenate([np.tile([255, 0, 0, 255], (len(ball.vertices), 1)), np.tile([0, 0, 255, 255], (24, 1))]),
    )
    scene = scene_of(both, around(torch.tensor([[0.0, 0.0, 1.0], [0.3, 0.2, 1.0]]), 0.6), 128)
    atlas = atlas_of(back, corner_normals(back), 128)
    values, weight = scene.laid_back(atlas.points, scene.pictures())
    assert (weight > 0).any()
    assert values[weight > 0][:, 0].max() < 1e-5 and values[weight > 0][:, 2].min() > 1 - 1e-5
    front = atlas.points.positions[:, 2] > -0.301
    behind = front & (atlas.points.positions[:, :2].norm(dim=1) < 0.1)
    assert not (cosines(atlas.points, scene.cameras.chosen([0]), scene_of(both, scene.cameras.chosen([0]), 8).fine)[
        0, behind
    ] > 0).any()  # fmt: skip
    assert (weight[atlas.points.positions[:, 2] < -0.44] == 0).all()  # the box's own back


def test_pictures_have_the_top_at_row_0_and_the_right_at_the_last_column():
    """The axes of the cameras that shards store: the front camera sees +x on the right and +y on top."""
    mesh = box([0.2, 0.3, -0.05], [0.3, 0.4, 0.05])
    maps = scene_of(mesh, around(torch.tensor([[0.0, 0.0, 1.0]]), 0.6), 64).maps
    rows, columns = maps.covered[0].nonzero().float().mean(dim=0).tolist()
    assert rows < 24 and columns > 40
    eye = around(torch.tensor([[0.0, 0.0, 2.0]]), 0.6).eyes()
    assert eye[0, 2] > 1 and eye[0, :2].abs().max() < 1e-5


def test_cameras_are_those_of_the_data():
    """A mesh's maps equal those that the data package renders from the same place."""
    from maquette_data3d.rendering.camera import Camera
    from maquette_data3d.rendering.views import render_views

    camera = Camera(azimuth=40, elevation=25, fov=40, fit=0.62)
    mesh = globe(0.4)
    theirs = render_views(mesh, [camera], 48, picture=False)
    direction = torch.from_numpy(camera.pose()[1]).float()[None]
    cameras = around(direction, 0.62, 40)
    ours = scene_of(mesh, cameras, 48).maps
    assert torch.allclose(cameras.matrices, torch.from_numpy(theirs.cameras), atol=1e-5)
    both = ours.covered[0] & torch.from_numpy(theirs.face[0] >= 0)
    assert both.sum() > 0.98 * ours.covered.sum()
    assert (ours.position[0].movedim(0, -1) - torch.from_numpy(theirs.position[0]))[both].abs().max() < 2e-3
    assert (ours.normal[0].movedim(0, -1) - torch.from_numpy(theirs.normal[0]))[both].abs().max() < 0.1


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), count=st.integers(1, 6))
def test_views_are_chosen_by_what_they_add(seed, count):
    straight = torch.from_numpy(np.random.default_rng(seed).random((6, 20)))
    chosen = choose_views(straight, count, least=0.0)
    assert len(chosen) <= count and len(set(chosen)) == len(chosen)
    alone = straight.clamp(max=0.4).mean(dim=1)
    assert alone[chosen[0]] >= alone.max() - 1e-9
    assert choose_views(straight, 6) == choose_views(straight, 6)[: len(choose_views(straight, 6))]


def test_gaps_are_filled_from_their_own_side():
    """A thin sheet, red on one side and blue on the other: a gap on either side takes its own side's colour."""
    line = torch.linspace(-0.4, 0.4, 30)
    x, y = torch.meshgrid(line, line, indexing="ij")
    flat = torch.stack([x.flatten(), y.flatten(), torch.zeros(900)], dim=1)
    up = torch.tensor([0.0, 0, 1]).expand(900, 3)
    points = SurfacePoints(
        torch.cat([flat, flat - torch.tensor([0.0, 0, 0.01])]),
        torch.cat([up, -up]),
        torch.zeros(1800, dtype=torch.bool),
    )
    colors = torch.cat([torch.tensor([1.0, 0, 0]).expand(900, 3), torch.tensor([0.0, 0, 1]).expand(900, 3)])
    seen = points.positions[:, 0].abs() > 0.15
    filled = inpaint_surface(points, torch.where(seen[:, None], colors, 0.0), seen)
    assert torch.allclose(filled, colors, atol=1e-5)
    assert torch.equal(filled[seen], colors[seen])


def test_attributes_are_those_of_textures_and_factors():
    """Texture times factor in linear light; a face without a material shows its colours."""
    painted, atlas = textured(box([-0.3] * 3, [0.3] * 3), 128)
    found = shown_attributes(painted, atlas.face, atlas.share)
    assert (found - paint_at(atlas.points.positions)).abs().max() < 0.03
    half = replace(painted.materials[0], base_color=(0.5, 0.5, 0.5, 1.0), metallic=0.5)
    darker = shown_attributes(replace(painted, materials=(half,)), atlas.face, atlas.share)
    assert torch.allclose(darker[:, 3] * 2, found[:, 3], atol=1e-5)
    linear = [torch.from_numpy(to_linear(values[:, :3].double().numpy())) for values in (darker, found)]
    assert torch.allclose(linear[0] * 2, linear[1], atol=1e-4)
    bare = replace(painted, material=np.full(len(painted.faces), -1, np.int32), colors=np.full((24, 4), 51, np.uint8))
    assert torch.allclose(shown_attributes(bare, atlas.face, atlas.share)[:, :3], torch.tensor(0.2), atol=1e-5)


def test_a_view_too_many_is_said():
    with pytest.raises(MaquetteError, match="5 views of 4 candidates"):
        viewed(globe(rows=4, columns=8), 5, 32, candidates=4)
    assert points_on(globe(rows=4, columns=8), corner_normals(globe(rows=4, columns=8)), torch.tensor([0]), torch.ones(
        1, 3) / 3).positions.shape == (1, 3)  # fmt: skip
    assert spread(30).norm(dim=1).allclose(torch.ones(30))
