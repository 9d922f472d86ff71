"""Texture coordinates without overlaps, and materials baked onto them."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from maquette.errors import MaquetteError
from maquette.finishing import finish
from maquette.types import Asset, Material, Mesh
from maquette_data3d.exporting.shading_normals import corner_normals
from maquette_data3d.finishing.charts import by_xatlas, cell_a_face
from maquette_data3d.finishing.tangents import corner_tangents, frames
from maquette_data3d.finishing.transfer import nearest
from maquette_kernels.raster.atlas import texel_surface
from tests.data3d.finishing.finishing_meshes import ball, box, furnished, png, soup


def _area(uv: np.ndarray) -> np.ndarray:
    along, across = uv[:, 1] - uv[:, 0], uv[:, 2] - uv[:, 0]
    return np.abs(along[:, 0] * across[:, 1] - along[:, 1] * across[:, 0]) / 2


def _image(mesh: Mesh, role: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(mesh.images[mesh.materials[0].textures[role]])))


def _no_overlap(uv: np.ndarray, size: int = 1024) -> None:
    """Texels that two drawing orders give to different faces lie on edges only."""
    first = texel_surface(torch.from_numpy(uv), size)[0].numpy()
    last = texel_surface(torch.from_numpy(uv[::-1].copy()), size)[0].numpy()
    last = np.where(last >= 0, len(uv) - 1 - last, -1)
    assert (first != last).mean() < 0.01


@pytest.mark.parametrize("mesh", [box(), ball(3), furnished(), soup(3, 200)], ids=["box", "ball", "furnished", "soup"])
def test_unwrapping_gives_every_face_its_own_texels(mesh: Mesh) -> None:
    made = finish(Asset(mesh), ["unwrap"]).mesh
    assert made.uv.min() >= 0
    assert made.uv.max() <= 1
    assert _area(made.uv).sum() > 0.25
    _no_overlap(made.uv)
    assert (made.vertices == mesh.vertices).all()
    assert (made.material == 0).all()
    assert len(made.materials) == 1
    assert (finish(Asset(mesh), ["unwrap"]).mesh.uv == made.uv).all()


def test_coordinates_are_kept_on_demand_and_doubted_where_they_overlap() -> None:
    mesh = furnished()
    kept = finish(Asset(mesh), [{"name": "unwrap", "keep": True}])
    assert (kept.mesh.uv == mesh.uv).all()
    assert "overlap" in kept.metadata["finishing"][0]["warnings"][0]


def test_too_many_faces_get_a_cell_each_and_the_reason() -> None:
    made = finish(Asset(ball(3)), [{"name": "unwrap", "largest_faces": 100}])
    assert "largest_faces=100" in made.metadata["finishing"][0]["warnings"][0]
    _no_overlap(made.mesh.uv)
    assert (_area(made.mesh.uv) > 0).all()


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_cells_keep_their_distance(count: int) -> None:
    charts = cell_a_face(count, 512, 6)
    face = texel_surface(torch.from_numpy(charts.uv), 512)[0].numpy()
    assert len(np.unique(face[face >= 0])) == count
    borders = (face[:, 1:] != face[:, :-1]) & (face[:, 1:] >= 0) & (face[:, :-1] >= 0)
    assert not borders.any()


def test_charts_of_xatlas_keep_the_padding() -> None:
    mesh = box()
    charts = by_xatlas(mesh.vertices, mesh.faces, 256, 8)
    face = texel_surface(torch.from_numpy(charts.uv), 256)[0].numpy()
    chart = np.where(face >= 0, charts.chart[face], -1)
    for step in (1, 2, 3, 4, 5):
        meets = (chart[:, step:] != chart[:, :-step]) & (chart[:, step:] >= 0) & (chart[:, :-step] >= 0)
        assert not meets.any()


def test_baking_brings_a_texture_over() -> None:
    made = finish(
        Asset(furnished()),
        [{"name": "unwrap", "resolution": 512}, {"name": "bake", "resolution": 512, "normal": False}],
    )
    mesh = made.mesh
    face, weights = (found.numpy() for found in texel_surface(torch.from_numpy(mesh.uv), 512))
    on = face >= 0
    points = np.einsum("pk,pkc->pc", weights[on], mesh.vertices[mesh.faces[face[on]]])
    color, data = _image(mesh, "base_color")[on], _image(mesh, "metallic_roughness")[on]
    inner = (np.abs(points[:, :2]) < 0.45).all(1)  # at its border the image goes over into its other side
    low, high = (points[:, 1] < -0.05) & inner, points[:, 1] > 0.05
    expected = (points[low][:, [1, 0]] + 0.5) * 256 - 2
    error = (color[low][:, :2] - expected) / 255
    assert -10 * np.log10((error**2).mean()) > 35
    np.testing.assert_array_equal(data[high][:, 2], 255)
    np.testing.assert_allclose(data[high][:, 1], 0.3 * 255, atol=1)
    assert color[high].std(0).max() == 0


def test_a_normal_map_gives_back_the_detail() -> None:
    smooth, detailed = ball(0), ball(4)
    made = finish(Asset(smooth), [{"name": "unwrap", "resolution": 256}]).mesh
    step = {"name": "bake", "resolution": 256}
    from maquette_data3d.finishing.bake import Bake, BakeConfig

    baker = Bake(BakeConfig(**{key: value for key, value in step.items() if key != "name"}))
    baker.use_source(Asset(detailed))
    mesh = baker(Asset(made)).mesh
    face, weights = (found.numpy() for found in texel_surface(torch.from_numpy(mesh.uv), 256))
    on = face >= 0
    local = _image(mesh, "normal")[on].astype(float) / 255 * 2 - 1
    normals = corner_normals(mesh, 40.0)
    tangents = corner_tangents(mesh.vertices, mesh.faces, mesh.uv, normals)
    axes = frames(tangents[face[on]], normals[face[on]].astype(float), weights[on].astype(float))
    world = np.einsum("pij,pj->pi", axes, local)
    world /= np.linalg.norm(world, axis=1, keepdims=True)
    points = np.einsum("pk,pkc->pc", weights[on], mesh.vertices[mesh.faces[face[on]]])
    outwards = points / np.linalg.norm(points, axis=1, keepdims=True)
    assert np.degrees(np.arccos((world * outwards).sum(1).clip(-1, 1))).mean() < 3


def test_tangents_of_a_flat_texture_point_along_it() -> None:
    quad = Mesh([[0, 0, 0], [2, 0, 0], [2, 2, 0], [0, 2, 0]], [[0, 1, 2], [0, 2, 3]])
    uv = np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32)[quad.faces]  # v downwards: upright on the wall
    normals = np.broadcast_to(np.array([0, 0, 1], np.float32), (2, 3, 3))
    for turned, tangent, sign in ((uv, [1, 0, 0], 1), (np.stack([1 - uv[..., 0], uv[..., 1]], -1), [-1, 0, 0], -1)):
        found = corner_tangents(quad.vertices, quad.faces, turned, normals)
        np.testing.assert_allclose(found, np.broadcast_to([*tangent, sign], (2, 3, 4)), atol=1e-6)
        bitangent = found[0, 0, 3] * np.cross(normals[0, 0], found[0, 0, :3])
        np.testing.assert_allclose(bitangent, [0, 1, 0], atol=1e-6)  # where v shrinks: up


def test_occlusion_is_dark_in_a_box_and_bright_outside() -> None:
    outer = box()
    open_box = Mesh(outer.vertices, outer.faces[(outer.vertices[outer.faces][..., 1] < 0.4).any(1)])
    made = finish(
        Asset(open_box),
        [
            {"name": "unwrap", "resolution": 128},
            {"name": "bake", "resolution": 128, "occlusion": True, "normal": False},
        ],
    ).mesh
    shade = _image(made, "occlusion")[..., 0]
    face, _ = texel_surface(torch.from_numpy(made.uv), 128)
    assert shade[face.numpy() >= 0].mean() > 230  # its faces look outwards: all of them are open to the sky
    turned = Mesh(open_box.vertices, open_box.faces[:, ::-1])
    inside = finish(
        Asset(turned),
        [
            {"name": "unwrap", "resolution": 128},
            {"name": "bake", "resolution": 128, "occlusion": True, "normal": False},
        ],
    ).mesh
    face, _ = texel_surface(torch.from_numpy(inside.uv), 128)
    assert _image(inside, "occlusion")[..., 0][face.numpy() >= 0].mean() < 130


def test_baking_says_what_it_lacks() -> None:
    with pytest.raises(MaquetteError, match="unwrap"):
        finish(Asset(box()), ["bake"])
    with pytest.raises(MaquetteError, match="different places"):
        finish(Asset(ball()), ["unwrap", {"name": "units", "size_m": 5.0}, "bake"])


def test_coordinates_repeat_and_are_looked_up_like_that() -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    image[:, 4:] = 200
    quad = Mesh(
        [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]],
        [[0, 1, 2], [0, 2, 3]],
        uv=(np.array([[0, 1], [1, 1], [1, 0], [0, 0]], np.float32) * 2)[[[0, 1, 2], [0, 2, 3]]],
        material=np.zeros(2, np.int32),
        materials=(Material(textures={"base_color": 0}),),
        images=(png(image),),
    )
    made = finish(Asset(quad), [{"name": "unwrap", "resolution": 256}, {"name": "bake", "resolution": 256}]).mesh
    face, weights = (found.numpy() for found in texel_surface(torch.from_numpy(made.uv), 256))
    on = face >= 0
    x = np.einsum("pk,pk->p", weights[on], made.vertices[made.faces[face[on]]][..., 0])
    clear = np.abs((x * 4) % 1 - 0.5) < 0.2
    bright = _image(made, "base_color")[on][:, 0] > 100
    assert (bright[clear] == ((x[clear] * 4).astype(int) % 2 == 1)).all()


def test_the_nearest_point_lies_on_the_surface() -> None:
    found = nearest(ball(4), np.array([[2.0, 0, 0], [0, -3.0, 0]]))
    np.testing.assert_allclose(found.distance, [1.5, 2.5], atol=0.01)
