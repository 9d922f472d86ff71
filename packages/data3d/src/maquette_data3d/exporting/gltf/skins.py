"""Joints as nodes, the skin that binds to them, and clips that move them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from maquette.types import Animation
from maquette_data3d.exporting.binding import Binding, checked
from maquette_data3d.exporting.gltf.buffers import Document, text
from maquette_data3d.geometry.rigid import quaternions

_SLOTS = 4


class Joints:
    """The nodes of a skeleton in a document, below `root`, and its skin."""

    def __init__(self, document: Document, binding: Binding) -> None:
        self._document = document
        self._binding = binding
        skeleton = binding.skeleton
        self._turns = quaternions(binding.local)
        self.nodes = [
            document.add("nodes", self._node(place, name or f"joint_{place}"))
            for place, name in enumerate(skeleton.names)
        ]
        for place, parent in enumerate(skeleton.parents):
            if parent >= 0:
                document.json["nodes"][self.nodes[parent]].setdefault("children", []).append(self.nodes[place])
        self.root = self.nodes[0]
        roots = [self.nodes[place] for place in np.flatnonzero(skeleton.parents < 0)]
        if len(roots) > 1:  # all joints of a skin have to hang on one node
            self.root = document.add("nodes", {"name": "skeleton", "children": roots})
        self._skin: int | None = None

    def _node(self, place: int, name: str) -> dict[str, object]:
        move = self._binding.local[place, :3, 3]
        return {"name": text(name), "translation": move.tolist(), "rotation": self._turns[place].tolist()}

    def skin(self) -> int:
        """The number of the skin, which all parts share."""
        if self._skin is None:
            columns = np.linalg.inv(self._binding.rest).transpose(0, 2, 1).reshape(-1, 16).astype(np.float32)
            entry = {"joints": self.nodes, "inverseBindMatrices": self._document.accessor(columns)}
            self._skin = self._document.add("skins", entry)
        return self._skin

    def attributes(self, source: np.ndarray) -> dict[str, np.ndarray]:
        """JOINTS_n and WEIGHTS_n of vertices, places in the skin."""
        joints, weights = self._binding.joints[source], self._binding.weights[source]
        width = -(-joints.shape[1] // _SLOTS) * _SLOTS
        spare = ((0, 0), (0, width - joints.shape[1]))
        joints, weights = np.pad(joints, spare), np.pad(weights, spare)
        dtype = np.uint8 if len(self.nodes) <= 256 else np.uint16
        found = {}
        for number in range(width // _SLOTS):
            slots = slice(number * _SLOTS, (number + 1) * _SLOTS)
            found[f"JOINTS_{number}"] = joints[:, slots].astype(dtype)
            found[f"WEIGHTS_{number}"] = weights[:, slots]
        return found

    def add_clips(self, clips: Sequence[Animation]) -> None:
        """Animations with a key a frame; what never leaves its place at rest is not written."""
        moves = self._binding.local[:, :3, 3].astype(np.float32)
        for clip in map(checked, clips):
            times = self._document.accessor(clip.times)
            samplers, channels = [], []
            for place, node in enumerate(self.nodes):
                moving = not (clip.translations[:, place] == moves[place]).all()
                for path, values in (("rotation", clip.rotations), ("translation", clip.translations)):
                    if path == "translation" and not moving:
                        continue
                    channels.append({"sampler": len(samplers), "target": {"node": node, "path": path}})
                    samplers.append({"input": times, "output": self._document.accessor(values[:, place])})
            entry = {"samplers": samplers, "channels": channels}
            self._document.add("animations", entry | ({"name": text(clip.name)} if clip.name else {}))
