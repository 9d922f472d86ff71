"""Skins: one skeleton of all joints that move something, and vertices in the pose that the file shows."""

from __future__ import annotations

from typing import Any

import numpy as np

from maquette.errors import MaquetteError
from maquette.types import Skeleton
from maquette_data3d.ingest.gltf import accessors
from maquette_data3d.ingest.gltf.document import Document
from maquette_data3d.ingest.gltf.nodes import NodeTree
from maquette_data3d.ingest.gltf.primitives import Primitive

_ROWS = 65536


class Skins:
    """The skins that shown nodes use, their joints merged by node."""

    def __init__(self, document: Document, tree: NodeTree) -> None:
        self._document = document
        self._tree = tree
        nodes = document.entries("nodes")
        used = list(dict.fromkeys(nodes[n]["skin"] for n in tree.shown if "skin" in nodes[n] and "mesh" in nodes[n]))
        self._joints = {skin: _joints_of(document, skin) for skin in used}
        members = {joint for joints in self._joints.values() for joint in joints}
        # In the order of the tree, so that a parent always comes before its children.
        ordered = [n for n in tree.order if n in members]
        self._place = {node: place for place, node in enumerate(ordered)}
        self._inverse: dict[int, np.ndarray] = {}
        self._above = [-1] * len(nodes)
        for node in tree.order:
            parent = tree.parents[node]
            self._above[node] = self._place.get(node, -1 if parent == -1 else self._above[parent])

    @property
    def skeleton(self) -> Skeleton | None:
        """All joints, None where nothing is skinned."""
        if not self._place:
            return None
        nodes = self._document.entries("nodes")
        names: list[str] = []
        taken: set[str] = set()
        for node in self._place:
            name = str(nodes[node].get("name") or f"joint_{node}")
            names.append(name if name not in taken else f"{name}_{node}")
            taken.add(names[-1])
        above = [self._tree.parents[node] for node in self._place]
        parents = np.array([-1 if node == -1 else self._above[node] for node in above], np.int32)
        return Skeleton(tuple(names), parents, self._tree.world[list(self._place)])

    @property
    def nodes(self) -> list[int]:
        """The node of each joint."""
        return list(self._place)

    def joint_above(self, node: int) -> int:
        """The place of a node's joint: its own or the nearest above, -1 where there is none."""
        return self._above[node]

    def posed(self, primitive: Primitive, skin: Any, node: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
        """Vertices in the scene, joints of the skeleton and weights, and whether the pose mirrors."""
        joints, weights = primitive.joints, primitive.weights
        members = self._joints[skin]
        if joints is None or weights is None:
            raise MaquetteError("unreadable: a skinned mesh has no joints")
        if joints.size and (joints.min() < 0 or joints[weights > 0].max(initial=0) >= len(members)):
            raise MaquetteError(f"index_range: a vertex names a joint outside its skin's {len(members)}")
        joints = np.where(weights > 0, joints, 0)
        moves = self._tree.world[members] @ self._inverse_binds(skin)
        loose = weights.sum(1) <= 0
        placed = _blended(primitive.vertices, joints, weights, moves)
        if loose.any():
            world = self._tree.world[node]
            placed[loose] = primitive.vertices[loose] @ world[:3, :3].T + world[:3, 3]
        mirrored = np.linalg.det(moves[np.unique(joints)][:, :3, :3])
        places = np.array([self._place[member] for member in members])[joints]
        return placed, places, weights, bool(np.median(mirrored) < 0)

    def _inverse_binds(self, skin: int) -> np.ndarray:
        if skin not in self._inverse:
            entry, count = self._document.entry("skins", skin), len(self._joints[skin])
            if "inverseBindMatrices" in entry:
                found = accessors.numbers(self._document, entry["inverseBindMatrices"])
                if len(found) < count or found.shape[1] != 16:
                    raise MaquetteError("unreadable: a skin has fewer bind matrices than joints")
                self._inverse[skin] = found[:count].reshape(-1, 4, 4).transpose(0, 2, 1)
            else:
                self._inverse[skin] = np.tile(np.eye(4), (count, 1, 1))
        return self._inverse[skin]


def _joints_of(document: Document, skin: Any) -> list[int]:
    joints = document.entry("skins", skin).get("joints", [])
    for joint in joints:
        document.entry("nodes", joint)
    if not joints:
        raise MaquetteError("unreadable: a skin has no joints")
    return list(joints)


def _blended(vertices: np.ndarray, joints: np.ndarray, weights: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Linear blend skinning."""
    placed = np.zeros_like(vertices)
    for start in range(0, len(vertices), _ROWS):
        rows = slice(start, start + _ROWS)
        for slot in range(joints.shape[1]):
            move = moves[joints[rows, slot]]
            moved = np.einsum("vij,vj->vi", move[:, :3, :3], vertices[rows]) + move[:, :3, 3]
            placed[rows] += weights[rows, slot, None] * moved
    return placed
