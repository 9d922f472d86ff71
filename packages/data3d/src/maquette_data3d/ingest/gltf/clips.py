"""Animations of joints: channels of any node between them and the root, as one pose a key."""

from __future__ import annotations

from typing import Any

import numpy as np

from maquette.errors import MaquetteError
from maquette.types import Animation
from maquette_data3d.geometry.rigid import quaternions, rigid, to_parents
from maquette_data3d.ingest.gltf import accessors
from maquette_data3d.ingest.gltf.document import Document
from maquette_data3d.ingest.gltf.nodes import NodeTree, composed
from maquette_data3d.ingest.scene import Skeleton

_PATHS = {"translation": ((0.0, 0.0, 0.0), 3), "rotation": ((0.0, 0.0, 0.0, 1.0), 4), "scale": ((1.0, 1.0, 1.0), 3)}
_MOST_POSES = 8_000_000  # nodes times frames
_FRAMES = 256

Curves = dict[tuple[int, str], tuple[np.ndarray, np.ndarray, str]]
"""Key times [T], values and interpolation, by node and path."""


def clips(document: Document, tree: NodeTree, skeleton: Skeleton | None, nodes: list[int]) -> tuple[Animation, ...]:
    """The animations that move a joint, with a frame at each key of any of its channels.

    Args:
        nodes: of each joint of the skeleton.
    """
    if skeleton is None:
        return ()
    chain = _chain(tree, nodes)
    places = [chain.index(node) for node in nodes]
    found = []
    for number, entry in enumerate(document.entries("animations")):
        curves = _curves(document, entry, set(chain))
        if not curves:
            continue
        times = np.unique(np.concatenate([keys for keys, _, _ in curves.values()]).astype(np.float32))
        if len(times) * len(chain) > _MOST_POSES:
            raise MaquetteError(f"too_large: an animation of {len(times)} frames over {len(chain)} nodes")
        poses = [
            _poses(document, tree, chain, curves, times[start : start + _FRAMES])[:, places]
            for start in range(0, len(times), _FRAMES)
        ]
        local = to_parents(rigid(np.concatenate(poses)), skeleton.parents)
        moves, turns = local[..., :3, 3].astype(np.float32), quaternions(local).astype(np.float32)
        name = str(entry.get("name") or f"animation_{number}")
        found.append(Animation(name, times - times[0], turns, moves))
    return tuple(found)


def _chain(tree: NodeTree, nodes: list[int]) -> list[int]:
    """The joints' nodes and all above them, parents first."""
    needed = set()
    for node in nodes:
        while node != -1 and node not in needed:
            needed.add(node)
            node = tree.parents[node]  # noqa: PLW2901 - upwards
    return [node for node in tree.order if node in needed]


def _curves(document: Document, entry: dict[str, Any], nodes: set[int]) -> Curves:
    curves: Curves = {}
    for channel in entry.get("channels", []):
        target = channel.get("target", {})
        node, path = target.get("node"), target.get("path")
        if node not in nodes or path not in _PATHS:
            continue
        sampler = entry["samplers"][channel["sampler"]]
        times = accessors.numbers(document, sampler["input"]).reshape(-1)
        mode = str(sampler.get("interpolation", "LINEAR"))
        values = accessors.numbers(document, sampler["output"])
        per_key = 3 if mode == "CUBICSPLINE" else 1
        if not len(times) or values.shape != (len(times) * per_key, _PATHS[path][1]):
            raise MaquetteError("unreadable: an animation's keys and values differ in length")
        if not (np.isfinite(times).all() and np.isfinite(values).all() and (np.diff(times) >= 0).all()):
            raise MaquetteError("non_finite: an animation's keys are no ascending numbers")
        curves[node, path] = (times, values.reshape(len(times), per_key, -1), mode)
    return curves


def _poses(document: Document, tree: NodeTree, chain: list[int], curves: Curves, times: np.ndarray) -> np.ndarray:
    """float64 [T, C, 4, 4], node to scene of each node of the chain."""
    place = {node: number for number, node in enumerate(chain)}
    world = np.tile(np.eye(4), (len(times), len(chain), 1, 1))
    for number, node in enumerate(chain):
        local = _local(document.entry("nodes", node), node, curves, times)
        above = place.get(tree.parents[node])
        world[:, number] = local if above is None else world[:, above] @ local
    return world


def _local(entry: dict[str, Any], node: int, curves: Curves, times: np.ndarray) -> np.ndarray:
    if not any((node, path) in curves for path in _PATHS) and "matrix" in entry:
        return np.asarray(entry["matrix"], np.float64).reshape(4, 4).T
    found = []
    for path, (otherwise, width) in _PATHS.items():
        if (node, path) in curves:
            found.append(_sampled(*curves[node, path], times, path == "rotation"))
        else:
            value = np.asarray(entry.get(path, otherwise), np.float64).reshape(width)
            found.append(np.broadcast_to(value, (len(times), width)))
    return composed(*found)


def _sampled(keys: np.ndarray, values: np.ndarray, mode: str, times: np.ndarray, turns: bool) -> np.ndarray:
    """Values [T, C] at times: specification, appendix C."""
    times = np.clip(times.astype(np.float64), keys[0], keys[-1])
    before = np.clip(np.searchsorted(keys, times, side="right") - 1, 0, len(keys) - 1)
    after = np.minimum(before + 1, len(keys) - 1)
    span = keys[after] - keys[before]
    share = np.divide(times - keys[before], span, out=np.zeros_like(times), where=span > 0)[:, None]
    if mode == "CUBICSPLINE":
        return _spline(values[before], values[after], share, span[:, None])
    start, stop = values[before, 0], values[after, 0]
    if mode == "STEP":
        return start
    return _slerp(start, stop, share) if turns else start + share * (stop - start)


def _spline(start: np.ndarray, stop: np.ndarray, t: np.ndarray, span: np.ndarray) -> np.ndarray:
    """Hermite's cubic between keys [T, 3, C] of tangent in, value, tangent out."""
    square, cube = t * t, t * t * t
    return (
        (2 * cube - 3 * square + 1) * start[:, 1]
        + span * (cube - 2 * square + t) * start[:, 2]
        + (3 * square - 2 * cube) * stop[:, 1]
        + span * (cube - square) * stop[:, 0]
    )


def _slerp(start: np.ndarray, stop: np.ndarray, t: np.ndarray) -> np.ndarray:
    cosine = (start * stop).sum(1, keepdims=True)
    stop = np.where(cosine < 0, -stop, stop)
    angle = np.arccos(np.clip(np.abs(cosine), 0.0, 1.0))
    sine = np.sin(angle)
    straight = sine < 1e-6
    safe = np.where(straight, 1.0, sine)
    first = np.where(straight, 1.0 - t, np.sin((1.0 - t) * angle) / safe)
    second = np.where(straight, t, np.sin(t * angle) / safe)
    return first * start + second * stop
