"""A GLB as pygltflib sees it, its arrays taken out with numpy alone: nothing of the code under test."""

from __future__ import annotations

import numpy as np
import pygltflib

_DTYPES = {5121: "u1", 5123: "u2", 5125: "u4", 5126: "f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


class Reader:
    """Primitives, materials, images, skins and clips of one file."""

    def __init__(self, path):
        self.json = pygltflib.GLTF2().load(str(path))
        self._blob = self.json.binary_blob()

    def array(self, place):
        """The numbers of an accessor [count, components]."""
        accessor = self.json.accessors[place]
        view = self.json.bufferViews[accessor.bufferView]
        start = (view.byteOffset or 0) + (accessor.byteOffset or 0)
        width, dtype = _WIDTHS[accessor.type], np.dtype(_DTYPES[accessor.componentType]).newbyteorder("<")
        return np.frombuffer(self._blob, dtype, accessor.count * width, start).reshape(-1, width)

    def image(self, texture):
        """The bytes behind a texture."""
        found = self.json.textures[texture.index]
        source = found.source if found.source is not None else found.extensions["EXT_texture_webp"]["source"]
        view = self.json.bufferViews[self.json.images[source].bufferView]
        return self._blob[view.byteOffset : view.byteOffset + view.byteLength]

    def primitives(self):
        """Node, attributes by name, faces and material of each primitive, in the order of nodes."""
        for node in (self.json.nodes[place] for place in self.json.scenes[0].nodes):
            if node.mesh is None:
                continue
            for entry in self.json.meshes[node.mesh].primitives:
                names = {key: at for key, at in vars(entry.attributes).items() if at is not None}
                arrays = {name: self.array(at) for name, at in names.items()}
                material = None if entry.material is None else self.json.materials[entry.material]
                yield node, arrays, self.array(entry.indices).reshape(-1, 3), material

    def world(self):
        """float64 [N, 4, 4], node to scene."""
        from scipy.spatial.transform import Rotation

        found = np.tile(np.eye(4), (len(self.json.nodes), 1, 1))
        parents = {child: place for place, node in enumerate(self.json.nodes) for child in node.children or ()}
        for place, node in enumerate(self.json.nodes):
            found[place, :3, 3] = node.translation or (0, 0, 0)
            found[place, :3, :3] = Rotation.from_quat(node.rotation or (0, 0, 0, 1)).as_matrix()
        done = found.copy()
        for place in range(len(found)):
            above = parents.get(place)
            while above is not None:
                done[place] = found[above] @ done[place]
                above = parents.get(above)
        return done


def check(path, asset, copies):
    """The file holds the asset, in metres."""
    reader, mesh = Reader(path), asset.mesh
    unit = mesh.unit_m or 1.0
    order = copies.order_of(mesh, "part", "material")
    found = list(reader.primitives())
    corners = np.concatenate([arrays["POSITION"][faces] for _, arrays, faces, _ in found])
    copies.same_geometry(corners, copies.corners(mesh)[order] * unit)
    if mesh.uv is not None:
        assert np.array_equal(np.concatenate([a["TEXCOORD_0"][faces] for _, a, faces, _ in found]), mesh.uv[order])
    check_materials(reader, found, mesh, order, copies)
    if mesh.skin is not None:
        check_skin(reader, found, mesh, order, unit)
        check_clips(reader, asset, unit)


def check_materials(reader, found, mesh, order, copies):
    material = copies.places(mesh, "material")[order]
    start = 0
    for _, arrays, faces, entry in found:
        place = np.unique(material[start : start + len(faces)])
        assert len(place) == 1
        rows = order[start : start + len(faces)]
        start += len(faces)
        if place[0] < 0:
            light = arrays["COLOR_0"][faces].astype(float)[..., :3] / 65535
            srgb = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
            assert np.abs(srgb * 255 - mesh.colors[mesh.faces[rows]][..., :3]).max() < 0.1
            continue
        wanted, core = mesh.materials[place[0]], entry.pbrMetallicRoughness
        strength = (entry.extensions or {}).get("KHR_materials_emissive_strength", {}).get("emissiveStrength", 1)
        assert np.allclose(core.baseColorFactor, wanted.base_color)
        assert np.allclose([core.metallicFactor, core.roughnessFactor], [wanted.metallic, wanted.roughness])
        assert np.allclose(np.array(entry.emissiveFactor) * strength, wanted.emissive)
        assert (entry.alphaMode or "OPAQUE").lower() == wanted.alpha_mode
        assert bool(entry.doubleSided) == wanted.double_sided
        textures = {
            "base_color": core.baseColorTexture,
            "metallic_roughness": core.metallicRoughnessTexture,
            "normal": entry.normalTexture,
            "occlusion": entry.occlusionTexture,
            "emissive": entry.emissiveTexture,
        }
        shown = wanted.textures if mesh.uv is not None else {}
        assert {role for role, texture in textures.items() if texture is not None} == set(shown)
        for role, image in shown.items():
            assert reader.image(textures[role]) == mesh.images[image]


def check_skin(reader, found, mesh, order, unit):
    skin = reader.json.skins[0]
    names = [reader.json.nodes[node].name for node in skin.joints]
    assert names == list(mesh.skin.skeleton.names)
    world = reader.world()[skin.joints]
    assert np.allclose(world[:, :3, 3], mesh.skin.skeleton.rest[:, :3, 3] * unit, atol=1e-6)
    # In the pose of the file the skin moves nothing.
    binds = reader.array(skin.inverseBindMatrices).reshape(-1, 4, 4).transpose(0, 2, 1)
    assert np.abs(world @ binds - np.eye(4)).max() < 1e-6 * max(np.abs(world).max(), 1)
    table = []
    for _, arrays, faces, _ in found:
        dense = np.zeros((len(arrays["POSITION"]), len(names)))
        for number in range(sum(name.startswith("JOINTS") for name in arrays)):
            rows = np.arange(len(dense))[:, None]
            np.add.at(dense, (rows, arrays[f"JOINTS_{number}"].astype(int)), arrays[f"WEIGHTS_{number}"])
        table.append(dense[faces])
    wanted = np.zeros((len(mesh.vertices), len(names)))
    np.add.at(wanted, (np.arange(len(wanted))[:, None], mesh.skin.joints), mesh.skin.weights)
    assert np.abs(np.concatenate(table) - wanted[mesh.faces[order]]).max() < 1e-5


def check_clips(reader, asset, unit):
    joints = reader.json.skins[0].joints
    assert [clip.name for clip in reader.json.animations] == [clip.name for clip in asset.animations]
    for entry, clip in zip(reader.json.animations, asset.animations, strict=True):
        moving = {channel.target.node for channel in entry.channels if channel.target.path == "translation"}
        for at in (at for at, node in enumerate(joints) if node not in moving):
            assert np.allclose(clip.translations[:, at] * unit, reader.json.nodes[joints[at]].translation, atol=1e-6)
        for channel in entry.channels:
            sampler, at = entry.samplers[channel.sampler], joints.index(channel.target.node)
            assert np.array_equal(reader.array(sampler.input)[:, 0], clip.times)
            values = reader.array(sampler.output)
            if channel.target.path == "rotation":
                assert np.allclose(values, clip.rotations[:, at], atol=1e-6)
            else:
                assert np.allclose(values, clip.translations[:, at] * unit, atol=1e-6 * unit)
