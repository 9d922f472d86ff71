"""A clip as numbers: what trunk, arms and feet of any body do over time, in the body's own axes and sizes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class ArmMotion:
    """Where the two bones of an arm point, degrees [T] each: `swing` from straight down to the front, `spread` from
    there outwards; `lower_...` the same of the forearm."""

    swing: np.ndarray
    spread: np.ndarray
    lower_swing: np.ndarray
    lower_spread: np.ndarray


@dataclass(frozen=True)
class FootMotion:
    """The way of one foot.

    Attributes:
        path: float64 [T, 3], to the left, up and to the front of where it stands at rest, in lengths of a leg.
        pitch: degrees [T] that the toes point down, about the sole.
        stands: bool [T]: it carries weight, and stays where it is on the ground (moving back with the ground in a clip
            that goes forward).
    """

    path: np.ndarray
    pitch: np.ndarray
    stands: np.ndarray


@dataclass(frozen=True)
class Motion:
    """What a body does in T frames.

    Attributes:
        offset: float64 [T, 3] of the hips to the left, up and to the front, in lengths of a leg.
        tilt: degrees [T, 3] of the whole trunk: forwards, to the left about the vertical, onto its right side.
        turns: degrees [T, 3] by part of the trunk, as `tilt`; its joints share it.
        arms: by side, 1 the left one; sides that are not there keep their pose.
        feet: one a leg of the body.
        travel: what the body goes forward in the T frames, in lengths of a leg; foot paths are as if the ground moved.
    """

    offset: np.ndarray
    tilt: np.ndarray
    turns: dict[str, np.ndarray] = field(default_factory=dict)
    arms: dict[int, ArmMotion] = field(default_factory=dict)
    feet: tuple[FootMotion, ...] = ()
    travel: float = 0.0


def planted(frames: int, path: np.ndarray | None = None) -> FootMotion:
    """A foot that stands still, or goes along a path without a turn and does not stand where it is off its place."""
    moves = np.zeros((frames, 3)) if path is None else path
    return FootMotion(moves, np.zeros(frames), np.abs(moves).max(1) < 1e-9)


def columns(*values: np.ndarray | float) -> np.ndarray:
    """Numbers or arrays [T] side by side: [T, n]."""
    return np.stack(np.broadcast_arrays(*values), -1).astype(np.float64)
