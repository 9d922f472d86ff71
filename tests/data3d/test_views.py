"""Views of an object: geometry that agrees with the camera, textures in their place, light that behaves."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from maquette.errors import MaquetteError
from maquette.types import Material, Mesh
from maquette_data3d.rendering import Camera, Surface, orbit, raster, render_views, thumbnail
from maquette_data3d.rendering.textures import decoded

SIZE = 48
FRONT = Camera(azimuth=0, elevation=0)


def ball(radius=0.45, color=None):
    made = trimesh.creation.icosphere(3, radius)
    colors = None if color is None else np.tile(np.array([*color, 255], np.uint8), (len(made.vertices), 1))
    return Mesh(made.vertices.astype(np.float32), made.faces.astype(np.int32), colors)


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, "PNG")
    return file.getvalue()


def plate(material, images, turned=False, half=0.4, z=0.0):
    """A square in the xy plane that faces the front, u to the right and v down, as a textured surface."""
    corners = np.array([[-half, half, z], [-half, -half, z], [half, -half, z], [half, half, z]])
    uv = np.array([[0, 0], [0, 1], [1, 1], [1, 0]], np.float32)
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    scene = SimpleNamespace(uv=uv[faces], material=np.zeros(2, np.int32), materials=(material,), images=tuple(images))
    clean = SimpleNamespace(
        vertices=corners,
        faces=(faces[:, ::-1] if turned else faces).astype(np.int32),
        corner_colors=np.full((2, 3, 3), 90, np.uint8),
        source_face=np.arange(2),
        turned=np.full(2, turned),
    )
    return Surface.of_scene(clean, scene)


def ramp(size=256):
    """An image whose red is its column and whose green is its row."""
    column, row = np.meshgrid(np.arange(size), np.arange(size))
    return np.stack([column, row, np.full_like(row, 40)], -1)


def nearest_hit(vertices, faces, eye, rays):
    """Depth along each ray by testing every triangle (Moeller and Trumbore 1997), and the face."""
    a = vertices[faces[:, 0]]
    e1, e2 = vertices[faces[:, 1]] - a, vertices[faces[:, 2]] - a
    p = np.cross(rays[:, None], e2[None])
    det = (e1 * p).sum(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        u = ((eye - a) * p).sum(-1) / det
        q = np.cross(eye - a, e1)
        v = (rays[:, None] * q).sum(-1) / det
        t = (e2 * q).sum(-1) / det
        hit = (np.abs(det) > 1e-14) & (np.minimum(np.minimum(u, v), 1 - u - v) >= 0) & (t > 0)
        edge = np.abs(np.minimum(np.minimum(u, v), 1 - u - v)).min(1)
    t = np.where(hit, t, np.inf)
    return t.min(1), np.where(np.isfinite(t.min(1)), t.argmin(1), -1), edge


@given(st.integers(0, 2**32 - 1), st.sampled_from(["fibonacci", "turntable", "random"]))
def test_depth_position_and_cameras_agree(seed, scheme):
    views = render_views(ball(), orbit(2, seed, fov=(25, 60), scheme=scheme), SIZE, "flat")
    for number in range(2):
        rows, columns = np.nonzero(views.face[number] >= 0)
        local = views.position[number][rows, columns] @ views.cameras[number, :3, :3].T + views.cameras[number, :3, 3]
        assert np.allclose(local[:, 2], views.depth[number][rows, columns], atol=2e-6)
        pixels = local @ views.intrinsics[number].T / local[:, 2:]
        assert np.allclose(pixels[:, 0], columns + 0.5, atol=1e-3)
        assert np.allclose(pixels[:, 1], rows + 0.5, atol=1e-3)


@given(st.integers(0, 2**32 - 1))
def test_a_soup_looks_as_testing_every_triangle_says(seed):
    rng = np.random.default_rng(seed)
    vertices = (rng.uniform(-0.4, 0.4, (30, 1, 3)) + rng.normal(0, 0.12, (30, 3, 3))).reshape(-1, 3)
    mesh = Mesh(vertices.astype(np.float32), np.arange(90).reshape(-1, 3))
    camera = orbit(1, seed, fov=(30, 60), scheme="random")[0]
    views = render_views(mesh, [camera], 32, "flat")
    matrix, intrinsics = camera.matrix(), camera.intrinsics(32)
    column, row = np.meshgrid(np.arange(32) + 0.5, np.arange(32) + 0.5)
    rays = np.stack([column, row, np.ones_like(row)], -1).reshape(-1, 3) @ np.linalg.inv(intrinsics).T @ matrix[:3, :3]
    depth, face, edge = nearest_hit(mesh.vertices.astype(float), mesh.faces, camera.pose()[1], rays)
    clear = edge > 1e-6
    seen = views.face[0].reshape(-1)
    near = np.isclose(views.depth[0].reshape(-1), depth, atol=1e-5)
    assert (near | np.isinf(depth))[clear].all()
    assert ((seen == face) | (near & (face >= 0)))[clear].all()


@given(st.integers(0, 2**32 - 1))
def test_points_in_one_place_are_welded_and_seams_are_not_seen(seed):
    points = np.random.default_rng(seed).integers(-3, 4, (60, 3)).astype(np.float32) / 8
    _, index, inverse = np.unique(points, axis=0, return_index=True, return_inverse=True)
    assert np.array_equal(raster.welded(points), index[inverse.reshape(-1)])
    whole = ball()
    torn = whole.vertices[whole.faces].reshape(-1, 3).astype(np.float64)
    loose = np.arange(len(torn), dtype=np.int32).reshape(-1, 3)
    smooth = raster.smooth_normals(whole.vertices.astype(np.float64), whole.faces, 40.0)
    assert np.array_equal(raster.smooth_normals(torn, loose, 40.0), smooth)


def test_compiled_code_is_cached_without_our_classes():
    surface = Surface.of_mesh(ball())
    assert type(surface.look.plain()) is tuple and type(surface.look.plain()[-1]) is tuple


def test_normals_are_unit_and_those_of_the_sphere_and_face_the_camera():
    cameras = orbit(6, 1)
    views = render_views(ball(), cameras, SIZE)
    seen = views.face >= 0
    assert np.allclose(np.linalg.norm(views.normal[seen], axis=-1), 1, atol=1e-5)
    assert (
        (views.normal[~seen] == 0).all() and (views.position[~seen] == 0).all() and np.isinf(views.depth[~seen]).all()
    )
    radial = views.position[seen] / np.linalg.norm(views.position[seen], axis=-1, keepdims=True)
    assert (views.normal[seen] * radial).sum(-1).min() > 0.995
    inside_out = ball()
    turned = render_views(Mesh(inside_out.vertices, inside_out.faces[:, ::-1]), cameras, SIZE)
    assert np.allclose(turned.normal, views.normal, atol=1e-4)


@pytest.mark.parametrize("turned", [False, True])
def test_a_texture_is_perspective_correct_seen_from_the_side(turned):
    surface = plate(Material(textures={"base_color": 0}), [png(ramp())], turned)
    for camera in (FRONT, Camera(azimuth=55, elevation=25, fov=60, fit=0.5)):
        views = render_views(surface, [camera], 192, "flat")
        seen = views.face[0] >= 0
        u, v = views.position[0][seen][:, 0] / 0.8 + 0.5, 0.5 - views.position[0][seen][:, 1] / 0.8
        inner = (np.minimum(u, v) > 0.03) & (np.maximum(u, v) < 0.97)
        assert seen.sum() > 2000
        assert np.abs(views.albedo[0][seen][inner, 0] - (u[inner] * 256 - 0.5)).max() < 3
        assert np.abs(views.albedo[0][seen][inner, 1] - (v[inner] * 256 - 0.5)).max() < 3
        assert np.abs(views.albedo[0][seen][inner, 2].astype(int) - 40).max() <= 1


def test_a_fine_chequerboard_far_away_is_even():
    board = np.where((np.indices((512, 512)).sum(0) % 2 == 0)[..., None], 250, 10) * np.ones(3)
    views = render_views(plate(Material(textures={"base_color": 0}), [png(board)]), [FRONT], SIZE, "flat")
    seen = views.rgb[0, ..., 3] == 255
    assert views.rgb[0][seen][:, :3].std() < 2 and 100 < views.rgb[0][seen][:, 0].mean() < 210


def test_factors_data_textures_and_emission():
    grey, data = np.full((4, 4, 3), 255), np.full((4, 4, 3), (0, 128, 64))
    textures = {"base_color": 0, "metallic_roughness": 1}
    material = Material(base_color=(0.5, 1, 0, 1), metallic=1.0, roughness=0.5, textures=textures)
    views = render_views(plate(material, [png(grey), png(data)]), [FRONT], 16, "flat")
    assert np.abs(views.albedo[0, 8, 8].astype(int) - (188, 255, 0)).max() <= 1
    assert np.abs(views.metallic_roughness[0, 8, 8].astype(int) - (64, 64)).max() <= 1
    dark = Material(base_color=(0, 0, 0, 1), textures={"base_color": 0})
    glowing = Material(base_color=(0, 0, 0, 1), emissive=(0, 0.8, 0), textures={"base_color": 0})
    off, on = (render_views(plate(m, [png(grey)]), [FRONT], 16).rgb[0, 8, 8].astype(int) for m in (dark, glowing))
    assert on[1] > off[1] + 100 and on[0] == off[0]


def test_without_an_image_the_corner_colors_are_seen():
    views = render_views(plate(Material(base_color=(1, 0, 0, 1)), []), [FRONT], 16, "flat")
    assert (views.albedo[0, 8, 8] == 90).all() and (views.rgb[0, 8, 8] == (90, 90, 90, 255)).all()


def test_holes_of_an_image_are_seen_through():
    holes = np.full((8, 8, 4), 255)
    holes[:, :4, 3] = 0
    textures = {"base_color": 0}
    solid, cut = (plate(Material(alpha_mode=mode, textures=textures), [png(holes)]) for mode in ("opaque", "mask"))
    assert (render_views(solid, [FRONT], SIZE, "flat").face[0, 24, 14:34] >= 0).all()
    views = render_views(cut, [FRONT], SIZE, "flat")
    assert (views.face[0, 24, :22] == -1).all() and (views.face[0, 24, 27:34] >= 0).all()
    assert (views.rgb[0, 24, :22, 3] == 0).all() and views.rgb[0, 24, 30, 3] == 255


def test_the_set_ups_of_light_differ_and_shadows_fall():
    red = ball(color=(200, 40, 30))
    flat, studio, sun = (
        render_views(red, [FRONT], SIZE, name).rgb[0].astype(int) for name in ("flat", "studio", "sun")
    )
    inside = flat[..., 3] == 255
    assert np.abs(flat[inside][:, :3] - (200, 40, 30)).max() <= 1
    for lit in (studio, sun):
        assert lit[8:14, 20:28, 0].mean() > lit[34:40, 20:28, 0].mean() + 25
        assert (lit[..., 3] == flat[..., 3]).all()
    floor = trimesh.creation.box((0.8, 0.02, 0.8)).apply_translation((0, -0.3, 0))
    roof = trimesh.creation.box((0.3, 0.02, 0.3))
    above = Camera(azimuth=0, elevation=89)
    both = trimesh.util.concatenate([floor, roof])
    bare, shaded = (render_views(Mesh(m.vertices, m.faces), [above], 96, "sun").rgb[0] for m in (floor, both))
    darker = bare[..., 0].astype(int) - shaded[..., 0]
    assert (darker > 60).sum() > 150


def test_a_metal_mirrors_its_colour_and_a_rough_one_less_sharply():
    def seen(metallic, roughness):
        look = Material(base_color=(0.9, 0.5, 0.2, 1), metallic=metallic, roughness=roughness)
        round_ball = ball()
        count = len(round_ball.faces)
        surface = Surface(
            round_ball.vertices.astype(np.float64),
            round_ball.faces,
            np.full((count, 3, 3), (243, 188, 124), np.uint8),
            material=np.zeros(count, np.int32),
            materials=(look,),
        )
        rgb = render_views(surface, [FRONT], 96).rgb[0].astype(int)
        return rgb[rgb[..., 3] == 255][:, :3]

    plastic, metal = seen(0.0, 0.2), seen(1.0, 0.2)
    assert metal.mean() < plastic.mean() - 8
    dull = seen(1.0, 1.0)
    assert metal.sum(-1).max() > dull.sum(-1).max() + 60 and metal.std() > dull.std() + 3
    assert (metal[..., 0].mean() - metal[..., 2].mean()) > 40, "a metal's reflection has its colour"
    assert plastic.max() >= seen(0.0, 0.9).max()


@pytest.mark.parametrize("scheme", ["fibonacci", "turntable", "random"])
def test_orbits_repeat_see_everything_and_go_around(scheme):
    cameras = orbit(24, 5, fov=(20, 70), scheme=scheme)
    assert cameras == orbit(24, np.random.default_rng(5), fov=(20, 70), scheme=scheme)
    assert all(20 <= camera.fov <= 70 for camera in cameras)
    directions = np.stack([camera.pose()[1] / camera.reach() for camera in cameras])
    assert np.linalg.norm(directions.mean(0)) < 0.4
    corners = 0.45 * np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T
    for camera in cameras:
        local = corners @ camera.matrix()[:3, :3].T + camera.matrix()[:3, 3]
        pixels = local @ camera.intrinsics(100).T / local[:, 2:]
        assert (pixels[:, :2] > 0).all() and (pixels[:, :2] < 100).all()
    if scheme == "fibonacci":
        angles = directions @ directions.T - 2 * np.eye(24)
        assert np.degrees(np.arccos(angles.max(1))).min() > 20, "evenly spread"
        assert cameras != orbit(24, 6, fov=(20, 70))


def test_orbits_stay_within_their_elevations():
    for scheme in ("fibonacci", "turntable", "random"):
        assert all(10 <= camera.elevation <= 40 for camera in orbit(9, 2, scheme=scheme, elevation=(10, 40)))


def test_views_come_the_same_twice_and_a_camera_alone_sees_what_it_sees_among_others():
    cameras = orbit(3, 9)
    first, second = render_views(ball(), cameras, 32), render_views(ball(), cameras, 32)
    alone = render_views(ball(), cameras[1:2], 32)
    for name in ("rgb", "depth", "normal", "position", "face", "albedo", "metallic_roughness", "cameras", "intrinsics"):
        assert np.array_equal(getattr(first, name), getattr(second, name))
        assert np.array_equal(getattr(first, name)[1], getattr(alone, name)[0])
        assert getattr(first, name).dtype == getattr(alone, name).dtype
    bare = render_views(ball(), cameras, 32, picture=False)
    assert (bare.rgb == 0).all() and np.array_equal(bare.depth, first.depth) and first.rgb.any()


def test_an_empty_mesh_and_a_face_without_area_are_nothing():
    assert (render_views(Mesh(np.zeros((0, 3)), np.zeros((0, 3))), [FRONT], 8).face == -1).all()
    line = Mesh([[0, 0, 0], [0.2, 0, 0], [0.4, 0, 0]], [[0, 1, 2], [0, 0, 1]])
    views = render_views(line, orbit(3), 8)
    assert (views.face == -1).all() and (views.rgb == 0).all()


def test_thumbnails_are_small_webp_files_and_always_the_same():
    data = thumbnail(ball(color=(30, 90, 200)), 64)
    assert data == thumbnail(ball(color=(30, 90, 200)), 64) and len(data) < 4000
    picture = Image.open(io.BytesIO(data))
    assert picture.format == "WEBP" and picture.size == (64, 64)
    pixels = np.asarray(picture.convert("RGBA"))
    assert pixels[0, 0, 3] == 0 and pixels[32, 32, 3] == 255 and pixels[32, 32, 2] > pixels[32, 32, 0] + 40


def test_mistakes_are_named():
    with pytest.raises(MaquetteError, match="no light 'moon'"):
        render_views(ball(), [FRONT], 8, "moon")
    with pytest.raises(MaquetteError, match="no scheme 'spiral'"):
        orbit(3, scheme="spiral")
    with pytest.raises(MaquetteError, match="needs a camera"):
        render_views(ball(), [], 8)
    with pytest.raises(MaquetteError, match="fov"):
        orbit(3, fov=(50, 20))
    with pytest.raises(MaquetteError, match="texture 1 is no image"):
        decoded([png(np.zeros((2, 2, 3))), b"not a picture"])
    with pytest.raises(MaquetteError, match="texture 0"):
        decoded([png(np.zeros((2, 2, 3)))[:40]])
