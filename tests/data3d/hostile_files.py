"""A corpus of files that nobody should trust: how each is written, and the reason it must end in."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

import numpy as np

from tests.data3d import mesh_files
from tests.data3d.mesh_files import Gltf

F4 = np.float32


def changed(change):
    """A writer of a tetrahedron's glTF after `change(document)`."""

    def write(folder):
        made = Gltf().tetrahedron()
        change(made)
        return made.glb(folder / "a.glb")

    return write


def content(suffix, data):
    """A writer of bytes under a name."""

    def write(folder):
        path = folder / f"a{suffix}"
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    return write


def cut(suffix, share):
    """A writer of the first part of a good file."""

    def write(folder):
        path = mesh_files.WRITERS[suffix](folder / f"a{suffix}")
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
        return path

    return write


def packed(members, compression=zipfile.ZIP_DEFLATED, suffix=".zip"):
    """A writer of an archive."""

    def write(folder):
        with zipfile.ZipFile(folder / f"a{suffix}", "w", compression) as file:
            for name, data in members.items():
                file.writestr(name, data)
        return folder / f"a{suffix}"

    return write


def lying_zip(folder):
    """Declares a few bytes and inflates to a hundred megabytes."""
    path = packed({"a.obj": b"v 0 0 0\n" * (100 * 2**20 // 8)})(folder)
    data = bytearray(path.read_bytes())
    size = struct.pack("<I", 100 * 2**20)
    while (at := data.find(size)) >= 0:
        data[at : at + 4] = struct.pack("<I", 1000)
    path.write_bytes(data)
    return path


def link_in_zip(folder):
    link = zipfile.ZipInfo("a.obj")
    link.external_attr = 0o120777 << 16
    return packed({link: "/etc/passwd"})(folder)


def nested_zip():
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a.obj", b"0" * 2**20)
    return {f"{i}.zip": inner.getvalue() for i in range(16)}


def bomb_png(width, height):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )


def textured(image):
    def change(made):
        made.json["meshes"][0]["primitives"][0]["attributes"]["TEXCOORD_0"] = made.accessor(np.zeros((4, 2), F4))
        made.json["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": made.image(image)}}}]
        made.json["meshes"][0]["primitives"][0]["material"] = 0

    return changed(change)


def draco(data):
    def change(made):
        extension = {"bufferView": made.view(data), "attributes": {"POSITION": 0}}
        made.json["meshes"][0]["primitives"][0]["extensions"] = {"KHR_draco_mesh_compression": extension}
        made.json["extensionsUsed"] = ["KHR_draco_mesh_compression"]

    return changed(change)


def document(**entries):
    return changed(lambda made: made.json.update(entries))


def nested_components():
    """Ten levels of ten components each: ten thousand million tetrahedra in two kilobytes."""
    resources = f'<object id="0">{mesh_files.MESH_3MF}</object>'
    for level in range(1, 11):
        uses = f'<component objectid="{level - 1}"/>' * 10
        resources += f'<object id="{level}"><components>{uses}</components></object>'
    return lambda folder: mesh_files.threemf(folder / "a.3mf", resources, '<item objectid="10"/>')


def circular_components(folder):
    resources = (
        '<object id="1"><components><component objectid="2"/></components></object>'
        '<object id="2"><components><component objectid="1"/></components></object>'
    )
    return mesh_files.threemf(folder / "a.3mf", resources)


LAUGHS = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10 if i else "ha"}">' for i in range(12))
PLY_HEAD = "ply\nformat binary_little_endian 1.0\nelement vertex %s\nproperty float x\nend_header\n"
MANY = 60_000
LOOSE = "\n".join(f"o p{i}\nv {i} 0 0\nv {i} 1 0\nv {i} 0 1\nf -3 -2 -1" for i in range(MANY))
DEEP = 20_000
THREE = "v 0 0 0\nv 1 0 0\nv 0 1 1\n"
OUTSIDE = '<!DOCTYPE m [<!ENTITY e SYSTEM "file:///etc/passwd">]>'


def soup(folder):
    """A third of a million triangles, none of which touches another: valid, and read."""
    points = np.random.default_rng(0).random((1_000_000 // 3 * 3, 3)).astype(F4)
    made = Gltf()
    made.mesh({"POSITION": made.accessor(points)})
    return made.glb(folder / "a.glb")


CASES = {
    "truncated glb": (cut(".glb", 0.8), "truncated"),
    "truncated gltf": (cut(".gltf", 0.8), "unreadable"),
    "truncated ply": (cut(".ply", 0.95), "truncated|unreadable"),
    "truncated off": (cut(".off", 0.9), "truncated|unreadable"),
    "truncated stl": (cut(".stl", 0.8), "truncated"),
    "truncated 3mf": (cut(".3mf", 0.8), "unreadable"),
    "truncated zip": (cut(".zip", 0.8), "unreadable"),
    "truncated fbx": (cut(".fbx", 0.6), "empty|unreadable"),
    "no bytes": (content(".glb", b""), "empty"),
    "no triangles": (content(".obj", "v 0 0 0\nv 1 0 0\n"), "empty"),
    "no mesh in gltf": (document(nodes=[{}]), "empty"),
    "no model in fbx": (content(".fbx", "; FBX 7.4.0\nFBXHeaderExtension: { FBXVersion: 7400 }\n"), "empty|unreadable"),
    "one triangle": (content(".obj", "v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n"), "flat"),
    "one point": (content(".obj", "v 1 1 1\nv 1 1 1\nv 1 1 1\nf 1 2 3\n"), "flat"),
    "nan in obj": (content(".obj", "v nan 0 0\nv 1 0 0\nv 0 1 1\nv 0 0 1\nf 1 2 3\nf 1 2 4\n"), "non_finite"),
    "nan in gltf": (changed(lambda m: m.accessor(F4([[np.nan] * 3] * 4)) and m.json["meshes"][0]["primitives"][0]
                            ["attributes"].update(POSITION=2)), "non_finite"),
    "nan in a matrix": (document(nodes=[{"mesh": 0, "scale": [float("nan")] * 3}]), "non_finite"),
    "infinite scale": (document(nodes=[{"mesh": 0, "scale": [1e200] * 3, "children": [1]},
                                       {"mesh": 0, "scale": [1e200] * 3}]), "non_finite"),
    "scale of 1e31": (document(nodes=[{"mesh": 0, "scale": [1e31] * 3}]), "non_finite"),
    "scale of 1e-33": (document(nodes=[{"mesh": 0, "scale": [1e-33] * 3}]), "flat"),
    "scale of 1e20": (document(nodes=[{"mesh": 0, "scale": [1e20] * 3}]), "read"),
    "a loose million corners": (soup, "read"),
    "many objects": (content(".obj", LOOSE), "too_many_parts"),
    "many nodes": (document(nodes=[{"mesh": 0}] * 60_000, scenes=[{"nodes": list(range(60_000))}]), "too_many_parts"),
    "zip bomb": (packed({"a.obj": b"v 0 0 0\n" * (50 * 2**20 // 8)}), "archive_bomb"),
    "large zip bomb": (packed({"a.obj": b"0" * 70 * 2**20}), "too_large"),
    "zip bomb that lies": (lying_zip, "archive_bomb|unreadable"),
    "zip in zip": (packed(nested_zip()), "unsafe_archive"),
    "zip of many files": (packed({f"{i}.txt": b"" for i in range(10_001)}, zipfile.ZIP_STORED), "archive_bomb"),
    "zip slip": (packed({"../../a.obj": "v 0 0 0\n"}), "unsafe_archive"),
    "zip with a root": (packed({"/a.obj": "v 0 0 0\n"}), "unsafe_archive"),
    "zip with a drive": (packed({"C:\\a.obj": "v 0 0 0\n"}), "unsafe_archive"),
    "zip with a link": (link_in_zip, "unsafe_archive"),
    "3mf bomb": (packed({"3D/3dmodel.model": b"<!--" + b"0" * 30 * 2**20 + b"-->"}, suffix=".3mf"), "archive_bomb"),
    "laughs": (lambda f: mesh_files.threemf(f / "a.3mf", '<object id="1" name="&l11;"/>',
                                            head=f"<!DOCTYPE m [{LAUGHS}]>"), "unsafe_xml"),
    "external entity": (lambda f: mesh_files.threemf(f / "a.3mf", '<object id="1"/>&e;', head=OUTSIDE), "unsafe_xml"),
    "nested components": (nested_components(), "too_many"),
    "circular components": (circular_components, "unreadable"),
    "3mf without its object": (lambda f: mesh_files.threemf(f / "a.3mf", build='<item objectid="9"/>'), "index_range"),
    "3mf index": (lambda f: mesh_files.threemf(f / "a.3mf", f'<object id="1">{mesh_files.MESH_3MF}</object>'.replace(
        'v3="3"', 'v3="99"')), "index_range"),
    "3mf that is a zip": (packed({"a.txt": "hello"}, suffix=".3mf"), "wrong_extension"),
    "nodes in a circle": (document(nodes=[{"mesh": 0, "children": [1]}, {"children": [0]}]), "unreadable"),
    "node of itself": (document(nodes=[{"mesh": 0, "children": [0]}]), "unreadable"),
    "node of two parents": (document(nodes=[{"children": [2]}, {"children": [2]}, {"mesh": 0}]), "unreadable"),
    "a deep chain of nodes": (document(nodes=[{"children": [i + 1]} for i in range(DEEP)] + [{"mesh": 0}]), "read"),
    "deep json": (content(".gltf", "{" + '"a":[' * 100_000), "unreadable"),
    "no buffer": (changed(lambda m: m.json["bufferViews"][0].update(buffer=5)), "unreadable|missing"),
    "missing buffer": (lambda f: Gltf().tetrahedron().gltf(f / "a.gltf", "none.bin"), "missing_file"),
    "uri above": (lambda f: Gltf().tetrahedron().gltf(f / "a.gltf", "../a.bin"), "outside_uri"),
    "uri of the root": (lambda f: Gltf().tetrahedron().gltf(f / "a.gltf", "/etc/passwd"), "outside_uri"),
    "uri of the net": (lambda f: Gltf().tetrahedron().gltf(f / "a.gltf", "http://127.0.0.1/a.bin"), "outside_uri"),
    "image of the net": (document(images=[{"uri": "https://127.0.0.1/a.png"}]), "outside_uri"),
    "accessor past its view": (changed(lambda m: m.json["accessors"][0].update(count=5)), "declared_size"),
    "accessor offset": (changed(lambda m: m.json["accessors"][0].update(byteOffset=8)), "declared_size"),
    "negative offset": (changed(lambda m: m.json["accessors"][0].update(byteOffset=-8)), "declared_size"),
    "view past its buffer": (changed(lambda m: m.json["bufferViews"][1].update(byteOffset=10**12)), "declared_size"),
    "accessor of nothing": (changed(lambda m: m.json["accessors"].append(
        {"componentType": 5126, "count": 2**31, "type": "VEC3"})), "declared_size"),
    "index out of range": (changed(lambda m: m.json["meshes"][0]["primitives"][0].update(indices=m.accessor(
        np.array([0, 1, 4], "<u2")))), "index_range"),
    "words for numbers": (changed(lambda m: m.json["accessors"][0].update(count="many")), "unreadable"),
    "lists for objects": (document(materials=[[]], nodes={}), "unreadable"),
    "glb of lies": (content(".glb", struct.pack("<4sIIII", b"glTF", 2, 2**31, 2**30, 0x4E4F534A)), "truncated"),
    "ply of a thousand million": (content(".ply", PLY_HEAD % 10**9), "declared_size"),
    "ply of too many digits": (content(".ply", PLY_HEAD % ("9" * 5000)), "unreadable"),
    "ply list": (content(".ply", "ply\nformat binary_little_endian 1.0\nelement vertex 1\nproperty list uint float x\n"
                         "end_header\n\xff\xff\xff\xff"), "unreadable|empty"),
    "off of a thousand million": (content(".off", "OFF\n1000000000 1000000000 0\n"), "declared_size"),
    "off index": (content(".off", "OFF\n3 1 0\n0 0 0\n1 0 0\n0 1 1\n3 0 1 7\n"), "unreadable|index_range"),
    "stl of a thousand million": (content(".stl", b"\0" * 80 + struct.pack("<I", 10**9) + b"\0" * 50), "truncated"),
    "obj index above": (content(".obj", "v 0 0 0\nv 1 0 0\nv 0 1 1\nf 1 2 4\n"), "index_range"),
    "obj index zero": (content(".obj", "v 0 0 0\nv 1 0 0\nv 0 1 1\nf 0 1 2\n"), "index_range"),
    "obj index below": (content(".obj", "v 0 0 0\nv 1 0 0\nv 0 1 1\nf -4 -2 -1\n"), "index_range"),
    "obj index of many digits": (content(".obj", "v 0 0 0\nf 1 2 99999999999999999999\n"), "unreadable|index_range"),
    "obj without numbers": (content(".obj", "v a b c\nf 1 1 1\n"), "unreadable"),
    "obj polygon of many sides": (content(".obj", THREE + "f" + " 1 2 3" * 400_000), "too_many_faces"),
    "obj library above": (content(".obj", "mtllib ../../../etc/passwd\nv 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\n"
                                  "f 1 2 3\nf 1 2 4\n"), "read"),
    "draco garbage": (draco(b"DRACO\x02\x02\x01\x01\0\0" + bytes(range(200))), "unreadable"),
    "not draco": (draco(b"hello"), "unreadable"),
    "fbx garbage": (content(".fbx", b"Kaydara FBX Binary  \0\x1a\0\xe8\x1c\0\0" + bytes(range(256)) * 8), "unreadable"),
    "huge picture": (textured(bomb_png(60_000, 60_000)), "large_image"),
    "large picture": (textured(bomb_png(12_000, 12_000)), "large_image"),
    "broken picture": (textured(bomb_png(64, 64)), "read"),
    "no picture": (textured(b"hello"), "read"),
    "a diary": (content(".glb", "Dear diary"), "wrong_extension"),
    "an unknown name": (content(".docx", "Dear diary"), "wrong_extension"),
}  # fmt: skip
for suffix in (".gltf", ".obj", ".ply", ".stl", ".off", ".3mf", ".fbx", ".zip"):
    CASES[f"a picture named {suffix}"] = (content(suffix, mesh_files.picture()), "wrong_extension|empty|unreadable")
