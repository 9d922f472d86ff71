"""Clips onto skeletons: from a skinned mesh and the name of a clip to an animation of its joints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maquette.errors import MaquetteError
from maquette.types import Animation, Mesh
from maquette_data3d.animation.body import Body, skin_of
from maquette_data3d.animation.clips import Style, clip_named
from maquette_data3d.animation.motion import Motion
from maquette_data3d.animation.posing import Poser, Poses
from maquette_data3d.animation.roles import body_of
from maquette_data3d.animation.turning import continuous
from maquette_data3d.geometry.rigid import quaternions, rigid, to_parents, transforms

FRAMES = 2400  # the most of a clip


@dataclass(frozen=True)
class Retargeted:
    """A clip of one mesh.

    Attributes:
        animation: of the mesh's joints.
        motion: what it was made from, of all frames but the last.
        body: the roles that were found.
        travel: what the body goes forward in one cycle, in the mesh's units; 0 for clips on the spot.
        seconds: of the cycle.
        stride: share of the clip's stride that the body could take.
    """

    animation: Animation
    motion: Motion
    body: Body
    travel: float
    seconds: float
    stride: float


def retarget(
    mesh: Mesh, clip: str, *, fps: float = 30.0, style: Style | None = None, travels: bool = False
) -> Retargeted:
    """One cycle of a clip for a skinned mesh, y up.

    Args:
        clip: a name of `clips.CLIPS`.
        fps: frames a second; the last frame is the first again.
        travels: the root goes forward; otherwise the ground moves under it, as games want it.

    Raises:
        MaquetteError: no such clip, no skin, a body that lacks what the clip needs, or a number of frames that cannot
            be.
    """
    style = style or Style()
    body = body_of(mesh)
    entry = clip_named(clip, body)
    seconds = entry.seconds / style.speed
    frames = round(seconds * fps) if np.isfinite(fps) and fps > 0 else 0
    if not 2 <= frames <= FRAMES:
        raise MaquetteError(f"clip '{clip}' would have {frames} frames at {fps:g} a second; give fps from 5 to 240")
    phase = np.arange(frames) / frames
    motion, poser = entry.make(body, phase, style), Poser(mesh, body)
    stride = poser.fitted(motion)[0]
    travel = motion.travel * stride * body.reach
    poses = poser.poses(motion)
    whole = np.concatenate([np.arange(frames), [0]])
    poses = Poses(poses.turns[whole], poses.places[whole])
    if travels:
        way = np.linspace(0.0, travel, frames + 1)[:, None] * body.front
        poses = Poses(poses.turns, poses.places + way[:, None])
    times = np.arange(frames + 1) / frames * seconds
    return Retargeted(animation_of(mesh, clip, times, poses), motion, body, travel, seconds, stride)


def animation_of(mesh: Mesh, name: str, times: np.ndarray, poses: Poses) -> Animation:
    """Poses as turns and places of joints against their parents."""
    skeleton = skin_of(mesh).skeleton
    world = np.tile(rigid(np.asarray(skeleton.rest, np.float64)), (len(times), 1, 1, 1))
    world[..., :3, :3] = poses.turns @ world[..., :3, :3]
    world[..., :3, 3] = poses.places
    local = to_parents(world, skeleton.parents)
    turns = continuous(quaternions(local))
    return Animation(name, times.astype(np.float32), turns.astype(np.float32), local[..., :3, 3].astype(np.float32))


def poses_of(mesh: Mesh, animation: Animation) -> Poses:
    """The inverse of `animation_of`, for any animation of a mesh's joints: turns from rest, and places."""
    skeleton = skin_of(mesh).skeleton
    rest = rigid(np.asarray(skeleton.rest, np.float64))
    world = transforms(animation.rotations, animation.translations.astype(np.float64))
    for place, parent in enumerate(skeleton.parents):
        if parent >= 0:
            world[:, place] = world[:, parent] @ world[:, place]
    return Poses(world[..., :3, :3] @ rest[:, :3, :3].swapaxes(-1, -2), world[..., :3, 3])


def sampled(animation: Animation, times: np.ndarray) -> Animation:
    """An animation at other times, as players show it: places on a line, turns along the shortest arc."""
    from scipy.spatial.transform import Rotation, Slerp

    times = np.clip(np.asarray(times, np.float64), animation.times[0], animation.times[-1])
    keys = animation.times.astype(np.float64)
    turns = [Slerp(keys, Rotation.from_quat(q))(times).as_quat() for q in animation.rotations.swapaxes(0, 1)]
    places = animation.translations.reshape(len(keys), -1)
    moved = np.stack([np.interp(times, keys, values) for values in places.T], 1).reshape(len(times), -1, 3)
    return Animation(
        animation.name, times.astype(np.float32), np.stack(turns, 1).astype(np.float32), moved.astype(np.float32)
    )
