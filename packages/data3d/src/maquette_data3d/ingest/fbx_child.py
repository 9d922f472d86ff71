"""The process that holds ufbx: `python -m maquette_data3d.ingest.fbx_child FILE OUT LARGEST_FACES LARGEST_PARTS`.

Nothing that the binding hands out is ever freed (`held`), and the process leaves without cleaning up.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from maquette_data3d.ingest.child_process import end_with_parent
from maquette_data3d.ingest.polygons import fans

_T = TypeVar("_T")
_HELD: list[object] = []
_MOST_JOINTS = 8  # of a vertex
_AXES = "xxyyzzy"  # ufbx's axes come in pairs of directions; unknown is y


def held(thing: _T) -> _T:
    """The same thing, never to be freed."""
    _HELD.append(thing)
    return thing


def main(arguments: list[str]) -> None:
    """Reads one file and writes arrays and a description of them."""
    import ufbx

    source, target, most_faces, most_parts = arguments
    arrays: dict[str, np.ndarray] = {}
    try:
        options: dict[str, Any] = {"file_format": ufbx.FileFormat.FBX, "load_external_files": False}
        scene = held(ufbx.load_memory(held(Path(source).read_bytes()), **options))
        about = _scene(scene, arrays, int(most_faces), int(most_parts))
    except MemoryError:
        about = {"error": "memory: parsing needed more than memory_mb allows"}
    except Exception as error:  # the parser's errors and everything at hostile input
        about = {"error": f"unreadable: {type(error).__name__}: {' '.join(str(error).split())[:120]}"}
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    partial = Path(f"{target}.partial.npz")
    np.savez(partial, **arrays)
    os.replace(partial, target)


def _scene(scene: Any, arrays: dict[str, np.ndarray], most_faces: int, most_parts: int) -> dict[str, Any]:
    nodes = [(node, mesh) for node in _each(scene.nodes) if (mesh := held(node.mesh)) is not None]
    faces = sum(int(mesh.num_triangles) for _, mesh in nodes)
    if faces > most_faces:
        return {"error": f"too_many_faces: {faces}, at most {most_faces} are read"}
    if len(nodes) > most_parts:
        return {"error": f"too_many_parts: {len(nodes)}, at most {most_parts} are read"}
    # Phong has no metal: Blender writes it as reflection, which ufbx knows of Blender, and so does this project.
    looks = _Looks(str(held(held(scene.metadata).creator)) == "maquette")
    joints = _Joints(nodes)
    parts = []
    for node, mesh in nodes:
        found = _mesh(node, mesh, looks, joints)
        if found is None:
            continue
        arrays.update({f"{key}{len(parts)}": rows for key, rows in found.items()})
        name = str(held(node.name)) or str(held(mesh.name)) or f"node_{len(parts)}"
        parts.append({"name": name, "number": len(parts), "arrays": sorted(found)})
    arrays.update({f"image{number}": content for number, content in enumerate(looks.contents)})
    if joints.nodes:
        arrays["parents"], arrays["rest"] = joints.parents(), joints.rest()
    settings = held(scene.settings)
    unit = float(held(settings.unit_meters))
    return {
        "unit_m": unit if unit > 0 else None,
        "up_axis": _AXES[int(held(held(settings.axes).up))],
        "materials": looks.materials,
        "images": looks.names,
        "parts": parts,
        "joints": joints.names(),
    }


def _each(things: Any) -> list[Any]:
    return [held(thing) for thing in held(things)]


def _matrix(found: Any) -> np.ndarray:
    """float64 [4, 4] of ufbx's four columns of three."""
    matrix = np.eye(4)
    matrix[:3] = np.array([held(column) for column in held(found)]).T
    return matrix


def _rows(found: Any, width: int) -> np.ndarray:
    """A list of ufbx's vectors as float64 [n, width]."""
    rows = held(found)
    if not len(rows):
        return np.zeros((0, width))
    return np.array(held(np.asarray(rows)), np.float64).reshape(len(rows), -1)[:, :width]


def _whole(found: Any) -> np.ndarray:
    return np.array(list(held(found)), np.int64)


def _mesh(node: Any, mesh: Any, looks: _Looks, joints: _Joints) -> dict[str, np.ndarray] | None:
    sides = np.array([(face[0], face[1]) for face in _each(mesh.faces)], np.int64).reshape(-1, 2)
    corners, polygon = fans(sides[:, 1])
    if not len(corners):
        return None
    # Faces need not lie in order in the list of corners.
    corners += (sides[:, 0] - (np.cumsum(sides[:, 1]) - sides[:, 1]))[polygon][:, None]
    faces = _whole(mesh.vertex_indices)[corners]
    vertices = _rows(mesh.vertices, 3)
    world = _matrix(node.geometry_to_world)
    found: dict[str, np.ndarray] = {}
    deformers = _each(mesh.skin_deformers)
    bound = joints.bound(deformers[0], vertices, world) if deformers else None
    if bound is None:
        vertices = vertices @ world[:3, :3].T + world[:3, 3]
        mirrored = np.linalg.det(world[:3, :3]) < 0
    else:
        vertices, found["joints"], found["weights"], mirrored = bound
    uv, color = held(mesh.vertex_uv), held(mesh.vertex_color)
    if held(uv.exists):
        found["uv"] = (_rows(uv.values, 2)[_whole(uv.indices)] * [1, -1] + [0, 1])[corners]
    if held(color.exists):
        found["tint"] = np.clip(_rows(color.values, 3)[_whole(color.indices)][corners], 0, 1).astype(np.float32)
    places = np.array([looks.place(material) for material in _each(node.materials)] or [-1], np.int64)
    chosen = _whole(mesh.face_material) if len(places) > 1 else np.zeros(len(sides), np.int64)
    found["material"] = places[np.clip(chosen[polygon] if len(chosen) else 0, 0, len(places) - 1)]
    found["material"] = np.broadcast_to(found["material"], len(faces)).copy()
    if mirrored:
        faces = faces[:, ::-1]
        found.update({key: found[key][:, ::-1] for key in ("uv", "tint") if key in found})
    return {**found, "vertices": vertices, "faces": faces}


class _Looks:
    """Materials and images that nodes refer to, numbered as they come."""

    def __init__(self, own_phong: bool) -> None:
        self._own_phong = own_phong
        self.materials: list[dict[str, Any]] = []
        self.names: list[list[str]] = []
        self.contents: list[np.ndarray] = []
        self._places: dict[int, int] = {}
        self._images: dict[int, int] = {}

    def place(self, material: Any) -> int:
        """The number of a material."""
        key = int(held(material.element_id))
        if key not in self._places:
            self._places[key] = len(self.materials)
            self.materials.append(self._material(material))
        return self._places[key]

    def _material(self, material: Any) -> dict[str, Any]:
        pbr = held(material.pbr)
        phong = held(material.fbx)
        metal = phong.reflection_factor if self._own_phong else pbr.metalness
        # Exporters write linear light here, as the programs' own materials have it.
        color = _value(pbr.base_color, (0.8, 0.8, 0.8, 1.0))
        factor = _value(pbr.base_factor, (1.0,))[0]
        glow, strength = _value(pbr.emission_color, (0.0, 0.0, 0.0)), _value(pbr.emission_factor, (1.0,))[0]
        opacity = _value(pbr.opacity, (1.0,))[0]
        if self._own_phong:
            opacity = 1.0 - _value(phong.transparency_factor, (0.0,))[0]
        opacity = min(max(opacity, 0.0), 1.0)
        maps = {
            "base_color": pbr.base_color,
            "normal": pbr.normal_map,
            "emissive": pbr.emission_color,
        }
        textures = {role: self._image(texture) for role, found in maps.items() if (texture := held(found).texture)}
        return {
            "name": str(held(material.name)),
            "base_color": [*(min(max(value * factor, 0.0), 1.0) for value in color[:3]), opacity],
            "metallic": min(max(_value(metal, (0.0,))[0], 0.0), 1.0),
            "roughness": min(max(_value(pbr.roughness, (1.0,))[0], 0.0), 1.0),
            "emissive": [max(value * strength, 0.0) for value in glow[:3]],
            "alpha_mode": "blend" if opacity < 1.0 else "opaque",
            "textures": textures,
        }

    def _image(self, texture: Any) -> int:
        held(texture)
        key = int(held(texture.element_id))
        if key not in self._images:
            self._images[key] = len(self.names)
            content = held(texture.content) or b""
            self.contents.append(np.frombuffer(bytes(content), np.uint8))
            self.names.append([str(held(texture.relative_filename)), str(held(texture.filename))])
        return self._images[key]


def _value(found: Any, otherwise: tuple[float, ...]) -> tuple[float, ...]:
    entry = held(found)
    if not held(entry.has_value):
        return otherwise
    values = tuple(float(value) for value in held(entry.value_vec4))
    return values if all(np.isfinite(values)) else otherwise


class _Joints:
    """All bones that move a vertex, in the order of their first use."""

    def __init__(self, nodes: list[tuple[Any, Any]]) -> None:
        self.nodes: list[Any] = []
        self._places: dict[int, int] = {}
        for _, mesh in nodes:
            for deformer in _each(mesh.skin_deformers)[:1]:
                for cluster in _each(deformer.clusters):
                    bone = held(cluster.bone_node)
                    key = -1 if bone is None else int(held(bone.typed_id))
                    if bone is not None and key not in self._places:
                        self._places[key] = len(self.nodes)
                        self.nodes.append(bone)

    def names(self) -> list[str]:
        """Unique names."""
        found: list[str] = []
        for place, node in enumerate(self.nodes):
            name = str(held(node.name)) or f"joint_{place}"
            found.append(name if name not in found else f"{name}_{place}")
        return found

    def parents(self) -> np.ndarray:
        """int32 [J], the nearest bone above, -1 at a root."""
        found = []
        for node in self.nodes:
            above = held(node.parent)
            while above is not None and int(held(above.typed_id)) not in self._places:
                above = held(above.parent)
            found.append(-1 if above is None else self._places[int(held(above.typed_id))])
        return np.array(found, np.int32)

    def rest(self) -> np.ndarray:
        """float64 [J, 4, 4], joint to world in the pose of the file."""
        return np.stack([_matrix(node.node_to_world) for node in self.nodes])

    def bound(
        self, deformer: Any, vertices: np.ndarray, world: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool] | None:
        """Posed vertices [V, 3], joints int64 [V, K], weights float64 [V, K], and whether the pose mirrors."""
        moves, rows = [], []
        for cluster in _each(deformer.clusters):
            bone = held(cluster.bone_node)
            weights = np.array(list(held(cluster.weights)), np.float64)
            if bone is not None and len(weights):
                place = self._places[int(held(bone.typed_id))]
                which = np.full(len(weights), len(moves))
                rows.append(np.stack([_whole(cluster.vertices), which, np.full(len(weights), place), weights], 1))
                moves.append(_matrix(cluster.geometry_to_world))
        if not moves:
            return None
        table = np.concatenate(rows)
        table = table[(table[:, 3] > 0) & (table[:, 0] < len(vertices))]
        table = table[np.lexsort((-table[:, 3], table[:, 0]))]
        vertex = table[:, 0].astype(np.int64)
        slot = np.arange(len(table)) - np.searchsorted(vertex, vertex)
        table, vertex, slot = table[slot < _MOST_JOINTS], vertex[slot < _MOST_JOINTS], slot[slot < _MOST_JOINTS]
        shape = (len(vertices), int(slot.max(initial=0)) + 1)
        joints, weights, which = np.zeros(shape, np.int64), np.zeros(shape), np.zeros(shape, np.int64)
        joints[vertex, slot], weights[vertex, slot], which[vertex, slot] = table[:, 2], table[:, 3], table[:, 1]
        total = weights.sum(1, keepdims=True)
        weights = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
        posed = np.zeros_like(vertices)
        for place in range(shape[1]):
            move = np.stack(moves)[which[:, place]]
            posed += weights[:, place, None] * (np.einsum("vij,vj->vi", move[:, :3, :3], vertices) + move[:, :3, 3])
        loose = total[:, 0] <= 0
        posed[loose] = vertices[loose] @ world[:3, :3].T + world[:3, 3]
        mirrored = np.median(np.linalg.det(np.stack(moves)[:, :3, :3])) < 0
        return posed, joints, weights, bool(mirrored)


if __name__ == "__main__":
    end_with_parent()
    gc.disable()
    main(sys.argv[1:])
    sys.stdout.flush()
    os._exit(0)
