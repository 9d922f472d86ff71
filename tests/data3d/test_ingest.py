"""Reading what people have: good files in every format, and bad ones of every kind."""

from __future__ import annotations

import base64
import json
import struct

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from maquette.errors import MaquetteError
from maquette.types import Asset
from maquette_data3d.exporters import GlbExporter
from maquette_data3d.ingest.read_mesh import read_mesh
from maquette_data3d.ingest.reading import read
from maquette_data3d.procedural import sample_shape

MOST = 100_000


def box_file(path):
    path.write_bytes(trimesh.creation.box().export(file_type=path.suffix[1:]))
    return path


def test_scene_transforms_are_applied_and_parts_merged(tmp_path):
    scene = trimesh.Scene()
    move = np.eye(4)
    move[:3, 3] = [3, 0, 0]
    mirror = np.diag([-1.0, 1, 1, 1])
    scene.add_geometry(trimesh.creation.box(), node_name="one")
    scene.add_geometry(trimesh.creation.box(), node_name="two", transform=move @ mirror)
    (tmp_path / "a.glb").write_bytes(scene.export(file_type="glb"))
    found = read(tmp_path / "a.glb", MOST)
    assert np.allclose(np.ptp(found.vertices, axis=0), [4, 1, 1]) and len(found.faces) == 24
    solid = trimesh.Trimesh(found.vertices, found.faces)
    assert abs(solid.volume - 2) < 1e-6  # the mirrored one is not inside out


def test_texture_colors_arrive_at_the_corners(tmp_path):
    picture = Image.new("RGB", (2, 1))
    picture.putdata([(200, 30, 40), (20, 60, 220)])
    mesh = trimesh.creation.box()
    left = mesh.triangles_center[:, 0] < 0
    loose = trimesh.Trimesh(mesh.vertices[mesh.faces].reshape(-1, 3), np.arange(36).reshape(-1, 3), process=False)
    uv = np.repeat(np.where(left, 0.25, 0.75), 3)
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=picture)
    loose.visual = trimesh.visual.TextureVisuals(np.stack([uv, np.full(36, 0.5)], 1), material=material)
    (tmp_path / "a.glb").write_bytes(loose.export(file_type="glb"))
    found = read(tmp_path / "a.glb", MOST)
    red = (found.vertices[found.faces].mean(1)[:, 0] < 0)[:, None]
    assert (found.corner_colors == np.where(red[..., None], [200, 30, 40], [20, 60, 220])).all()


def test_material_factors_are_linear_light(tmp_path):
    mesh = trimesh.creation.box()
    material = trimesh.visual.material.PBRMaterial(baseColorFactor=[0.5, 0.0, 1.0, 1.0])
    mesh.visual = trimesh.visual.TextureVisuals(material=material)
    (tmp_path / "a.glb").write_bytes(mesh.export(file_type="glb"))
    assert np.abs(read(tmp_path / "a.glb", MOST).corner_colors.astype(int) - [188, 0, 255]).max() <= 1


def test_reading_twice_gives_the_same_order(tmp_path):
    primitive = {"attributes": {"POSITION": 0}, "indices": 1}
    nodes = [{"mesh": 0, "translation": [2.0 * i, 0, 0]} for i in range(4)]
    meshes = [{"primitives": [primitive, primitive]}]
    path = gltf(tmp_path, nodes=nodes, meshes=meshes, scenes=[{"nodes": [0, 1, 2, 3]}])
    first = read(path, MOST)
    assert len(first.faces) == 32
    for _ in range(3):
        again = read(path, MOST)
        assert np.array_equal(first.vertices, again.vertices) and np.array_equal(first.faces, again.faces)


@pytest.mark.parametrize("both", [False, True])
def test_old_glossiness_materials_keep_their_color(tmp_path, both):
    color = [0.5, 0.0, 1.0, 1.0]
    old = {"KHR_materials_pbrSpecularGlossiness": {"diffuseFactor": color, "glossinessFactor": 0.4}}
    material = {"extensions": old, **({"pbrMetallicRoughness": {"baseColorFactor": color}} if both else {})}
    meshes = [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1, "material": 0}]}]
    path = gltf(tmp_path, materials=[material], meshes=meshes, extensionsUsed=list(old))
    assert np.abs(read(path, MOST).corner_colors.astype(int) - [188, 0, 255]).max() <= 1


@pytest.mark.parametrize("suffix", [".glb", ".obj", ".ply", ".stl", ".off"])
def test_text_under_a_mesh_name_is_refused(tmp_path, suffix):
    path = tmp_path / f"notes{suffix}"
    path.write_text("Dear diary, today I met no meshes.\n")
    with pytest.raises(MaquetteError) as caught:
        read(path, MOST)
    assert str(caught.value).split(":")[0] in {"wrong_extension", "unreadable", "empty"}


def test_broken_geometry_is_refused_with_its_reason(tmp_path):
    def refused(vertices, faces):
        lines = [f"v {x} {y} {z}" for x, y, z in vertices] + [f"f {' '.join(str(i + 1) for i in f)}" for f in faces]
        (tmp_path / "a.obj").write_text("\n".join(lines))
        with pytest.raises(MaquetteError) as caught:
            read(tmp_path / "a.obj", MOST)
        return str(caught.value).split(":")[0]

    square = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)]
    assert refused(square, [(0, 1, 2), (0, 2, 3)]) == "flat"
    assert refused([(0, 0, 0)] * 3, [(0, 1, 2)]) == "flat"
    assert refused([(0, 0, "nan"), *square[1:]], [(0, 1, 2), (0, 2, 3)]) == "non_finite"
    assert refused(square, []) in {"empty", "unreadable"}
    assert refused([(0, 0, 0), (1e300, 0, 0), (0, 1, 1)], [(0, 1, 2)]) == "non_finite"
    with pytest.raises(MaquetteError, match="too_many_faces"):
        read(box_file(tmp_path / "b.ply"), 11)
    (tmp_path / "c.glb").write_bytes(b"")
    with pytest.raises(MaquetteError, match="empty"):
        read(tmp_path / "c.glb", MOST)


def gltf(tmp_path, **changes):
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], "<f4").tobytes()
    faces = np.array([0, 2, 1, 0, 1, 3, 0, 3, 2, 1, 2, 3], "<u2").tobytes()
    document = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "buffers": [{"byteLength": 72, "uri": "data:application/octet-stream;base64,"
                     + base64.b64encode(vertices + faces).decode()}],
        "bufferViews": [{"buffer": 0, "byteLength": 48}, {"buffer": 0, "byteOffset": 48, "byteLength": 24}],
        "accessors": [{"bufferView": 0, "componentType": 5126, "count": 4, "type": "VEC3"},
                      {"bufferView": 1, "componentType": 5123, "count": 12, "type": "SCALAR"}],
    }  # fmt: skip
    for key, value in changes.items():
        document[key] = value
    path = tmp_path / "a.gltf"
    path.write_text(json.dumps(document))
    return path


def test_gltf_may_use_files_of_its_own_folder_only(tmp_path):
    assert len(read(gltf(tmp_path), MOST).faces) == 4
    data = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], "<f4").tobytes()
    data += np.array([0, 2, 1, 0, 1, 3, 0, 3, 2, 1, 2, 3], "<u2").tobytes()
    (tmp_path / "a.bin").write_bytes(data)
    assert len(read(gltf(tmp_path, buffers=[{"byteLength": 72, "uri": "a.bin"}]), MOST).faces) == 4
    (tmp_path / "inner").mkdir()
    for uri in ("../a.bin", "file:///etc/passwd", "http://127.0.0.1/a.bin", "%2e%2e/a.bin"):
        path = gltf(tmp_path / "inner", buffers=[{"byteLength": 72, "uri": uri}])
        with pytest.raises(MaquetteError, match="outside_uri"):
            read(path, MOST)
    with pytest.raises(MaquetteError, match="missing_file"):
        read(gltf(tmp_path, buffers=[{"byteLength": 72, "uri": "none.bin"}]), MOST)


def test_declared_sizes_are_checked_before_anything_is_allocated(tmp_path):
    huge = [{"componentType": 5126, "count": 2**31, "type": "VEC3"}]
    with pytest.raises(MaquetteError, match="declared_size"):
        read(gltf(tmp_path, accessors=huge), MOST)
    (tmp_path / "a.ply").write_text(
        "ply\nformat binary_little_endian 1.0\nelement vertex 4000000000\nproperty float x\nend_header\n"
    )
    with pytest.raises(MaquetteError, match="declared_size"):
        read(tmp_path / "a.ply", MOST)
    (tmp_path / "a.stl").write_bytes(b"\0" * 80 + struct.pack("<I", 10**9) + b"\0" * 50)
    with pytest.raises(MaquetteError, match="truncated"):
        read(tmp_path / "a.stl", MOST)
    (tmp_path / "a.off").write_text("OFF\n99999999 1 0\n")
    with pytest.raises(MaquetteError, match="declared_size"):
        read(tmp_path / "a.off", MOST)


def test_indices_out_of_range_are_found(tmp_path):
    faces = np.array([0, 2, 1, 0, 1, 3, 0, 3, 2, 1, 2, 900], "<u2").tobytes()
    vertices = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], "<f4").tobytes()
    uri = "data:application/octet-stream;base64," + base64.b64encode(vertices + faces).decode()
    with pytest.raises(MaquetteError):
        read(gltf(tmp_path, buffers=[{"byteLength": 72, "uri": uri}]), MOST)


@pytest.fixture(scope="module")
def glb(tmp_path_factory):
    path = tmp_path_factory.mktemp("glb") / "shape.glb"
    GlbExporter()(Asset(sample_shape(0, 4).mesh(16)), path)
    return path


@given(data=st.data())
def test_damaged_files_raise_nothing_but_our_own_error(glb, tmp_path_factory, data):
    content = bytearray(glb.read_bytes())
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(1, len(content)))] if data.draw(st.booleans()) else content
    path = tmp_path_factory.mktemp("damaged") / "a.glb"
    path.write_bytes(content)
    try:
        found = read(path, MOST)
    except MaquetteError as error:
        assert "\n" not in str(error) and ": " in str(error)
    else:
        assert np.isfinite(found.vertices[found.faces]).all() and found.faces.min() >= 0


def test_read_mesh_gives_a_placed_mesh_or_one_line(tmp_path):
    mesh = read_mesh(box_file(tmp_path / "a.ply"))
    assert np.allclose(mesh.vertices.max(0), 0.45) and mesh.faces.shape == (12, 3)
    with pytest.raises(MaquetteError, match="does not exist"):
        read_mesh(tmp_path / "none.glb")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(MaquetteError, match=r"not one of \.glb"):
        read_mesh(tmp_path / "a.txt")
