"""OBJ, PLY, STL, OFF, 3MF, FBX and ZIP: what each of them can say arrives in the scene."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import trimesh

from maquette.errors import MaquetteError
from maquette_data3d.ingest.reading import ReadLimits, read
from tests.data3d import mesh_files
from tests.data3d.mesh_files import BLUE, FACES, RED, VERTICES


def shape(scene):
    """Triangles as corner coordinates, free of the order of vertices."""
    return scene.vertices[scene.faces]


@pytest.mark.parametrize("suffix", sorted(mesh_files.WRITERS))
def test_every_format_gives_the_same_triangles(tmp_path, suffix):
    if suffix == ".fbx":
        pytest.importorskip("ufbx")
    found = read(mesh_files.WRITERS[suffix](tmp_path / f"a{suffix}"))
    wanted = VERTICES[:, [0, 2, 1]] * [1, 1, -1] if suffix == ".3mf" else VERTICES
    assert np.allclose(shape(found), wanted[FACES])
    assert found.unit_m == {".glb": 1.0, ".gltf": 1.0, ".3mf": 0.0254, ".fbx": 0.01}.get(suffix)
    assert (found.part == 0).all() and len(found.part_names) == 1 and (found.material == -1).all()
    assert found.uv is None and found.skeleton is None and found.joints is None and found.images == ()


def test_obj_with_its_library(tmp_path):
    (tmp_path / "Wood.PNG").write_bytes(mesh_files.picture())
    (tmp_path / "a.mtl").write_text(
        "newmtl wood\nKd 0.8 0.8 0.8\nmap_Kd -s 1 1 1 C:\\art\\wood.png\nPr 0.25\nPm 0.75\nd 0.5\n"
        "newmtl red\nKd 1 0 0\nKe 0 0 1\n"
    )
    rows = [f"v {x} {y} {z}" for x, y, z in VERTICES] + ["vt 0.75 0.5", "vt 0.25 0.5"]
    path = tmp_path / "a.obj"
    path.write_text(
        "\n".join(["mtllib a.mtl", *rows, "o body", "usemtl wood", "f 1/1 3/1 2/1", "f -4/-1 -3/-1 -1/-1"])
        + "\no cap\nusemtl red\nf 1 4 3\nusemtl none\nf 2 3 4 # a comment\n"
    )
    found = read(path)
    assert np.allclose(shape(found), VERTICES[FACES]) and found.part_names == ("body", "cap")
    assert found.part.tolist() == [0, 0, 1, 1] and found.material.tolist() == [0, 0, 1, -1]
    wood, red = found.materials
    assert (wood.name, wood.roughness, wood.metallic, wood.alpha_mode) == ("wood", 0.25, 0.75, "blend")
    assert wood.textures == {"base_color": 0} and found.images == (mesh_files.picture(),)
    assert red.base_color == (1, 0, 0, 1) and red.emissive == (0, 0, 1)
    assert np.allclose(found.uv[0], [0.75, 0.5]) and np.allclose(found.uv[1], [0.25, 0.5])
    assert (found.corner_colors[2] == [255, 0, 0]).all()
    assert (
        np.ptp(found.corner_colors[0], axis=0).max() == 0
        and found.corner_colors[0, 0, 2] > found.corner_colors[1, 0, 2]
    )
    alone = read(path, ReadLimits(external_files=False))
    assert alone.materials == () and alone.images == ()


def test_obj_polygons_become_fans_and_vertex_colors_stay(tmp_path):
    rows = ["v 0 0 0 1 0 0", "v 1 0 0 0 1 0", "v 1 1 0 0 0 1", "v 0 1 0 1 1 1", "v 0 0 1 0.5 0.5 0.5"]
    (tmp_path / "a.obj").write_text("\n".join([*rows, "f 1 2 3 4", "f 1 2 5", "l 1 2", "f 1 2"]))
    found = read(tmp_path / "a.obj")
    assert found.faces.tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 4]]
    assert found.corner_colors[2].tolist() == [[255, 0, 0], [0, 255, 0], [128, 128, 128]]


def test_ply_colors_and_stl_names(tmp_path):
    colors = [RED, BLUE, (0, 0, 0), (255, 255, 255)]
    found = read(mesh_files.ply(tmp_path / "a.ply", colors=colors))
    assert np.array_equal(found.corner_colors, np.array(colors)[FACES])
    mesh = trimesh.Trimesh(VERTICES, FACES, process=False)
    (tmp_path / "a.stl").write_text(trimesh.exchange.stl.export_stl_ascii(mesh))
    assert np.allclose(np.sort(shape(read(tmp_path / "a.stl")), 0), np.sort(VERTICES[FACES], 0))


def test_ply_texture_named_in_a_comment(tmp_path):
    (tmp_path / "t.png").write_bytes(mesh_files.picture())
    head = "ply\nformat ascii 1.0\ncomment TextureFile t.png\nelement vertex 4\n"
    head += "".join(f"property float {name}\n" for name in ("x", "y", "z", "s", "t"))
    head += "element face 4\nproperty list uchar int vertex_indices\nend_header\n"
    rows = [" ".join(map(str, [*row, 0.75, 0.5])) for row in VERTICES] + [f"3 {a} {b} {c}" for a, b, c in FACES]
    (tmp_path / "a.ply").write_text(head + "\n".join(rows) + "\n")
    found = read(tmp_path / "a.ply")
    assert (found.corner_colors == BLUE).all() and np.allclose(found.uv, [0.75, 0.5])


def test_3mf_components_units_and_colors(tmp_path):
    body = mesh_files.MESH_3MF
    colored = body.replace('v1="0" v2="2" v3="1"', 'v1="0" v2="2" v3="1" pid="8" p1="0" p2="1" p3="1"')
    resources = (
        '<basematerials id="7"><base name="oak" displaycolor="#C81E28"/><base name="sky" displaycolor="#143CDC80"/>'
        '</basematerials><m:colorgroup id="8"><m:color color="#FF0000"/><m:color color="#00FF00FF"/></m:colorgroup>'
        f'<object id="1" name="leg" pid="7" pindex="1">{colored}</object>'
        '<object id="2" name="table"><components><component objectid="1"/>'
        '<component objectid="1" transform="-1 0 0 0 1 0 0 0 1 10 0 0"/></components></object>'
    )
    path = mesh_files.threemf(tmp_path / "a.3mf", resources, '<item objectid="2" transform="2 0 0 0 2 0 0 0 2 0 0 5"/>')
    found = read(path, ReadLimits(up_axis="y"))
    assert found.part_names == ("leg", "leg") and len(found.faces) == 8 and found.unit_m == 0.0254
    first = found.vertices[found.faces[found.part == 0]]
    assert np.allclose(first, VERTICES[FACES] * 2 + [0, 0, 5])
    second = found.vertices[found.faces[found.part == 1]]
    assert np.allclose(second[:, ::-1], (VERTICES[FACES] * [-1, 1, 1] + [10, 0, 0]) * 2 + [0, 0, 5])
    assert found.corner_colors[0].tolist() == [[255, 0, 0], [0, 255, 0], [0, 255, 0]]
    sky = found.materials[0]
    assert sky.name == "sky" and sky.alpha_mode == "blend" and found.material.tolist()[1:4] == [0, 0, 0]


def test_3mf_textures_and_models_in_other_parts_of_the_package(tmp_path):
    resources = (
        '<m:texture2d id="5" path="/3D/t.png" contenttype="image/png"/><m:texture2dgroup id="6" texid="5">'
        '<m:tex2coord u="0.75" v="0.5"/></m:texture2dgroup>'
        f'<object id="1" pid="6" pindex="0">{mesh_files.MESH_3MF}</object>'
    )
    path = mesh_files.threemf(tmp_path / "a.3mf", resources, **{"3D/t.png": mesh_files.picture()})
    found = read(path)
    assert (found.corner_colors == BLUE).all() and found.materials[0].textures == {"base_color": 0}
    other = (
        '<model unit="inch" xmlns="http://schemas.microsoft.com/3dmanufacturing/core/2015/02"><resources>'
        f'<object id="1" name="far">{mesh_files.MESH_3MF}</object></resources><build/></model>'
    )
    resources = '<object id="2"><components><component p:path="/3D/o.model" objectid="1"/></components></object>'
    path = mesh_files.threemf(tmp_path / "b.3mf", resources, '<item objectid="2"/>', **{"3D/o.model": other})
    assert read(path).part_names == ("far",)


def test_fbx_axes_units_materials_and_mirrors(tmp_path):
    pytest.importorskip("ufbx")
    (tmp_path / "t.png").write_bytes(mesh_files.picture())
    scaled = 'P: "Lcl Scaling", "Lcl Scaling", "", "A",-2,2,2\n'
    color = 'P: "DiffuseColor", "Color", "", "A",0.2,0,1\n'
    found = read(mesh_files.fbx(tmp_path / "a.fbx", up=2, unit_cm=100.0, material=color, model=scaled))
    assert found.up_axis == "z" and found.unit_m == 1.0
    wanted = (VERTICES * [-2, 2, 2])[:, [0, 2, 1]] * [1, 1, -1]
    assert np.allclose(np.sort(shape(found), 1), np.sort(wanted[FACES], 1))
    assert np.isclose(trimesh.Trimesh(found.vertices, found.faces).volume, 8)
    assert found.materials[0].name == "paint" and np.abs(found.corner_colors.astype(int) - [124, 0, 255]).max() <= 1
    uv = np.tile([[0.75, 0.5]], (12, 1))
    found = read(mesh_files.fbx(tmp_path / "a.fbx", material=color, uv=uv, texture="t.png"))
    assert (found.corner_colors == BLUE).all() and np.allclose(found.uv, [0.75, 0.5])
    assert found.images == (mesh_files.picture(),)


def test_fbx_skins(tmp_path):
    pytest.importorskip("ufbx")
    skin = [("hip", 0.0, [0, 2, 3], [1, 1, 0.5]), ("knee", 1.0, [1, 3], [1, 0.5])]
    found = read(mesh_files.fbx(tmp_path / "a.fbx", skin=skin))
    assert np.allclose(found.vertices, VERTICES)
    assert found.skeleton.names == ("hip", "knee") and found.skeleton.parents.tolist() == [-1, 0]
    assert np.allclose(found.skeleton.rest[:, :3, 3], [[0, 0, 0], [1, 0, 0]])
    full = np.zeros((4, 2))
    np.add.at(full, (np.arange(4)[:, None], found.joints), found.weights)
    assert np.allclose(full, [[1, 0], [0, 1], [1, 0], [0.5, 0.5]])


def test_fbx_without_its_library_is_said_in_one_line(tmp_path, monkeypatch):
    import importlib.util as finder

    monkeypatch.setattr(finder, "find_spec", lambda name, *rest: None)
    with pytest.raises(MaquetteError, match=r"missing_library: .*ufbx"):
        read(mesh_files.fbx(tmp_path / "a.fbx"))


def test_zip_chooses_by_a_fixed_rule_and_finds_what_lies_beside(tmp_path):
    glb = mesh_files.glb(tmp_path / "x.glb").read_bytes()
    obj = mesh_files.obj(tmp_path / "x.obj").read_bytes()
    members = {"z/a.obj": obj, "deep/er/b.glb": glb, "deep/c.glb": b"glTF", "__MACOSX/._a.glb": b"?", "read.me": b"hi"}
    # The shallower glTF is chosen, and found to be broken: the archive is not searched for something better.
    with pytest.raises(MaquetteError, match="wrong_extension"):
        read(mesh_files.archive(tmp_path / "a.zip", members))
    del members["deep/c.glb"]
    assert read(mesh_files.archive(tmp_path / "a.zip", members)).unit_m == 1.0
    textured = {
        "m/a.obj": b"mtllib a.mtl\nusemtl w\n" + obj.replace(b"f 1 3 2", b"vt .75 .5\nf 1/1 3/1 2/1"),
        "m/a.mtl": b"newmtl w\nmap_Kd t.png\n",
        "m/t.png": mesh_files.picture(),
    }
    found = read(mesh_files.archive(tmp_path / "b.zip", textured))
    assert (found.corner_colors[0] == BLUE).all() and found.part_names == ("part_0",)
    with pytest.raises(MaquetteError, match="empty: the archive holds no model"):
        read(mesh_files.archive(tmp_path / "c.zip", {"read.me": "hi"}))
    assert zipfile.ZipFile(tmp_path / "b.zip").testzip() is None


def test_obj_ways_of_writing_the_same_faces(tmp_path):
    points = "".join(f"v {x} {y} {z}\n" for x, y, z in VERTICES) + "vt 0.25 0.5\nvn 0 0 1\n"
    faces = FACES + 1
    written = {
        "plain": [" ".join(map(str, face)) for face in faces],
        "textured": [" ".join(f"{i}/1" for i in face) for face in faces],
        "all": [" ".join(f"{i}/1/1" for i in face) for face in faces],
        "normals": [" ".join(f"{i}//1" for i in face) for face in faces],
        "mixed": ["1//1 3 2/1", "1/1/1 2 4", "1 4//1 3", "2/ 3/ 4/"],
        "tabs": ["\t".join(map(str, face)) for face in faces],
    }
    for name, lines in written.items():
        for table in (points, points.replace("v 1.0 0.0 0.0", "v  1.0\t0.0   0.0 1.0"), points.replace("\n", " \r\n")):
            (tmp_path / "a.obj").write_text(table + "".join(f"f {line}\n" for line in lines))
            found = read(tmp_path / "a.obj")
            assert np.allclose(shape(found), VERTICES[FACES]), name
            assert (found.uv is None) == (name in ("plain", "normals", "tabs"))
