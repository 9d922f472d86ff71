"""GLB files hold what the asset held, as our importer, pygltflib and the Khronos validator see them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from maquette.errors import MaquetteError
from maquette.testing import check_exporter
from maquette.types import Asset, Material, Mesh
from maquette_data3d.exporting.gltf.exporter import GlbConfig, GlbExporter
from maquette_data3d.ingest.read_asset import read_asset
from tests.data3d.exporting import copies
from tests.data3d.exporting import random_assets as assets

UNITS = (1.0, 0.01, 0.001, 1.0)


@pytest.mark.parametrize("compression", ["none", "draco", "meshopt"])
@pytest.mark.parametrize("seed", range(5))
def test_assets_come_back(seed, compression, tmp_path):
    asset = assets.random_asset(seed)
    unit, mesh = UNITS[seed % 4], asset.mesh
    path = GlbExporter(GlbConfig(compression=compression))(asset, tmp_path / "a b.glb")
    found = read_asset(path)
    assert found.mesh.unit_m == 1.0
    one, other = copies.order_of(found.mesh, "part", "material"), copies.order_of(mesh, "part", "material")
    if compression == "none":
        copies.same_geometry(copies.corners(found.mesh)[one], copies.corners(mesh)[other] * unit)
        if mesh.uv is not None:
            assert np.array_equal(found.mesh.uv[one], mesh.uv[other])
        if mesh.skin is not None:
            copies.same_skin(found.mesh, one, mesh, other, unit)
        copies.same_materials(found.mesh, one, mesh, other)
    else:
        uv = np.zeros((len(mesh.faces), 3, 2)) if mesh.uv is None else mesh.uv
        wanted = np.concatenate([copies.corners(mesh) / np.ptp(mesh.vertices), uv], -1)
        found_uv = np.zeros_like(uv) if found.mesh.uv is None else found.mesh.uv
        copies.same_set(
            np.concatenate([copies.corners(found.mesh) / np.ptp(mesh.vertices) / unit, found_uv], -1), wanted
        )
    if mesh.skin is not None:
        copies.same_clips(found, asset, unit)


def test_named_parts_and_their_order(tmp_path):
    asset = assets.random_asset(1)
    found = read_asset(GlbExporter()(asset, tmp_path / "a.glb")).mesh
    names = [name for place, name in enumerate(asset.mesh.part_names) if (asset.mesh.part == place).any()]
    assert len(found.part_names) == len(names)
    assert all(one == other for one, other in zip(found.part_names, names, strict=True) if other)


@pytest.mark.parametrize("alpha", [255, 128])
def test_vertex_colors_show_where_no_material_does(alpha, tmp_path):
    random = np.random.default_rng(0)
    vertices, faces = assets.closed_surface(random)
    colors = np.c_[random.integers(0, 256, (len(vertices), 3)), np.full(len(vertices), alpha)].astype(np.uint8)
    kind = np.arange(len(faces)) % 2 - 1
    mesh = Mesh(vertices, faces, colors, material=kind, materials=(Material("red", (1.0, 0.0, 0.0, 1.0)),))
    found = read_asset(GlbExporter()(Asset(mesh), tmp_path / "a.glb")).mesh
    order, other = np.lexsort((found.material, found.part)), np.argsort(kind, kind="stable")
    bare = found.material[order] < 0
    assert np.array_equal(bare, kind[other] < 0)
    assert np.array_equal(found.colors[found.faces[order][bare]][..., :3], colors[faces[other][bare]][..., :3])
    assert (found.colors[found.faces[order][~bare]] == [255, 0, 0, 255]).all()


def test_vertices_that_no_joint_moves(tmp_path):
    random = np.random.default_rng(3)
    vertices, faces = assets.closed_surface(random, 2)
    skin = assets.skin(random, len(vertices), 5, loose=0.2)
    part = (faces[:, 0] >= faces.max() // 2).astype(np.int32)
    weights = np.where((np.arange(len(vertices)) >= faces.max() // 2)[:, None], 0, skin.weights)
    mesh = Mesh(vertices, faces, part=part, part_names=("moved", "not"), skin=replace(skin, weights=weights))
    found = read_asset(GlbExporter()(Asset(mesh), tmp_path / "a.glb")).mesh
    copies.same_geometry(copies.corners(found), copies.corners(mesh)[np.argsort(part, kind="stable")])
    assert "still" in found.skin.skeleton.names and len(found.skin.skeleton.names) == 6


def test_three_hundred_joints_of_one_name(tmp_path):
    random = np.random.default_rng(4)
    vertices, faces = assets.closed_surface(random)
    skin = assets.skin(random, len(vertices), 300, 8)
    clip = assets.clip(random, skin, frames=2)
    asset = Asset(Mesh(vertices, faces, skin=skin), animations=(clip,))
    found = read_asset(GlbExporter()(asset, tmp_path / "a.glb"))
    rows = np.arange(len(faces))
    copies.same_skin(found.mesh, rows, asset.mesh, rows)
    copies.same_clips(found, asset)


def test_of_many_influences_the_heaviest_eight_stay(tmp_path):
    random = np.random.default_rng(5)
    vertices, faces = assets.closed_surface(random)
    skin = assets.skin(random, len(vertices), 40, 20)
    found = read_asset(GlbExporter()(Asset(Mesh(vertices, faces, skin=skin)), tmp_path / "a.glb")).mesh
    assert found.skin.weights.shape[1] <= 8
    assert np.abs(found.skin.weights.sum(1) - 1).max() < 1e-6


def test_textures_without_coordinates_are_left_out(tmp_path):
    asset = assets.random_asset(1, textured=True)
    bare = replace(asset, mesh=replace(asset.mesh, uv=None))
    found = read_asset(GlbExporter()(bare, tmp_path / "a.glb")).mesh
    assert found.uv is None and not found.images


def test_metadata_travels_as_far_as_json_can_say(tmp_path):
    import pygltflib

    path = GlbExporter()(assets.random_asset(1), tmp_path / "a.glb")
    assert pygltflib.GLTF2().load(str(path)).asset.extras == {
        "maquette": {"prompt": "a chair", "seed": 1, "score": 0.5}
    }


def test_an_image_that_is_none_is_refused_before_a_file_is_there(tmp_path):
    mesh = assets.random_asset(1, textured=True).mesh
    used = np.zeros(len(mesh.faces), np.int32)
    surface = Material("a", textures={"base_color": 0})
    broken = replace(mesh, images=(b"no picture",), materials=(surface,), material=used)
    with pytest.raises(MaquetteError, match="no PNG, JPEG or WebP"):
        GlbExporter()(Asset(broken), tmp_path / "a.glb")
    assert not list(tmp_path.iterdir())


def test_hard_edges_stay_and_round_ones_share_normals(tmp_path):
    import pygltflib
    import trimesh

    for shape, count in ((trimesh.creation.box(), 24), (trimesh.creation.icosphere(2), 162)):
        path = GlbExporter(GlbConfig(crease=40.0))(Asset(Mesh(shape.vertices, shape.faces)), tmp_path / "a.glb")
        document = pygltflib.GLTF2().load(str(path))
        assert document.accessors[document.meshes[0].primitives[0].attributes.NORMAL].count == count


def test_a_bare_closed_mesh_is_closed_in_the_file(tmp_path):
    import trimesh

    box = trimesh.creation.box()
    GlbExporter()(Asset(Mesh(box.vertices, box.faces)), tmp_path / "a.glb")
    found = trimesh.load(tmp_path / "a.glb", force="mesh", process=False)
    assert len(found.vertices) == 8
    assert found.is_watertight


def test_writing_is_atomic(tmp_path):
    check_exporter(GlbExporter(), tmp_path / "a.glb")
