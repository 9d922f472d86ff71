"""glTF: what a viewer would show is what is read - places, poses, surfaces, packings."""

from __future__ import annotations

import numpy as np
import pytest

from maquette.errors import MaquetteError
from maquette_data3d.ingest.reading import ReadLimits, read
from tests.data3d import mesh_files
from tests.data3d.mesh_files import BLUE, FACES, RED, VERTICES, Gltf

F4 = np.float32
PLACES = VERTICES.astype("<f4")


def volume(scene):
    a, b, c = (scene.vertices[scene.faces[:, i]] for i in range(3))
    return float(np.einsum("fi,fi->", a, np.cross(b, c)) / 6)


def test_nodes_place_name_and_mirror_their_meshes(tmp_path):
    made = Gltf().tetrahedron()
    made.json["scenes"] = [{"nodes": [0, 3]}]
    made.json["nodes"] = [
        {"name": "arm", "children": [1, 2], "translation": [10, 0, 0], "scale": [2, 2, 2]},
        {"name": "hand", "mesh": 0, "rotation": [0, 0, 2**-0.5, 2**-0.5]},
        {"name": "mirror", "mesh": 0, "matrix": [-1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 5, 0, 1]},
        {"mesh": 0},
        {"name": "elsewhere", "mesh": 0},
    ]
    found = read(made.glb(tmp_path / "a.glb"))
    assert found.part_names == ("hand", "mirror", "node_3") and found.unit_m == 1.0 and found.up_axis == "y"
    hand = found.vertices[np.unique(found.faces[found.part == 0])]
    assert np.allclose(hand, 2 * VERTICES @ np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]]) + [10, 0, 0], atol=1e-6)
    mirror = found.vertices[np.unique(found.faces[found.part == 1])]
    assert np.allclose(mirror, 2 * (VERTICES * [-1, 1, 1] + [0, 5, 0]) + [10, 0, 0])
    assert np.isclose(volume(found), 1 * 8 + 1 * 8 + 1)  # a mirrored solid is not inside out


def test_a_caller_may_say_what_is_up(tmp_path):
    path = mesh_files.glb(tmp_path / "a.glb")
    turned = read(path, ReadLimits(up_axis="z"))
    assert np.allclose(turned.vertices, VERTICES[:, [0, 2, 1]] * [1, 1, -1]) and turned.up_axis == "z"
    turned = read(path, ReadLimits(up_axis="x"))
    assert np.allclose(turned.vertices, VERTICES[:, [1, 0, 2]] * [-1, 1, 1])
    assert np.isclose(volume(turned), volume(read(path)))
    with pytest.raises(MaquetteError, match="not x, y or z"):
        read(path, ReadLimits(up_axis="up"))


def test_strips_fans_and_lists_without_indices(tmp_path):
    square = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 1]], "<f4")
    for mode, points, wanted in (
        (5, square, [[0, 1, 2], [1, 3, 2]]),
        (6, square[[0, 1, 3, 2]], [[0, 1, 2], [0, 2, 3]]),
        (4, square[[0, 1, 2, 2, 1, 3]], [[0, 1, 2], [3, 4, 5]]),
    ):
        made = Gltf()
        made.mesh({"POSITION": made.accessor(points)}, mode=mode)
        found = read(made.glb(tmp_path / "a.glb"))
        assert found.faces.tolist() == wanted
        normals = np.cross(*(np.diff(found.vertices[found.faces], axis=1).transpose(1, 0, 2)))
        assert (normals[:, 2] > 0).all()


def test_quantised_interleaved_and_sparse_accessors(tmp_path):
    made = Gltf()
    rows = np.zeros((4, 6), "<i2")
    rows[:, :3] = VERTICES * 1000
    view = made.view(rows.tobytes(), byteStride=12)
    vertex = made.accessor(rows[:, :3], bufferView=view)
    made.json["extensionsRequired"] = ["KHR_mesh_quantization"]
    made.mesh({"POSITION": vertex}, made.accessor(FACES.astype("<u1").reshape(-1)))
    made.json["nodes"][0]["scale"] = [0.001] * 3
    assert np.allclose(read(made.glb(tmp_path / "a.glb")).vertices, VERTICES)
    made = Gltf()
    index, value = made.view(np.array([1, 3], "<u2").tobytes()), made.view(PLACES[[1, 3]].tobytes())
    base = PLACES.copy()
    base[[1, 3]] = 9
    sparse = {"count": 2, "indices": {"bufferView": index, "componentType": 5123}, "values": {"bufferView": value}}
    made.mesh({"POSITION": made.accessor(base, sparse=sparse)}, made.accessor(FACES.astype("<u4").reshape(-1)))
    assert np.allclose(read(made.glb(tmp_path / "a.glb")).vertices, VERTICES)


def test_materials_textures_and_coordinates(tmp_path):
    made = Gltf().tetrahedron(TEXCOORD_0=np.tile(F4([0.75, 0.5]), (4, 1)), TEXCOORD_1=np.full((4, 2), 0.1, F4))
    color, normal = made.image(mesh_files.picture()), made.image(mesh_files.picture((RED,)))
    move = {"KHR_texture_transform": {"offset": [0.5, 0], "scale": [1, 1]}}
    made.json["materials"] = [
        {
            "name": "paint",
            "pbrMetallicRoughness": {"baseColorTexture": {"index": color}, "metallicFactor": 0.25},
            "normalTexture": {"index": normal},
            "emissiveTexture": {"index": normal, "texCoord": 1},
            "emissiveFactor": [1, 0.5, 0],
            "extensions": {"KHR_materials_emissive_strength": {"emissiveStrength": 4}},
            "alphaMode": "MASK",
            "doubleSided": True,
        }
    ]
    made.json["meshes"][0]["primitives"][0]["material"] = 0
    found = read(made.glb(tmp_path / "a.glb"))
    material = found.materials[0]
    assert (material.name, material.metallic, material.roughness) == ("paint", 0.25, 1.0)
    assert material.emissive == (4.0, 2.0, 0.0) and material.alpha_mode == "mask" and material.double_sided
    # The emissive texture is addressed by another set of coordinates than the scene keeps.
    assert material.textures == {"base_color": 0, "normal": 1}
    assert found.images == (mesh_files.picture(), mesh_files.picture((RED,)))
    assert (found.corner_colors == BLUE).all() and np.allclose(found.uv, [0.75, 0.5])
    assert (found.material == 0).all()
    made.json["materials"][0]["pbrMetallicRoughness"]["baseColorTexture"]["extensions"] = move
    found = read(made.glb(tmp_path / "a.glb"))
    assert (found.corner_colors == RED).all() and np.allclose(found.uv, [1.25, 0.5])


def test_a_turned_texture_follows_the_extension_s_own_example(tmp_path):
    # KHR_texture_transform: this one shows the lower left quadrant.
    change = {"offset": [0, 1], "rotation": np.pi / 2, "scale": [0.5, 0.5]}
    made = Gltf().tetrahedron(TEXCOORD_0=F4([[0, 0], [1, 0], [0, 1], [1, 1]]))
    info = {"index": made.image(mesh_files.picture()), "extensions": {"KHR_texture_transform": change}}
    made.json["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": info}}]
    made.json["meshes"][0]["primitives"][0]["material"] = 0
    uv = read(made.glb(tmp_path / "a.glb")).uv.reshape(-1, 2)
    assert np.allclose(uv.min(0), [0, 0.5], atol=1e-6) and np.allclose(uv.max(0), [0.5, 1], atol=1e-6)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_factor_vertex_color_and_texture_multiply_in_linear_light(tmp_path, kind):
    white = mesh_files.picture(size=(8, 8), colors=((255, 255, 255),), kind=kind)
    made = Gltf().tetrahedron(TEXCOORD_0=np.zeros((4, 2), F4), COLOR_0=np.tile(F4([0.5, 1, 1]), (4, 1)))
    info = {"index": made.image(white)}
    made.json["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": info, "baseColorFactor": [0.4, 0.2, 0, 1]}}]
    made.json["meshes"][0]["primitives"][0]["material"] = 0
    found = read(made.glb(tmp_path / "a.glb"))
    assert np.abs(found.corner_colors.astype(int) - [124, 124, 0]).max() <= 1  # 0.2 of linear light is 124 of sRGB
    assert found.images == (white,)


@pytest.mark.parametrize("both", [False, True])
def test_old_glossiness_materials_keep_their_color(tmp_path, both):
    color = [0.5, 0.0, 1.0, 1.0]
    old = {"KHR_materials_pbrSpecularGlossiness": {"diffuseFactor": color, "glossinessFactor": 0.4}}
    made = Gltf().tetrahedron()
    made.json["materials"] = [
        {"extensions": old, **({"pbrMetallicRoughness": {"baseColorFactor": color}} if both else {})}
    ]
    made.json["meshes"][0]["primitives"][0]["material"] = 0
    found = read(made.glb(tmp_path / "a.glb"))
    assert np.abs(found.corner_colors.astype(int) - [188, 0, 255]).max() <= 1
    assert both or (found.materials[0].metallic, found.materials[0].roughness) == (0.0, pytest.approx(0.6))


def skinned(pose=None, sword=False):
    """Two joints along x; the second carries the vertex at (1, 0, 0); `pose` moves it."""
    weights = F4([[1, 0, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0.5, 0.5, 0, 0]])
    joints = np.tile(np.uint8([0, 1, 0, 0]), (4, 1))
    made = Gltf().tetrahedron(JOINTS_0=joints, WEIGHTS_0=weights)
    inverse = np.tile(np.eye(4, dtype="<f4"), (2, 1, 1))
    inverse[1, 3, 0] = -1  # column major: the second joint stood at x = 1
    made.json["skins"] = [{"joints": [3, 1], "inverseBindMatrices": made.accessor(inverse.reshape(2, 16))}]
    made.json["nodes"] = [
        {"name": "body", "mesh": 0, "skin": 0, "translation": [50, 0, 0]},
        {"name": "knee", "translation": pose or [1, 0, 0]},
        {"name": "between", "children": [1]},
        {"name": "hip", "children": [2]},
    ]
    made.json["scenes"] = [{"nodes": [0, 3]}]
    if sword:
        made.json["nodes"].append({"name": "sword", "mesh": 1})
        made.json["nodes"][1]["children"] = [4]
        made.mesh({"POSITION": made.accessor(PLACES)}, made.accessor(FACES.astype("<u2").reshape(-1)))
    return made


def test_skins_give_the_shown_pose_its_joints_and_weights(tmp_path):
    found = read(skinned().glb(tmp_path / "a.glb"))
    assert np.allclose(found.vertices, VERTICES)  # the node's own place does not move a skin
    skeleton = found.skeleton
    assert skeleton.names == ("hip", "knee") and skeleton.parents.tolist() == [-1, 0]
    assert np.allclose(skeleton.rest[:, :3, 3], [[0, 0, 0], [1, 0, 0]])
    assert found.joints.dtype == np.int32 and np.allclose(found.weights.sum(1), 1)
    full = np.zeros((4, 2))
    np.add.at(full, (np.arange(4)[:, None], found.joints), found.weights)
    assert np.allclose(full, [[1, 0], [0, 1], [1, 0], [0.5, 0.5]])
    posed = read(skinned(pose=[1, 4, 0]).glb(tmp_path / "a.glb"))
    assert np.allclose(posed.vertices, np.add(VERTICES, [[0, 0, 0], [0, 4, 0], [0, 0, 0], [0, 2, 0]]))
    assert np.allclose(posed.skeleton.rest[1][:3, 3], [1, 4, 0])
    turned = read(tmp_path / "a.glb", ReadLimits(up_axis="z"))
    assert np.allclose(turned.skeleton.rest[1][:3, 3], [1, 0, -4])


def test_what_hangs_on_a_joint_is_bound_to_it_and_all_else_is_loose(tmp_path):
    found = read(skinned(sword=True).glb(tmp_path / "a.glb"))
    sword = np.unique(found.faces[found.part == found.part_names.index("sword")])
    assert (found.joints[sword, 0] == 1).all() and np.allclose(found.weights[sword].sum(1), 1)
    made = skinned(sword=True)
    made.json["nodes"][1].pop("children")
    made.json["scenes"] = [{"nodes": [0, 3, 4]}]
    found = read(made.glb(tmp_path / "a.glb"))
    sword = np.unique(found.faces[found.part == found.part_names.index("sword")])
    assert (found.weights[sword] == 0).all()


def test_morph_targets_at_rest_and_instances(tmp_path):
    made = Gltf().tetrahedron()
    target = made.accessor(F4([[0, 0, 0], [2, 0, 0], [0, 0, 0], [0, 0, 0]]))
    made.json["meshes"][0]["primitives"][0]["targets"] = [{"POSITION": target}]
    made.json["meshes"][0]["weights"] = [0.5]
    assert np.allclose(read(made.glb(tmp_path / "a.glb")).vertices[1], [2, 0, 0])
    attributes = {
        "TRANSLATION": made.accessor(F4([[0, 0, 0], [0, 0, 9]])),
        "SCALE": made.accessor(F4([[1] * 3, [2] * 3])),
    }
    made.json["nodes"][0]["extensions"] = {"EXT_mesh_gpu_instancing": {"attributes": attributes}}
    found = read(made.glb(tmp_path / "a.glb"))
    assert len(found.faces) == 8 and np.allclose(found.vertices[5], [4, 0, 9])


def test_draco_geometry_with_its_attributes(tmp_path):
    draco = pytest.importorskip("DracoPy")
    uv = np.tile(F4([0.75, 0.5]), (4, 1))
    data = draco.encode(
        PLACES, FACES.astype(np.uint32), quantization_bits=16, tex_coord=uv.astype(float), preserve_order=True
    )
    made = Gltf()
    numbers = {a["attribute_type"]: a["unique_id"] for a in draco.decode(data).attributes}
    packed = {"bufferView": made.view(data), "attributes": {"POSITION": numbers[0], "TEXCOORD_0": numbers[3]}}
    attributes = {"POSITION": made.accessor(PLACES, backed=False), "TEXCOORD_0": made.accessor(uv, backed=False)}
    made.mesh(attributes, made.accessor(FACES.astype("<u4").reshape(-1), backed=False))
    made.json["meshes"][0]["primitives"][0]["extensions"] = {"KHR_draco_mesh_compression": packed}
    made.json["extensionsUsed"] = made.json["extensionsRequired"] = ["KHR_draco_mesh_compression"]
    info = {"index": made.image(mesh_files.picture())}
    made.json["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": info}}]
    made.json["meshes"][0]["primitives"][0]["material"] = 0
    found = read(made.glb(tmp_path / "a.glb"))
    assert sorted(map(tuple, np.round(found.vertices, 3))) == sorted(map(tuple, VERTICES))
    assert np.isclose(volume(found), 1, atol=1e-3) and (found.corner_colors == BLUE).all()


def test_files_of_its_own_folder_only_and_only_when_allowed(tmp_path):
    (tmp_path / "inner").mkdir()
    made = Gltf().tetrahedron()
    for folder in (tmp_path, tmp_path / "inner"):
        (folder / "a b.bin").write_bytes(made.blob)
    inner = tmp_path / "inner" / "a.gltf"
    assert len(read(made.gltf(inner, "a%20b.bin")).faces) == 4
    with pytest.raises(MaquetteError, match="outside_uri"):
        read(inner, ReadLimits(external_files=False))
    for uri in (
        "../a b.bin",
        "file:///etc/passwd",
        "http://127.0.0.1/a.bin",
        "%2e%2e/a b.bin",
        "/etc/passwd",
        "..\\a b.bin",
    ):
        with pytest.raises(MaquetteError, match="outside_uri"):
            read(made.gltf(inner, uri))
    (tmp_path / "inner" / "link.bin").symlink_to(tmp_path / "a b.bin")
    with pytest.raises(MaquetteError, match="outside_uri"):
        read(made.gltf(inner, "link.bin"))
    with pytest.raises(MaquetteError, match="missing_file"):
        read(made.gltf(inner, "none.bin"))


def test_an_unknown_required_extension_is_said(tmp_path):
    made = Gltf().tetrahedron()
    made.json["extensionsRequired"] = ["ACME_secret_geometry"]
    with pytest.raises(MaquetteError, match=r"unsupported.*ACME_secret_geometry"):
        read(made.glb(tmp_path / "a.glb"))


def test_reading_twice_gives_the_same_scene(tmp_path):
    made = skinned(sword=True)
    path = made.glb(tmp_path / "a.glb")
    first, again = read(path), read(path)
    for name in ("vertices", "faces", "corner_colors", "material", "part", "joints", "weights"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert first.part_names == again.part_names


def test_every_real_model_is_read(real_models):
    paths = sorted(real_models.rglob("*.glb"))[::20]
    for path in paths:
        found = read(path)
        assert np.isfinite(found.vertices[found.faces]).all() and found.material.max() < len(found.materials)
        if found.skeleton is not None:
            assert found.joints.max() < len(found.skeleton.names)
            assert (found.skeleton.parents < np.arange(len(found.skeleton.names))).all()
