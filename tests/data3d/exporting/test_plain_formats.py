"""OBJ, PLY, STL, OFF and 3MF hold what they can of an asset, as trimesh, lib3mf and our importers see them."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from maquette.assets import export
from maquette.errors import MaquetteError
from maquette.testing import check_exporter
from maquette.types import Asset, Material, Mesh
from maquette_data3d.exporting.obj import ObjExporter, ZipExporter
from maquette_data3d.exporting.plain import OffExporter, PlyExporter, StlConfig, StlExporter
from maquette_data3d.exporting.threemf import ThreemfConfig, ThreemfExporter
from maquette_data3d.ingest.read_asset import read_asset
from maquette_data3d.procedural import sample_shape
from tests.data3d.exporting import copies
from tests.data3d.exporting import random_assets as assets

EXPORTERS = [ObjExporter, ZipExporter, PlyExporter, StlExporter, OffExporter, ThreemfExporter]
UNITS = (1.0, 0.01, 0.001, 1.0)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_writing_is_atomic(exporter, tmp_path):
    check_exporter(exporter(), tmp_path / f"a{exporter.suffix}")


@pytest.mark.parametrize("suffix", [".obj", ".ply", ".stl", ".off", ".3mf", ".glb", ".zip"])
def test_generated_shapes_come_back_by_their_suffix(suffix, tmp_path):
    mesh = sample_shape(0, 3).mesh(24)
    found = read_asset(export(Asset(mesh, {"prompt": "a mug"}), tmp_path / f"deep/er/shape{suffix}")).mesh
    scale = 1000 if suffix == ".3mf" else 1
    copies.same_geometry(copies.corners(found), copies.corners(mesh) * scale)
    if suffix not in (".stl", ".off"):
        assert np.array_equal(found.colors[found.faces], mesh.colors[mesh.faces])


@pytest.mark.parametrize("exporter", [ObjExporter, ZipExporter])
@pytest.mark.parametrize("seed", range(5))
def test_objects_come_back_with_materials_and_coordinates(seed, exporter, tmp_path):
    mesh = assets.random_asset(seed).mesh
    found = read_asset(exporter()(Asset(mesh), tmp_path / f"a chair {seed}{exporter.suffix}")).mesh
    one, other = copies.order_of(found, "part", "material"), copies.order_of(mesh, "part", "material")
    copies.same_geometry(copies.corners(found)[one], copies.corners(mesh)[other])
    if mesh.uv is not None:
        assert np.abs(found.uv[one] - mesh.uv[other]).max() < 1e-6
    copies.same_materials(found, one, mesh, other, fields=("base_color", "metallic", "roughness", "emissive"))


def test_trimesh_reads_the_obj_with_its_images(tmp_path):
    import trimesh

    mesh = assets.random_asset(1, textured=True).mesh
    surface = Material("wood", textures={"base_color": 0})
    mesh = replace(mesh, materials=(surface,), material=np.zeros(len(mesh.faces), np.int32))
    path = ObjExporter()(Asset(mesh), tmp_path / "a chair.obj")
    found = trimesh.load_mesh(path, process=False)
    corners = mesh.vertices[mesh.faces].reshape(-1, 3)
    assert np.allclose(sorted(found.triangles.reshape(-1, 3).tolist()), sorted(corners.tolist()), atol=1e-6)
    assert found.visual.material.image is not None
    uv = found.visual.uv[found.faces].reshape(-1, 2) * [1, -1] + [0, 1]
    assert np.allclose(sorted(uv.tolist()), sorted(mesh.uv.reshape(-1, 2).tolist()), atol=1e-5)


def test_nothing_is_left_beside_an_obj_that_fails(tmp_path):
    mesh = assets.random_asset(1, textured=True).mesh
    surface = Material("wood", textures={"base_color": 0, "normal": 1})
    mesh = replace(mesh, materials=(surface,), material=np.zeros(len(mesh.faces), np.int32))
    with pytest.raises(MaquetteError):
        ObjExporter()(Asset(replace(mesh, images=(mesh.images[0], b"none"))), tmp_path / "a.obj")
    assert not list(tmp_path.iterdir())
    (tmp_path / "a_0.png").mkdir()
    with pytest.raises(OSError):
        ObjExporter()(Asset(replace(mesh, images=mesh.images[:1] * 2)), tmp_path / "a.obj")
    assert not [path for path in tmp_path.iterdir() if path.is_file() and path.suffix == ".obj"]


def test_the_same_asset_gives_the_same_bytes(tmp_path):
    asset = assets.random_asset(1)
    for exporter in EXPORTERS:
        paths = [exporter()(asset, tmp_path / str(number) / f"a{exporter.suffix}") for number in range(2)]
        assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize("seed", range(4))
def test_stl_is_closed_and_in_millimetres(seed, tmp_path):
    import trimesh

    mesh = assets.random_asset(seed).mesh
    path = StlExporter(StlConfig(up_axis="z"))(Asset(mesh), tmp_path / "a.stl")
    found = trimesh.load_mesh(path)
    assert found.is_watertight and found.is_winding_consistent
    size = np.ptp(mesh.vertices, axis=0)[[0, 2, 1]] * (UNITS[seed] * 1000 if mesh.unit_m else 1)
    assert np.allclose(found.extents, size, rtol=1e-5)
    given = trimesh.load_mesh(
        StlExporter(StlConfig(unit_m=0.01))(Asset(replace(mesh, unit_m=None)), tmp_path / "b.stl")
    )
    assert np.allclose(given.extents, np.ptp(mesh.vertices, axis=0) * 10, rtol=1e-5)


@pytest.mark.parametrize("seed", range(6))
def test_lib3mf_reads_closed_bodies_in_millimetres(seed, tmp_path):
    lib3mf = pytest.importorskip("lib3mf")
    mesh = assets.random_asset(seed).mesh
    path = ThreemfExporter()(Asset(mesh, {"prompt": "a <chair> & more"}), tmp_path / "a b.3mf")
    wrapper = lib3mf.get_wrapper()
    model = wrapper.CreateModel()
    reader = model.QueryReader("3mf")
    reader.SetStrictModeActive(True)
    reader.ReadFromFile(str(path))
    assert reader.GetWarningCount() == 0 and model.GetUnit() == lib3mf.ModelUnit.MilliMeter
    corners = np.concatenate(list(_bodies(model)))
    wanted = mesh.vertices[mesh.faces].astype(np.float64)[..., [0, 2, 1]] * [1, -1, 1] * UNITS[seed % 4] * 1000
    assert np.allclose(
        sorted(corners.reshape(-1, 3).tolist()), sorted(wanted.reshape(-1, 3).tolist()), atol=1e-5 * wanted.max()
    )


def _bodies(model):
    """Triangles [F, 3, 3] of each mesh object; all are closed."""
    found = model.GetMeshObjects()
    while found.MoveNext():
        body = found.GetCurrentMeshObject()
        assert body.IsManifoldAndOriented() and body.IsValid()
        points = np.array([list(vertex.Coordinates) for vertex in body.GetVertices()])
        yield points[np.array([list(face.Indices) for face in body.GetTriangleIndices()])]


def test_3mf_comes_back_with_textures_and_colors(tmp_path):
    random = np.random.default_rng(0)
    vertices, faces = assets.closed_surface(random, 3)
    images = (assets.picture(random), assets.picture(random, "WEBP"))
    materials = (
        Material("wood", textures={"base_color": 0}),
        Material("", textures={"base_color": 1}),
        Material("gl&ss", (0.2, 0.5, 0.7, 0.5), alpha_mode="blend"),
    )
    mesh = Mesh(
        vertices,
        faces,
        colors=np.c_[random.integers(0, 256, (len(vertices), 3)), np.full(len(vertices), 255)],
        uv=random.random((len(faces), 3, 2)),
        material=random.integers(-1, 3, len(faces)),
        materials=materials,
        images=images,
        unit_m=0.01,
    )
    found = read_asset(ThreemfExporter(ThreemfConfig(unit="inch"))(Asset(mesh), tmp_path / "a.3mf")).mesh
    assert found.unit_m == 0.0254
    rows = np.arange(len(faces))
    copies.same_geometry(copies.corners(found), copies.corners(mesh) / 2.54)
    copies.same_materials(found, rows, mesh, rows, fields=("base_color",), tolerance=0.01)
    textured = np.isin(mesh.material, (0, 1))
    assert np.abs(found.uv[textured] - mesh.uv[textured]).max() < 1e-6
    bare = mesh.material < 0
    assert np.array_equal(found.colors[found.faces[bare]], mesh.colors[faces[bare]])


def test_parts_that_are_bodies_are_objects_of_the_3mf_others_are_not_torn_apart(tmp_path):
    random = np.random.default_rng(1)
    vertices, faces = assets.closed_surface(random, 2)
    body = (vertices[faces[:, 0], 0] > 0.15).astype(np.int32)
    whole = Mesh(vertices, faces, part=body, part_names=("left", "right <ü>"))
    torn = Mesh(vertices, faces, part=np.arange(len(faces)) % 2, part_names=("left", "right"))
    names = []
    for mesh in (whole, torn):
        found = read_asset(ThreemfExporter()(Asset(mesh), tmp_path / "a.3mf")).mesh
        names.append(found.part_names)
    assert names[0] == ("left", "right <ü>") and len(names[1]) == 1


def test_open_and_broken_meshes_are_written_as_they_are(tmp_path):
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]], np.float32)
    faces = np.array([[0, 1, 2], [0, 1, 3], [0, 3, 1], [1, 1, 2], [0, 4, 2]], np.int32)
    for exporter in EXPORTERS:
        found = read_asset(exporter()(Asset(Mesh(vertices, faces)), tmp_path / f"a{exporter.suffix}")).mesh
        assert len(found.faces) == (3 if exporter is ThreemfExporter else 5)


def test_the_zip_holds_the_files_of_the_obj(tmp_path):
    asset = assets.random_asset(1, textured=True)
    ObjExporter()(asset, tmp_path / "a.obj")
    content = ZipExporter()(asset, tmp_path / "zipped" / "a.zip").read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {
            path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()
        }
