"""Pictures without a display: in the right place, lit, smooth, and on a page."""

from __future__ import annotations

import numpy as np
import trimesh
from PIL import Image

from maquette.types import Mesh
from maquette_data3d import Camera, contact_sheet, render
from maquette_data3d.procedural import sample_shape


def ball(radius=0.45, at=(0, 0, 0), color=None):
    made = trimesh.creation.icosphere(4, radius)
    colors = None if color is None else np.tile(np.array([*color, 255], np.uint8), (len(made.vertices), 1))
    return Mesh((made.vertices + at).astype(np.float32), made.faces.astype(np.int32), colors)


FRONT = Camera(azimuth=0, elevation=0)


def test_a_sphere_covers_its_disc_at_its_depth():
    picture = render(ball(0.3), 128, FRONT)
    distance = FRONT.fit / np.sin(np.radians(15))
    radius = np.tan(np.arcsin(0.3 / distance)) * FRONT.focal() * 64
    assert abs(picture.mask.sum() / (np.pi * radius**2) - 1) < 0.01
    assert abs(picture.depth[64, 64] - (distance - 0.3)) < 2e-3
    assert np.isinf(picture.depth[2, 2]) and picture.mask[2, 2] == 0
    assert np.allclose(picture.normal[64, 64], [0, 0, 1], atol=0.05)
    assert picture.rgb.shape == (128, 128, 3) and picture.rgb.dtype == np.uint8


def test_right_is_x_up_is_y_front_is_z():
    def middle(at):
        rows, columns = np.nonzero(render(ball(0.05, at), 96, FRONT, ground=False).mask > 0.5)
        return columns.mean() - 47.5, rows.mean() - 47.5

    assert middle((0.3, 0, 0))[0] > 15 and abs(middle((0.3, 0, 0))[1]) < 2
    assert middle((0, 0.3, 0))[1] < -15
    near = render(ball(0.05, (0, 0, 0.3)), 96, FRONT).depth.min()
    assert near < render(ball(0.05, (0, 0, -0.3)), 96, FRONT).depth.min()
    from_right = render(ball(0.05, (0, 0, 0.3)), 96, Camera(azimuth=90, elevation=0), ground=False)
    assert np.nonzero(from_right.mask > 0.5)[1].mean() < 33  # the front is on the left, seen from +x


def test_colors_show_and_the_top_is_brighter_than_the_bottom():
    picture = render(ball(0.45, color=(200, 40, 30)), 128, FRONT)
    inside = picture.rgb[picture.mask > 0.99].astype(int)
    assert (inside[:, 0] > inside[:, 1]).all() and (inside[:, 0] > inside[:, 2]).all()
    assert picture.rgb[24:50, 50:78].mean() > picture.rgb[82:104, 50:78].mean() + 10
    shaded = np.abs(np.diff(picture.rgb[64, 30:98].astype(int), axis=0)).max()
    assert shaded < 12, "a sphere must look smooth"


def test_edges_of_a_box_stay_sharp_and_open_meshes_are_lit_from_both_sides():
    made = trimesh.creation.box((0.6, 0.6, 0.6))
    picture = render(Mesh(made.vertices, made.faces), 96)
    flat = picture.normal[picture.mask > 0.99]
    assert len(np.unique(np.round(flat, 3), axis=0)) == 3
    sheet = Mesh([[-0.4, -0.4, 0], [0.4, -0.4, 0], [0, 0.4, 0]], [[0, 1, 2]])
    back = render(sheet, 64, Camera(azimuth=180, elevation=0), ground=False)
    assert np.allclose(back.normal[32, 32], [0, 0, -1], atol=1e-3) and back.rgb[32, 32].max() > 60


def test_the_floor_has_a_shadow_and_the_same_picture_comes_twice():
    mesh = ball(0.3)
    with_floor, without = render(mesh, 96), render(mesh, 96, ground=False)
    empty = without.mask == 0
    darker = without.rgb[empty].astype(int) - with_floor.rgb[empty]
    assert darker.max() > 20 and (darker >= 0).all()
    assert np.array_equal(render(mesh, 96).rgb, with_floor.rgb)
    assert (render(mesh, 32, background=(0, 0, 0), ground=False).rgb[0, 0] == 0).all()


def test_an_empty_mesh_is_an_empty_picture():
    picture = render(Mesh(np.zeros((0, 3)), np.zeros((0, 3))), 32)
    assert picture.mask.sum() == 0 and np.isinf(picture.depth).all()


def test_a_contact_sheet_has_a_tile_a_mesh_and_room_for_words(tmp_path):
    shape = sample_shape(0, 0)
    rows = [
        [(shape.mesh(24), shape.caption), (ball(), "a ball")],
        [(ball(), "an unreasonably long label " * 9)],
    ]
    path = contact_sheet(rows, tmp_path / "sheet.png", size=96, title="Shapes", row_labels=["one", "two"])
    image = np.asarray(Image.open(path))
    assert image.shape[1] == 2 * 9 + 2 * 96 + 6 and image.shape[0] > 2 * 96
    assert image.std() > 5 and [p.name for p in tmp_path.iterdir()] == ["sheet.png"]
    assert Image.open(contact_sheet([[(ball(), "")]], tmp_path / "one.png", size=64)).size[0] > 64
