"""A glTF's default scene as placed pieces."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from maquette.errors import MaquetteError
from maquette_data3d.ingest.gltf import accessors
from maquette_data3d.ingest.gltf.clips import clips
from maquette_data3d.ingest.gltf.document import Document
from maquette_data3d.ingest.gltf.nodes import NodeTree, composed, node_tree
from maquette_data3d.ingest.gltf.primitives import Primitive, primitives
from maquette_data3d.ingest.gltf.skins import Skins
from maquette_data3d.ingest.gltf.surfaces import surfaces
from maquette_data3d.ingest.limits import ReadLimits
from maquette_data3d.ingest.parts import Found, Part
from maquette_data3d.ingest.pictures import Pictures

_INSTANCES = "EXT_mesh_gpu_instancing"


def find(path: Path, limits: ReadLimits) -> Found:
    """Metres and y up are glTF's own."""
    document = Document(path, limits)
    pictures = Pictures()
    looks = surfaces(document, pictures)
    tree = node_tree(document)
    skins = Skins(document, tree)
    read: dict[Any, list[Primitive]] = {}
    parts: list[Part] = []
    faces = 0
    for place in tree.shown:
        node = document.entry("nodes", place)
        if "mesh" not in node:
            continue
        mesh = document.entry("meshes", node["mesh"])
        shape = tuple(float(weight) for weight in node.get("weights", mesh.get("weights", ())))
        key = (node["mesh"], shape)
        if key not in read:
            read[key] = primitives(document, mesh, shape, looks, limits)
        worlds = _worlds(document, tree, node, place)
        faces += len(worlds) * sum(len(primitive.faces) for primitive in read[key])
        limits.check_faces(faces)
        limits.check_parts(len(parts) + len(worlds) * len(read[key]))
        name = str(node.get("name") or mesh.get("name") or f"node_{place}")
        parts.extend(_placed(read[key], node, place, name, worlds=worlds, skins=skins))
    skeleton = skins.skeleton
    moves = clips(document, tree, skeleton, skins.nodes) if limits.animations else ()
    return Found(parts, [look.material for look in looks], pictures, skeleton, unit_m=1.0, animations=moves)


def _worlds(document: Document, tree: NodeTree, node: dict[str, Any], place: int) -> np.ndarray:
    """float64 [n, 4, 4], one a copy of the node's mesh."""
    copies = node.get("extensions", {}).get(_INSTANCES)
    if copies is None:
        return tree.world[place][None]
    found = {name: accessors.numbers(document, at) for name, at in copies["attributes"].items() if name[0] != "_"}
    count = max((len(rows) for rows in found.values()), default=0)
    translation = found.get("TRANSLATION", np.zeros((count, 3)))
    rotation = found.get("ROTATION", np.tile([0.0, 0.0, 0.0, 1.0], (count, 1)))
    scale = found.get("SCALE", np.ones((count, 3)))
    if translation.shape != (count, 3) or rotation.shape != (count, 4) or scale.shape != (count, 3):
        raise MaquetteError("unreadable: attributes of instances differ in length")
    return tree.world[place] @ composed(translation, rotation, scale)


def _placed(
    found: list[Primitive], node: dict[str, Any], place: int, name: str, *, worlds: np.ndarray, skins: Skins
) -> Iterator[Part]:
    for primitive in found:
        for world in worlds:
            if not np.isfinite(world).all():
                raise MaquetteError("non_finite: a node's transform is NaN or infinite")
            if "skin" in node and primitive.joints is not None:
                vertices, joints, weights, mirrored = skins.posed(primitive, node["skin"], place)
            else:
                vertices = primitive.vertices @ world[:3, :3].T + world[:3, 3]
                mirrored = bool(np.linalg.det(world[:3, :3]) < 0)
                joints, weights = _rigid(len(vertices), skins.joint_above(place))
            faces = primitive.faces[:, ::-1] if mirrored else primitive.faces
            yield Part(
                name,
                place,
                vertices,
                faces,
                None if primitive.uv is None else primitive.uv[faces],
                primitive.material,
                None if primitive.tint is None else primitive.tint[faces].astype(np.float32),
                joints=joints,
                weights=weights,
            )


def _rigid(count: int, joint: int) -> tuple[np.ndarray | None, np.ndarray | None]:
    """What hangs on a joint moves with it: a sword in a hand."""
    if joint == -1:
        return None, None
    return np.full((count, 1), joint), np.ones((count, 1), np.float32)
