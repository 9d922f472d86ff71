"""Reading what other programs write: meshes exported by trimesh, and geometry that is no solid."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh
from PIL import Image

from maquette.errors import MaquetteError
from maquette_data3d.ingest.read_asset import read_mesh
from maquette_data3d.ingest.reading import ReadLimits, read

MOST = ReadLimits(largest_faces=100_000)


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
        read(box_file(tmp_path / "b.ply"), ReadLimits(largest_faces=11))
    (tmp_path / "c.glb").write_bytes(b"")
    with pytest.raises(MaquetteError, match="empty"):
        read(tmp_path / "c.glb", MOST)


def test_read_mesh_gives_a_placed_mesh_or_one_line(tmp_path):
    mesh = read_mesh(box_file(tmp_path / "a.ply"))
    assert np.allclose(mesh.vertices.max(0), 0.45) and mesh.faces.shape == (12, 3)
    with pytest.raises(MaquetteError, match="does not exist"):
        read_mesh(tmp_path / "none.glb")
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(MaquetteError, match=r"not one of \.glb"):
        read_mesh(tmp_path / "a.txt")
