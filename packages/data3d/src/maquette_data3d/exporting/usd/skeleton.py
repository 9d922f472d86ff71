"""Joints, weights and clips in UsdSkel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from maquette.types import Animation
from maquette_data3d.exporting.binding import Binding, checked
from maquette_data3d.exporting.usd.names import Names

_SKELETON = "/Asset/Skeleton"
_CLIPS = "/Asset/Clips"
TICKS = 24.0
"""Time codes a second, as films have them; keys lie between them where they must."""


def add_skeleton(stage: Any, binding: Binding) -> None:
    """The joints at rest, named by their paths."""
    from pxr import UsdSkel, Vt

    skeleton = UsdSkel.Skeleton.Define(stage, _SKELETON)
    skeleton.CreateJointsAttr(joint_paths(binding))
    skeleton.CreateJointNamesAttr([name.encode("utf-8", "replace").decode("utf-8") for name in binding.skeleton.names])
    skeleton.CreateBindTransformsAttr(Vt.Matrix4dArray.FromNumpy(_rows(binding.rest)))
    skeleton.CreateRestTransformsAttr(Vt.Matrix4dArray.FromNumpy(_rows(binding.local)))


def joint_paths(binding: Binding) -> list[str]:
    """The path of each joint through its parents, of identifiers."""
    names: dict[int, Names] = {}
    paths: list[str] = []
    for name, parent in zip(binding.skeleton.names, binding.skeleton.parents.tolist(), strict=True):
        own = names.setdefault(parent, Names()).identifier(name or "joint")
        paths.append(own if parent < 0 else f"{paths[parent]}/{own}")
    return paths


def bind(prim: Any, binding: Binding, vertices: np.ndarray) -> None:
    """Binds a mesh prim, whose points are these vertices, to the skeleton."""
    from pxr import Gf, UsdSkel, Vt

    found = UsdSkel.BindingAPI.Apply(prim.GetPrim())
    found.CreateSkeletonRel().SetTargets([_SKELETON])
    found.CreateGeomBindTransformAttr(Gf.Matrix4d(1.0))
    joints, weights = binding.joints[vertices], binding.weights[vertices]
    width = joints.shape[1]
    found.CreateJointIndicesPrimvar(False, width).Set(Vt.IntArray.FromNumpy(joints.reshape(-1).astype(np.int32)))
    found.CreateJointWeightsPrimvar(False, width).Set(Vt.FloatArray.FromNumpy(weights.reshape(-1).astype(np.float32)))


def add_clips(stage: Any, binding: Binding, clips: Sequence[Animation]) -> None:
    """A SkelAnimation a clip; the first moves the skeleton, and the stage lasts as long as the longest."""
    from pxr import UsdGeom, UsdSkel, Vt

    if not clips:
        return
    UsdGeom.Scope.Define(stage, _CLIPS)
    names, paths = Names(), joint_paths(binding)
    for place, clip in enumerate(map(checked, clips)):
        prim = UsdSkel.Animation(names.define(stage, UsdSkel.Animation, _CLIPS, clip.name or f"clip_{place}"))
        prim.CreateJointsAttr(paths)
        prim.CreateScalesAttr(Vt.Vec3hArray(len(paths), (1.0, 1.0, 1.0)))
        moves, turns = prim.CreateTranslationsAttr(), prim.CreateRotationsAttr()
        # Rotations of a joint follow each other the short way.
        rotations = _continuous(clip.rotations)
        for frame, time in enumerate(clip.times.astype(np.float64) * TICKS):
            moves.Set(Vt.Vec3fArray.FromNumpy(clip.translations[frame]), time)
            turns.Set(Vt.QuatfArray.FromNumpy(rotations[frame]), time)
        if place == 0:
            api = UsdSkel.BindingAPI.Apply(stage.GetPrimAtPath(_SKELETON))
            api.CreateAnimationSourceRel().SetTargets([prim.GetPath()])
    stage.SetTimeCodesPerSecond(TICKS)
    stage.SetFramesPerSecond(TICKS)
    stage.SetStartTimeCode(0.0)
    stage.SetEndTimeCode(max(float(clip.times[-1]) for clip in clips) * TICKS)


def _continuous(rotations: np.ndarray) -> np.ndarray:
    """Quaternions [T, J, 4] with signs such that each is the nearer one to the frame before."""
    turned = (rotations[1:] * rotations[:-1]).sum(-1) < 0
    signs = np.where(np.cumsum(turned, axis=0) % 2 == 1, np.float32(-1), np.float32(1))
    return np.concatenate([rotations[:1], rotations[1:] * signs[..., None]])


def _rows(matrices: np.ndarray) -> np.ndarray:
    """Matrices for row vectors, as USD has them."""
    return np.ascontiguousarray(matrices.transpose(0, 2, 1))
