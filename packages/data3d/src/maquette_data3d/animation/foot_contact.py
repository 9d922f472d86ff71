"""How well feet keep to the ground: what an animation's soles do while they stand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maquette.types import Mesh
from maquette_data3d.animation.body import Body
from maquette_data3d.animation.posing import skinned
from maquette_data3d.animation.retarget import Retargeted, poses_of, sampled


@dataclass(frozen=True)
class FootContact:
    """Shares of the body's height.

    Attributes:
        slide: the farthest that the middle of a standing sole is from where it stood on the average.
        depth: the deepest that any vertex of a sole is under the ground.
        hover: the highest that a standing sole's lowest vertex is over the ground.
    """

    slide: float
    depth: float
    hover: float


def foot_contact(mesh: Mesh, clip: Retargeted, between: int = 4) -> FootContact:
    """The contact of a clip that was made on the spot, at `between` times a frame, as a player shows it.

    A foot that stands goes back with the ground; that is taken out. Soles are vertices, moved by the mesh's own skin.
    """
    body, animation = clip.body, clip.animation
    frames = len(animation.times) - 1
    share = np.linspace(0.0, 1.0, frames * between + 1)
    poses = poses_of(mesh, sampled(animation, share * animation.times[-1]))
    slide = depth = hover = 0.0
    for number, sole in enumerate(body.soles):
        if not len(sole.vertices):
            continue
        points = skinned(mesh, poses, sole.vertices)
        points += (share * clip.travel)[:, None, None] * body.front
        depth = max(depth, body.ground - float(points[..., 1].min()))
        for rows in _stances(clip.motion.feet[number].stands, between):
            middle = points[rows].mean(1)
            # A stance that wraps around the end of the cycle goes on a cycle farther.
            middle += (rows < rows[0])[:, None] * clip.travel * body.front
            off = (middle - middle.mean(0)) * (1.0, 0.0, 1.0)
            slide = max(slide, float(np.linalg.norm(off, axis=1).max()))
            hover = max(hover, float(points[rows][..., 1].min(1).max()) - _standing_height(body, number))
    return FootContact(slide / body.height, max(depth, 0.0) / body.height, hover / body.height)


def _standing_height(body: Body, number: int) -> float:
    return float(body.soles[number].point[1])


def _stances(stands: np.ndarray, between: int) -> list[np.ndarray]:
    """Runs of sub-frames that lie between two frames in which a foot stands, in the order of time, around the end."""
    frames = len(stands)
    steady = np.repeat(stands & np.roll(stands, -1), between)
    if steady.all():
        return [np.arange(frames * between)]
    first = int(np.flatnonzero(~steady)[0])
    order = np.roll(np.arange(frames * between), -first)
    runs, run = [], []
    for row in order:
        if steady[row]:
            run.append(row)
        elif run:
            runs.append(np.array(run))
            run = []
    return [*runs, np.array(run)] if run else runs
