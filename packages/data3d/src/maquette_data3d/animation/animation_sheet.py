"""Pictures of a clip: the mesh in some of its frames, side by side."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from maquette.placement import into_unit_cube, moved
from maquette.types import Animation, Mesh
from maquette_data3d.animation.posing import skinned
from maquette_data3d.animation.retarget import poses_of, sampled
from maquette_data3d.rendering import Camera, render

_ROOM = 0.8  # of the mesh at rest: so that raised arms and jumps stay in the picture


def posed(mesh: Mesh, animation: Animation, time: float) -> Mesh:
    """The mesh at a time of its animation, without its skin; same vertices, faces and all else."""
    poses = poses_of(mesh, sampled(animation, np.array([time])))
    vertices = skinned(mesh, poses, np.arange(len(mesh.vertices)))[0]
    return replace(mesh, vertices=vertices.astype(np.float32), skin=None)


def animation_sheet(
    mesh: Mesh, animation: Animation, frames: int = 8, size: int = 192, camera: Camera | None = None
) -> np.ndarray:
    """uint8 [size, frames * size, 3]: pictures at even steps of the clip, all from one place."""
    camera = camera or Camera(azimuth=60.0, elevation=12.0, fit=0.6)
    times = np.linspace(0.0, float(animation.times[-1]), frames, endpoint=False)
    scale, offset = into_unit_cube(mesh)
    placed = (moved(posed(mesh, animation, float(time)), _ROOM * scale, _ROOM * offset) for time in times)
    return np.concatenate([render(now, size, camera, ground=False).rgb for now in placed], 1)
