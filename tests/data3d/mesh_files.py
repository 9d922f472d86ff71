"""Small mesh files of every format, written without the code under test."""

from __future__ import annotations

import base64
import io
import json
import struct
import zipfile

import numpy as np
from PIL import Image

VERTICES = np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]], np.float64)
FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
RED, BLUE = (200, 30, 40), (20, 60, 220)


def picture(colors=(RED, BLUE), kind="PNG", size=None):
    """Bytes of an image of one row, or of a plain one of any size."""
    image = Image.new("RGB", size or (len(colors), 1), colors[0])
    if size is None:
        image.putdata(list(colors))
    out = io.BytesIO()
    image.save(out, kind, **({"lossless": True} if kind == "WEBP" else {}))
    return out.getvalue()


class Gltf:
    """A glTF document under construction: arrays go in, indices of accessors come out."""

    def __init__(self):
        self.blob = b""
        self.json = {"asset": {"version": "2.0"}, "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0}]}
        self.json |= {"meshes": [], "buffers": [{}], "bufferViews": [], "accessors": []}

    def view(self, data, **more):
        self.blob += b"\0" * (-len(self.blob) % 4)
        self.json["bufferViews"].append({"buffer": 0, "byteOffset": len(self.blob), "byteLength": len(data), **more})
        self.blob += data
        return len(self.json["bufferViews"]) - 1

    def accessor(self, array, normalized=False, **more):
        array = np.asarray(array)
        codes = {"i1": 5120, "u1": 5121, "i2": 5122, "u2": 5123, "u4": 5125, "f4": 5126}
        width = 1 if array.ndim == 1 else array.shape[1]
        entry = {
            "componentType": codes[array.dtype.str[1:]],
            "count": len(array),
            "type": {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}[width],
        }
        if "bufferView" not in more and more.pop("backed", True):
            entry["bufferView"] = self.view(array.tobytes())
        if normalized:
            entry["normalized"] = True
        self.json["accessors"].append(entry | more)
        return len(self.json["accessors"]) - 1

    def mesh(self, attributes, indices=None, **more):
        primitive = {"attributes": attributes, **more}
        if indices is not None:
            primitive["indices"] = indices
        self.json["meshes"].append({"primitives": [primitive]})
        return self

    def tetrahedron(self, **attributes):
        """The tetrahedron as mesh 0; `attributes` are arrays a vertex."""
        made = {"POSITION": self.accessor(VERTICES.astype("<f4"))}
        made |= {name: self.accessor(array) for name, array in attributes.items()}
        return self.mesh(made, self.accessor(FACES.astype("<u2").reshape(-1)))

    def image(self, content, **texture):
        self.json.setdefault("images", []).append({"bufferView": self.view(content), "mimeType": "image/png"})
        self.json.setdefault("textures", []).append({"source": len(self.json["images"]) - 1, **texture})
        return len(self.json["textures"]) - 1

    def glb(self, path):
        self.json["buffers"][0] = {"byteLength": len(self.blob)}
        text = json.dumps(self.json).encode()
        text += b" " * (-len(text) % 4)
        blob = self.blob + b"\0" * (-len(self.blob) % 4)
        body = struct.pack("<I4s", len(text), b"JSON") + text + struct.pack("<I4s", len(blob), b"BIN\0") + blob
        path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body)
        return path

    def gltf(self, path, uri=None):
        inline = "data:application/octet-stream;base64," + base64.b64encode(self.blob).decode()
        self.json["buffers"][0] = {"byteLength": len(self.blob), "uri": uri or inline}
        path.write_text(json.dumps(self.json))
        return path


def glb(path):
    return Gltf().tetrahedron().glb(path)


def gltf(path):
    return Gltf().tetrahedron().gltf(path)


def obj(path):
    lines = [f"v {x} {y} {z}" for x, y, z in VERTICES] + [f"f {a + 1} {b + 1} {c + 1}" for a, b, c in FACES]
    path.write_text("\n".join(lines) + "\n")
    return path


def ply(path, vertices=VERTICES, faces=FACES, colors=None):
    head = f"ply\nformat ascii 1.0\nelement vertex {len(vertices)}\n"
    head += "".join(f"property float {axis}\n" for axis in "xyz")
    if colors is not None:
        head += "".join(f"property uchar {name}\n" for name in ("red", "green", "blue"))
    head += f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    rows = [[*row, *(() if colors is None else colors[i])] for i, row in enumerate(vertices)]
    lines = [" ".join(map(str, row)) for row in rows] + ["3 " + " ".join(map(str, face)) for face in faces]
    path.write_text(head + "\n".join(lines) + "\n")
    return path


def stl(path):
    body = b"".join(struct.pack("<12fH", 0, 0, 0, *VERTICES[face].reshape(-1), 0) for face in FACES)
    path.write_bytes(b"\0" * 80 + struct.pack("<I", len(FACES)) + body)
    return path


def off(path):
    lines = ["OFF", f"{len(VERTICES)} {len(FACES)} 0", *(" ".join(map(str, row)) for row in VERTICES)]
    path.write_text("\n".join([*lines, *(f"3 {a} {b} {c}" for a, b, c in FACES)]) + "\n")
    return path


MESH_3MF = (
    "<mesh><vertices>"
    + "".join(f'<vertex x="{x}" y="{y}" z="{z}"/>' for x, y, z in VERTICES)
    + "</vertices><triangles>"
    + "".join(f'<triangle v1="{a}" v2="{b}" v3="{c}"/>' for a, b, c in FACES)
    + "</triangles></mesh>"
)


def threemf(path, resources=None, build='<item objectid="1"/>', head="", unit="inch", **members):
    resources = resources or f'<object id="1" name="tetra" type="model">{MESH_3MF}</object>'
    model = (
        f'<?xml version="1.0"?>{head}<model unit="{unit}" '
        'xmlns="http://schemas.microsoft.com/3dmanufacturing/core/2015/02" '
        'xmlns:m="http://schemas.microsoft.com/3dmanufacturing/material/2015/02" '
        'xmlns:p="http://schemas.microsoft.com/3dmanufacturing/production/2015/06">'
        f"<resources>{resources}</resources><build>{build}</build></model>"
    )
    relation = "http://schemas.microsoft.com/3dmanufacturing/2013/01/3dmodel"
    relations = (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        f'<Relationship Target="/3D/3dmodel.model" Id="r" Type="{relation}"/></Relationships>'
    )
    return archive(path, {"_rels/.rels": relations, "3D/3dmodel.model": model, **members})


def archive(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def zipped(path):
    return archive(path, {"model/a.obj": obj(path.with_suffix(".obj")).read_bytes()})


def _numbers(values):
    flat = np.asarray(values).reshape(-1)
    return f"*{len(flat)} {{ a: {','.join(f'{v:g}' for v in flat)} }}"


def fbx(path, *, up=1, unit_cm=1.0, material="", model="", skin=None, uv=None, texture=""):
    """Text FBX 7.4 of the tetrahedron; `skin` is a list of (bone name, its x, vertices, weights)."""
    ends = FACES * [1, 1, -1] - [0, 0, 1]  # the last index of a polygon is complemented
    layers, items = "", ""
    if uv is not None:
        layers += f'LayerElementUV: 0 {{ Name: "uv" MappingInformationType: "ByPolygonVertex"\nReferenceInformationType: "Direct"\nUV: {_numbers(uv)} }}\n'  # noqa: E501
        items += 'LayerElement: { Type: "LayerElementUV"\nTypedIndex: 0 }\n'
    if material:
        layers += 'LayerElementMaterial: 0 { MappingInformationType: "AllSame"\nReferenceInformationType: "IndexToDirect"\nMaterials: *1 { a: 0 } }\n'  # noqa: E501
        items += 'LayerElement: { Type: "LayerElementMaterial"\nTypedIndex: 0 }\n'
    objects = f'Geometry: 1, "Geometry::g", "Mesh" {{\nVertices: {_numbers(VERTICES)}\nPolygonVertexIndex: {_numbers(ends)}\n{layers}Layer: 0 {{ Version: 100\n{items} }}\n}}\n'  # noqa: E501
    objects += f'Model: 2, "Model::tetra", "Mesh" {{ Version: 232\nProperties70: {{ {model} }} }}\n'
    links = ["1,2", "2,0"]
    if material:
        objects += f'Material: 3, "Material::paint", "" {{ ShadingModel: "phong"\nProperties70: {{ {material} }} }}\n'
        links.append("3,2")
    if texture:
        objects += f'Texture: 4, "Texture::t", "" {{ FileName: "C:\\art\\{texture}"\nRelativeFilename: "{texture}" }}\n'
    if skin:
        objects += 'Deformer: 10, "Deformer::", "Skin" { Version: 101 }\n'
        links.append("10,1")
    for place, (name, x, vertices, weights) in enumerate(skin or ()):
        bone, cluster = 20 + place, 40 + place
        bind = np.eye(4)
        bind[3, 0] = x  # matrices of FBX are written for row vectors
        objects += f'Model: {bone}, "Model::{name}", "LimbNode" {{ Properties70: {{ P: "Lcl Translation", "Lcl Translation", "", "A",{x if place == 0 else x - skin[place - 1][1]},0,0 }} }}\n'  # noqa: E501
        objects += f'Deformer: {cluster}, "SubDeformer::", "Cluster" {{ Indexes: {_numbers(vertices)}\nWeights: {_numbers(weights)}\nTransform: {_numbers(np.linalg.inv(bind))}\nTransformLink: {_numbers(bind)} }}\n'  # noqa: E501
        links += [f"{bone},{bone - 1 if place else 0}", f"{cluster},10", f"{bone},{cluster}"]
    connections = "".join(f'C: "OO",{link}\n' for link in links)
    if texture:
        connections += 'C: "OP",4,3, "DiffuseColor"\n'
    path.write_text(
        "; FBX 7.4.0 project file\nFBXHeaderExtension: { FBXHeaderVersion: 1003\nFBXVersion: 7400 }\n"
        f'GlobalSettings: {{ Version: 1000\nProperties70: {{ P: "UpAxis", "int", "Integer", "",{up}\n'
        f'P: "UpAxisSign", "int", "Integer", "",1\nP: "FrontAxis", "int", "Integer", "",{3 - up}\n'
        f'P: "FrontAxisSign", "int", "Integer", "",{1 if up == 1 else -1}\n'
        'P: "CoordAxis", "int", "Integer", "",0\nP: "CoordAxisSign", "int", "Integer", "",1\n'
        f'P: "UnitScaleFactor", "double", "Number", "",{unit_cm} }} }}\n'
        f"Objects: {{\n{objects}}}\nConnections: {{\n{connections}}}\n"
    )
    return path


WRITERS = {
    ".glb": glb,
    ".gltf": gltf,
    ".obj": obj,
    ".ply": ply,
    ".stl": stl,
    ".off": off,
    ".3mf": threemf,
    ".fbx": fbx,
    ".zip": zipped,
}
