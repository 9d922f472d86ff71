"""From a request with a mesh to the same mesh with textures."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maquette.assets import open_pipeline
from maquette.errors import MaquetteError
from maquette.finishing import finish
from maquette.placement import in_unit_cube
from maquette.testing import check_pipeline, check_pipeline_on_device
from maquette.types import Asset, Material, Mesh, Request
from maquette_models.surface_points import sampled
from maquette_models.texturing.baking import baked, layouts, share_shown
from maquette_models.texturing.painted_points import PaintedPoints
from maquette_models.texturing.painter import Kept
from maquette_models.texturing.texture import Texture
from maquette_models.texturing.view_attributes import shown_attributes
from tests.models.texturing import toy_paints


@pytest.fixture(scope="module")
def pipeline(toy_runs: Path) -> Texture:
    return open_pipeline(toy_runs / "flow")


def box(size: float = 1.0) -> Mesh:
    """A tall box, its sides in a strip of the atlas each."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    faces = np.array([[q[i] for i in turn] for q in quads for turn in ((0, 1, 2), (0, 2, 3))], np.int32)
    uv = np.zeros((12, 3, 2), np.float32)
    for side in range(6):
        low, high = np.array([side % 3 / 3 + 0.02, side // 3 / 2 + 0.02]), np.array([0.29, 0.46])
        square = low + high * np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
        uv[2 * side], uv[2 * side + 1] = square[[0, 1, 2]], square[[0, 2, 3]]
    return Mesh(corners * np.array([0.25, 0.4, 0.25], np.float32) * size, faces, uv=uv)


def pixels(mesh: Mesh, place: int) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(mesh.images[place])))


def test_pipeline_contract(pipeline: Texture) -> None:
    check_pipeline(pipeline, Request("a red box", seed=3, mesh=box()))


def test_models_compute_on_another_device(toy_runs: Path) -> None:
    asked = Request("a red box", seed=3, steps=3, mesh=box(), options={"size": 32})
    check_pipeline_on_device(lambda: open_pipeline(toy_runs / "flow"), asked)


def test_shape_and_coordinates_stay_bit_by_bit_and_size_does_not_matter(pipeline: Texture) -> None:
    mesh = replace(box(37.5), part=np.zeros(12, np.int32), part_names=("box",), unit_m=0.01)
    asset = pipeline(Request("a red box", mesh=mesh))
    for name in ("vertices", "faces", "uv", "part"):
        assert np.array_equal(getattr(asset.mesh, name), getattr(mesh, name))
    assert asset.mesh.unit_m == 0.01 and asset.metadata["layout"] == "kept"
    small = pipeline(Request("a red box", mesh=box()))
    assert np.abs(pixels(asset.mesh, 0).astype(int) - pixels(small.mesh, 0).astype(int)).max() <= 1


def test_material_is_as_gltf_has_it(pipeline: Texture) -> None:
    asset = pipeline(Request("a metal blue box", mesh=box(), options={"size": 32}))
    (material,) = asset.mesh.materials
    assert material.textures == {"base_color": 0, "metallic_roughness": 1} and material.alpha_mode == "opaque"
    assert (material.metallic, material.roughness, material.base_color) == (1.0, 1.0, (1.0, 1.0, 1.0, 1.0))
    assert pixels(asset.mesh, 0).shape == pixels(asset.mesh, 1).shape == (32, 32, 3)
    assert asset.mesh.colors.shape == (8, 4) and (asset.mesh.colors[:, 3] == 255).all()


@pytest.mark.parametrize("color", ["red", "blue"])
@pytest.mark.parametrize("look", ["metal", "matt"])
def test_textures_follow_the_caption(pipeline: Texture, color: str, look: str) -> None:
    meshes = [pipeline(Request(f"a {look} {color} box", seed=seed, mesh=box())).mesh for seed in range(3)]
    shown = []
    for mesh in meshes:
        places, _, (faces, weights) = sampled(mesh, 500, 0)
        values = shown_attributes(mesh, torch.from_numpy(faces), torch.from_numpy(weights))
        shown.append(values[places[:, 1] < 0.05].mean(dim=0))
    red, _, blue, metallic, roughness = torch.stack(shown).mean(dim=0).tolist()
    assert (red > blue) == (color == "red") and (metallic > 0.5) == (roughness < 0.5) == (look == "metal")


def test_a_mesh_without_coordinates_is_unwrapped(pipeline: Texture) -> None:
    mesh = replace(box(), uv=None)
    asset = pipeline(Request("a red box", mesh=mesh))
    assert asset.metadata["layout"] == "unwrapped" and asset.mesh.uv.shape == (12, 3, 2)
    assert np.array_equal(asset.mesh.vertices, mesh.vertices) and np.array_equal(asset.mesh.faces, mesh.faces)


def test_coordinates_that_share_texels_are_made_anew_unless_they_are_to_stay(pipeline: Texture) -> None:
    palette = replace(box(), uv=np.full((12, 3, 2), 0.5, np.float32) + np.random.default_rng(0).random((12, 3, 2)) / 50)
    tiled = replace(box(), uv=box().uv * 4)
    for mesh, why in ((palette, "share"), (tiled, "leave the unit square")):
        asset = pipeline(Request("a red box", mesh=mesh))
        assert asset.metadata["layout"].startswith("unwrapped anew") and why in asset.metadata["layout"]
        kept = pipeline(Request("a red box", mesh=mesh, options={"keep_uv": True}))
        assert np.array_equal(kept.mesh.uv, mesh.uv) and kept.metadata["layout"].startswith("kept, although")
    anew = pipeline(Request("a red box", mesh=box(), options={"keep_uv": "never"}))
    assert not np.array_equal(anew.mesh.uv, box().uv)


def test_each_material_has_images_of_its_own_and_keeps_its_normal_map(pipeline: Texture) -> None:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), (128, 128, 255)).save(file, "PNG")
    materials = (Material("a", textures={"normal": 0}), Material("b", double_sided=True))
    mesh = replace(box(), material=np.arange(12, dtype=np.int32) // 6, materials=materials, images=(file.getvalue(),))
    painted = pipeline(Request("a red box", mesh=mesh)).mesh
    assert [material.name for material in painted.materials] == ["a", "b"] and len(painted.images) == 5
    assert painted.images[painted.materials[0].textures["normal"]] == file.getvalue()
    assert painted.materials[1].double_sided and "normal" not in painted.materials[1].textures
    assert np.array_equal(painted.material, mesh.material)


@pytest.mark.parametrize("unwrapped", [False, True])
def test_what_is_baked_is_seen_on_the_surface(unwrapped: bool) -> None:
    """A smooth paint of places, baked and looked up again at points of the surface: better than 35 dB."""
    mesh = box(3.0)
    if unwrapped:
        mesh = finish(Asset(mesh), [{"name": "unwrap", "resolution": 256}]).mesh
    cube = in_unit_cube(mesh)

    def paint(places: torch.Tensor, normals: torch.Tensor) -> torch.Tensor:
        waves = 0.5 + 0.4 * torch.sin(places @ torch.tensor([[5.0, 0, 3, 4, 1], [2, 6, 0, 1, 5], [0, 2, 6, 3, 4]]))
        return torch.cat([waves, torch.ones(len(places), 1)], dim=1)

    painted = baked(mesh, cube, layouts(mesh, 256), paint)
    places, normals, (faces, weights) = sampled(cube, 4000, 1)
    shown = shown_attributes(painted, torch.from_numpy(faces), torch.from_numpy(weights))
    error = (shown - paint(places, normals)[:, :5]).square().mean()
    assert -10 * error.log10() > 35


def test_opacity_below_one_gives_a_blended_material() -> None:
    mesh = box()
    parts = layouts(mesh, 32)
    half = baked(mesh, in_unit_cube(mesh), parts, lambda places, _: torch.full((len(places), 6), 0.5))
    assert half.materials[0].alpha_mode == "blend" and pixels(half, 0).shape == (32, 32, 4)
    assert (pixels(half, 0) == 128).all() and (half.colors == 128).all()


def test_share_shown_tells_good_coordinates_from_bad() -> None:
    mesh = in_unit_cube(box())
    picked = sampled(mesh, 2000, 0)[2]
    assert share_shown(mesh, picked)[0] > 0.98
    folded = replace(mesh, uv=np.where(np.arange(12)[:, None, None] < 6, mesh.uv, mesh.uv[:6].repeat(2, 0)))
    assert share_shown(folded, picked)[0] < 0.8


def test_paint_that_is_kept_stays(pipeline: Texture) -> None:
    cube = in_unit_cube(box())
    places, normals, _ = sampled(cube, 4096, 0)
    before = pipeline.painter.paint(Request("a red box", seed=1), places, normals)
    free = before.cells.coords[:, 2] < 2
    after = pipeline.painter.paint(Request("a blue box", seed=2), places, normals, Kept(before.latent, free))
    torch.testing.assert_close(after.latent[~free], before.latent[~free], atol=1e-5, rtol=1e-5)
    low = places[:, 1] < -0.2
    was, now = (painted.at(places[low], normals[low])[:, :3].mean(dim=0) for painted in (before, after))
    assert (now[0] - now[2]) < (was[0] - was[2]) - 0.2, "less red below than it was"
    with pytest.raises(MaquetteError, match="paint to keep is of 3 cells"):
        pipeline.painter.paint(Request("a box"), places, normals, Kept(before.latent[:3], free[:3]))


def test_places_in_unknown_cells_are_painted_as_the_nearest_known(pipeline: Texture) -> None:
    points = PaintedPoints.of_batch(toy_paints.batch([toy_paints.Toy(0)]))
    few = PaintedPoints(
        *(part[:, points.places[0, :, 1] > 0] for part in (points.places, points.normals, points.paint))
    )
    painted = pipeline.painter.encode(few)
    below = torch.tensor([[0.05, -0.45, 0.0]])
    near = few.places[0][(few.places[0] - below).norm(dim=1).argmin()][None]
    up = torch.tensor([[0.0, 1.0, 0.0]])
    assert torch.equal(painted.at(below, up), painted.at(near, up))


def test_clear_refusals(pipeline: Texture, toy_runs: Path) -> None:
    for request, message in (
        (Request("a red box"), "needs a mesh"),
        (Request("a red box", mesh=box(), options={"sise": 3}), "unknown option 'sise'"),
        (Request("a red box", mesh=box(), options={"size": 3}), "size of a texture is 3"),
        (Request("a red box", mesh=box(), options={"keep_uv": "maybe"}), "keep_uv"),
        (Request("a red box", class_name="cow", mesh=box()), "unknown class 'cow'"),
        (Request("a red box", mesh=replace(box(), uv=None), options={"keep_uv": True}), "no texture coordinates"),
    ):
        with pytest.raises(MaquetteError, match=message):
            pipeline(request)
    first, second = pipeline.batch([Request("a red box"), Request("a red box", mesh=box(), options={"size": 16})])
    assert isinstance(first, MaquetteError) and isinstance(second, Asset)
