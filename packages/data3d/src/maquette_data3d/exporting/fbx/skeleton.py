"""Bones, skins of clusters, and clips of curves."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from maquette.types import Animation
from maquette_data3d.exporting.binding import Binding, checked
from maquette_data3d.exporting.fbx.document import TICKS, Document
from maquette_data3d.exporting.fbx.geometry import Geometry
from maquette_data3d.exporting.fbx.records import Long
from maquette_data3d.geometry.rigid import quaternions

_LINEAR = 4  # how a curve goes from key to key


class Bones:
    """The joints of a binding as limbs of the scene."""

    def __init__(self, document: Document, binding: Binding) -> None:
        self._document = document
        self._binding = binding
        self.numbers: list[int] = []
        angles = euler(quaternions(binding.local))
        for place, (name, parent) in enumerate(
            zip(binding.skeleton.names, binding.skeleton.parents.tolist(), strict=True)
        ):
            number, record = document.add("Model", name or f"joint_{place}", "Model", "LimbNode")
            record.add("Version", 232)
            record.properties(
                [
                    ("Lcl Translation", "Lcl Translation", "", "A", tuple(map(float, binding.local[place, :3, 3]))),
                    ("Lcl Rotation", "Lcl Rotation", "", "A", tuple(map(float, angles[place]))),
                ]
            )
            limb, record = document.add("NodeAttribute", name or f"joint_{place}", "NodeAttribute", "LimbNode")
            record.add("TypeFlags", "Skeleton")
            document.connect(limb, number)
            document.connect(number, 0 if parent < 0 else self.numbers[parent])
            self.numbers.append(number)

    def bind(self, geometry: Geometry) -> None:
        """A skin of a geometry: a cluster a joint, of the vertices that it moves."""
        skin, record = self._document.add("Deformer", "skin", "Deformer", "Skin")
        record.add("Version", 101)
        self._document.connect(skin, geometry.number)
        joints, weights = self._binding.joints[geometry.vertices], self._binding.weights[geometry.vertices]
        for place in np.unique(joints[weights > 0]).tolist():
            rows, slots = np.nonzero((joints == place) & (weights > 0))
            name = self._binding.skeleton.names[place]
            cluster, record = self._document.add("Deformer", name, "SubDeformer", "Cluster")
            record.add("Version", 100)
            record.add("Indexes", rows.astype(np.int32))
            record.add("Weights", weights[rows, slots].astype(np.float64))
            rest = self._binding.rest[place]
            record.add("Transform", np.linalg.inv(rest).T.reshape(-1))  # for row vectors
            record.add("TransformLink", rest.T.reshape(-1).copy())
            self._document.connect(cluster, skin)
            self._document.connect(self.numbers[place], cluster)

    def add_pose(self, models: Sequence[int]) -> None:
        """The pose that everything was bound in: models stand at the origin, joints at rest."""
        _, record = self._document.add("Pose", "bind pose", "Pose", "BindPose")
        record.add("Type", "BindPose")
        record.add("Version", 100)
        record.add("NbPoseNodes", len(models) + len(self.numbers))
        places = [np.eye(4)] * len(models) + list(self._binding.rest)
        for number, place in zip([*models, *self.numbers], places, strict=True):
            node = record.add("PoseNode")
            node.add("Node", Long(number))
            node.add("Matrix", place.T.reshape(-1).copy())

    def add_clips(self, clips: Sequence[Animation]) -> None:
        """A stack with one layer a clip; rotations as angles, with a key a frame."""
        for place, clip in enumerate(map(checked, clips)):
            name = clip.name or f"clip_{place}"
            ticks = np.round(clip.times.astype(np.float64) * TICKS).astype(np.int64)
            stack, record = self._document.add("AnimationStack", name, "AnimStack", "")
            span = {"LocalStart": 0, "LocalStop": int(ticks[-1]), "ReferenceStart": 0, "ReferenceStop": int(ticks[-1])}
            record.properties([(key, "KTime", "Time", "", (Long(value),)) for key, value in span.items()])
            layer, _ = self._document.add("AnimationLayer", name, "AnimLayer", "")
            self._document.connect(layer, stack)
            angles = np.degrees(np.unwrap(np.radians(euler(clip.rotations.astype(np.float64))), axis=0))
            for joint, number in enumerate(self.numbers):
                self._add_curves(layer, number, "Lcl Rotation", ticks, angles[:, joint])
                self._add_curves(layer, number, "Lcl Translation", ticks, clip.translations[:, joint])

    def _add_curves(self, layer: int, joint: int, place: str, ticks: np.ndarray, values: np.ndarray) -> None:
        node, record = self._document.add("AnimationCurveNode", place[4], "AnimCurveNode", "")
        record.properties([(f"d|{axis}", "Number", "", "A", (float(values[0, at]),)) for at, axis in enumerate("XYZ")])
        self._document.connect(node, layer)
        self._document.connect(node, joint, place)
        for at, axis in enumerate("XYZ"):
            curve, record = self._document.add("AnimationCurve", "", "AnimCurve", "")
            record.add("Default", float(values[0, at]))
            record.add("KeyVer", 4008)
            record.add("KeyTime", ticks)
            record.add("KeyValueFloat", values[:, at].astype(np.float32))
            record.add("KeyAttrFlags", np.array([_LINEAR], np.int32))
            record.add("KeyAttrDataFloat", np.zeros(4, np.float32))
            record.add("KeyAttrRefCount", np.array([len(ticks)], np.int32))
            self._document.connect(curve, node, f"d|{axis}")


def euler(rotations: np.ndarray) -> np.ndarray:
    """Degrees [..., 3] about x, then y, then z, of quaternions [..., 4] (x, y, z, w)."""
    from scipy.spatial.transform import Rotation

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where two angles do the same turn, either will do
        turns = Rotation.from_quat(rotations.reshape(-1, 4)).as_euler("xyz", degrees=True)
    return turns.reshape(*rotations.shape[:-1], 3)
