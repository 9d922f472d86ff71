"""The tree of nodes: where everything stands, and which nodes the shown scene holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from maquette.errors import MaquetteError
from maquette_data3d.ingest.gltf.document import Document


@dataclass
class NodeTree:
    """Nodes of a file.

    Attributes:
        parents: the node above each, -1 at a root.
        world: float64 [N, 4, 4], node to scene.
        shown: nodes of the default scene, parents before children.
        order: all nodes, parents before children.
    """

    parents: list[int]
    world: np.ndarray
    shown: list[int]
    order: list[int]


def node_tree(document: Document) -> NodeTree:
    """Places all nodes.

    Raises:
        MaquetteError: "unreadable: ..." where nodes form no tree: a circle, or a child of two parents.
    """
    nodes = document.entries("nodes")
    parents = [-1] * len(nodes)
    for place, node in enumerate(nodes):
        for child in node.get("children", []):
            document.entry("nodes", child)
            if parents[child] != -1 or child == place:
                raise MaquetteError(f"unreadable: its nodes form no tree, node {child} hangs twice")
            parents[child] = place
    world = np.tile(np.eye(4), (len(nodes), 1, 1))
    order = _down(nodes, [place for place, parent in enumerate(parents) if parent == -1])
    if len(order) != len(nodes):
        raise MaquetteError("unreadable: its nodes form no tree, some hang in a circle")
    for place in order:
        local = _local(nodes[place])
        world[place] = local if parents[place] == -1 else world[parents[place]] @ local
    return NodeTree(parents, world, _down(nodes, _roots(document, parents)), order)


def _roots(document: Document, parents: list[int]) -> list[int]:
    scenes = document.entries("scenes")
    if not scenes:
        return [place for place, parent in enumerate(parents) if parent == -1]
    roots = document.entry("scenes", document.json.get("scene", 0)).get("nodes", [])
    for place in roots:
        document.entry("nodes", place)
    return list(dict.fromkeys(roots))


def _down(nodes: list[dict[str, Any]], roots: list[int]) -> list[int]:
    order: dict[int, None] = {}
    waiting = list(reversed(roots))
    while waiting:
        place = waiting.pop()
        if place not in order:
            order[place] = None
            waiting.extend(reversed(nodes[place].get("children", [])))
    return list(order)


def _local(node: dict[str, Any]) -> np.ndarray:
    if "matrix" in node:
        return np.asarray(node["matrix"], np.float64).reshape(4, 4).T
    return composed(
        np.asarray(node.get("translation", (0, 0, 0)), np.float64)[None],
        np.asarray(node.get("rotation", (0, 0, 0, 1)), np.float64)[None],
        np.asarray(node.get("scale", (1, 1, 1)), np.float64)[None],
    )[0]


def composed(translation: np.ndarray, rotation: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """float64 [n, 4, 4] of translations [n, 3], quaternions [n, 4] (x, y, z, w) and scales [n, 3]."""
    length = np.linalg.norm(rotation, axis=1, keepdims=True)
    x, y, z, w = np.divide(rotation, length, out=np.zeros_like(rotation), where=length > 0).T
    turn = np.empty((len(rotation), 3, 3))
    turn[:, 0] = np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], 1)
    turn[:, 1] = np.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], 1)
    turn[:, 2] = np.stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], 1)
    matrix = np.tile(np.eye(4), (len(rotation), 1, 1))
    matrix[:, :3, :3] = turn * scale[:, None, :]
    matrix[:, :3, 3] = translation
    return matrix
