"""The library of clips: functions of the phase, made here, that hold for any body.

All are exactly periodic: the last of N + 1 frames is the first again, but for the way that was gone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from maquette.errors import MaquetteError, unknown_name
from maquette_data3d.animation.body import Body
from maquette_data3d.animation.gaits import Gait
from maquette_data3d.animation.motion import ArmMotion, FootMotion, Motion, columns, planted

TAU = 2 * np.pi
HANGING = 7.0  # degrees that arms hang away from straight down


@dataclass(frozen=True)
class Style:
    """What can be set: `speed` of the clock, `stride` and `lift` of the feet, `swing` of arms and trunk, 1 each."""

    speed: float = 1.0
    stride: float = 1.0
    lift: float = 1.0
    swing: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.speed <= 10 or not all(0 <= value <= 3 for value in (self.stride, self.lift, self.swing)):
            raise MaquetteError("a clip's speed must be above 0 and at most 10; stride, lift and swing from 0 to 3")


@dataclass(frozen=True)
class Clip:
    """`make(body, phase, style)` gives the motion at phases float64 [T] in [0, 1); a cycle takes `seconds`. `needs` is
    what a body must have: "legs", "arms" (or four legs) or "tail" (or spine)."""

    make: Callable[[Body, np.ndarray, Style], Motion]
    seconds: float
    needs: str = ""

    @property
    def words(self) -> str:
        """What it shows, in a line."""
        return " ".join((self.make.__doc__ or "").split())


def walk(body: Body, phase: np.ndarray, style: Style) -> Motion:
    """At an easy pace; four legs take turns one by one."""
    gait = Gait(0.62, 0.62, 0.14, 20.0) if len(body.legs) == 2 else Gait(0.68, 0.5, 0.16, 12.0)
    return _going(body, phase, style, gait, bob=0.016, lean=2.0, arm=24.0, elbow=16.0)


def run(body: Body, phase: np.ndarray, style: Style) -> Motion:
    """With both feet off the ground between steps; four legs trot, in diagonal pairs."""
    two = len(body.legs) == 2
    gait = Gait(0.36, 0.8, 0.34, 38.0) if two else Gait(0.42, 0.62, 0.28, 25.0, lag=0.5)
    return _going(body, phase, style, gait, bob=0.05 if two else 0.03, lean=9.0 if two else 2.0, arm=38.0, elbow=80.0)


def _going(body: Body, phase: np.ndarray, style: Style, gait: Gait, **size: float) -> Motion:
    """A gait with the trunk and the arms that go with it."""
    gait = replace(gait, stride=gait.stride * style.stride, lift=gait.lift * style.lift)
    once, twice = TAU * phase, 2 * TAU * phase
    # The left foot touches down at phase 0 and bears the body at half its stance. Walkers are highest then, and who
    # runs half way between two steps.
    over = np.cos(once - np.pi * gait.duty)
    highest = gait.duty / 2 if gait.duty > 0.5 else (gait.duty + 0.5) / 2
    two, swing = len(body.legs) == 2, style.swing
    offset = columns(0.035 * two * over, size["bob"] * (np.cos(2 * TAU * (phase - highest)) - 1), 0.0)
    roll, yaw = 2.0 * two * swing * over, (5.0 if two else 2.0) * swing * np.cos(once)
    tilt = columns(size["lean"], -yaw, -roll)
    turns = {
        "spine": columns(1.5 * np.sin(twice), 2 * yaw, 1.4 * roll),
        "neck": columns(-0.5 * size["lean"], -0.5 * yaw, -0.2 * roll),
        "head": columns(-0.5 * size["lean"], -0.5 * yaw, -0.2 * roll),
        "tail": columns(3 * np.sin(twice), 14 * swing * np.sin(once), 0.0),
    }
    arms = {}
    for side in (1, -1):
        forward = -side * np.cos(once)  # against the leg of its side
        swung = size["arm"] * swing * forward
        bent = swung + size["elbow"] * (1 + 0.25 * forward)
        arms[side] = ArmMotion(swung, _still(phase, HANGING), bent, _still(phase, 0.5 * HANGING))
    return Motion(offset, tilt, turns, arms, gait.feet(phase, body.legs), gait.travel)


def idle(body: Body, phase: np.ndarray, style: Style) -> Motion:
    """Standing, breathing, looking about."""
    once, twice = TAU * phase, 2 * TAU * phase
    swing = style.swing
    breath = np.sin(twice)
    turns = {
        "spine": columns(-1.5 * swing * breath, 1.5 * swing * np.sin(once), 0.0),
        "neck": columns(0.7 * swing * breath, 3 * swing * np.sin(once), 0.0),
        "head": columns(0.8 * swing * breath, 6 * swing * np.sin(once), 1.5 * swing * np.sin(once)),
        "tail": columns(2 * swing * breath, 10 * swing * np.sin(twice), 0.0),
    }
    spread = HANGING + swing * (1 + breath)
    arm = ArmMotion(1.5 * swing * breath, spread, 10 + 2 * swing * breath, 0.5 * spread)
    offset = columns(0.012 * swing * np.sin(once), -0.012 - 0.006 * swing * breath, 0.0)
    return Motion(
        offset, columns(phase * 0, 0.0, 0.6 * swing * np.sin(once)), turns, {1: arm, -1: arm}, _stand(body, phase)
    )


def wave(body: Body, phase: np.ndarray, style: Style) -> Motion:
    """The right hand raised and waving; who has four legs and no arms lifts a forefoot."""
    still = idle(body, phase, style)
    sway = np.sin(2 * TAU * phase) * style.swing
    turns = {**still.turns, "head": still.turns["head"] + columns(0.0, -4.0, 5 + 2 * sway)}
    if body.arms:
        arm = ArmMotion(_still(phase, 25.0), _still(phase, 82.0), _still(phase, 15.0), 165 + 24 * sway)
        return replace(still, arms={**still.arms, -1: arm}, turns=turns)
    raised = max((p for p, leg in enumerate(body.legs) if leg.side < 0), key=lambda p: body.legs[p].along)
    feet = list(still.feet)
    path = columns(0.0, 0.42 + 0.07 * sway, 0.3 + 0.03 * sway)
    feet[raised] = FootMotion(path, 25 + 15 * sway, np.zeros(len(phase), bool))
    return replace(still, turns=turns, feet=tuple(feet), offset=still.offset + columns(phase * 0 + 0.06, -0.02, -0.04))


def jump(body: Body, phase: np.ndarray, style: Style) -> Motion:
    """Down, up into the air, and down again, on the spot."""
    flight = np.clip((phase - 0.4) / 0.3, 0.0, 1.0)
    air = 4 * flight * (1 - flight) * 0.45 * style.lift
    crouch = 0.24 * (_hump(phase, 0.05, 0.4) + 0.8 * _hump(phase, 0.7, 0.98))
    offset = columns(0.0, air - crouch - 0.015, -0.12 * crouch)
    feet = tuple(
        FootMotion(columns(0.0, air * 1.05, 0.0), 28 * np.sin(np.pi * flight) ** 2, air <= 0) for _ in body.legs
    )
    lean = (30 if len(body.legs) == 2 else 6) * crouch / 0.24
    turns = {
        "spine": columns(0.3 * lean, 0.0, 0.0),
        "head": columns(-0.6 * lean, 0.0, 0.0),
        "tail": columns(60 * air - 20 * crouch, 0.0, 0.0),
    }
    thrown = -45 * _hump(phase, 0.02, 0.38) + 115 * _hump(phase, 0.3, 0.82)
    arm = ArmMotion(style.swing * thrown, _still(phase, 2 * HANGING), style.swing * thrown + 25, _still(phase, HANGING))
    return Motion(offset, columns(0.5 * lean, 0.0, 0.0), turns, {1: arm, -1: arm}, feet)


def sit(body: Body, phase: np.ndarray, style: Style) -> Motion:
    """Down onto its haunches, a while there, and up again."""
    down = _smooth(np.clip(phase / 0.3, 0, 1)) * (1 - _smooth(np.clip((phase - 0.7) / 0.3, 0, 1)))
    two = len(body.legs) == 2
    offset = columns(0.0, -0.015 - (0.45 if two else 0.22) * down, -(0.3 if two else 0.05) * down)
    lean = (22.0 if two else -17.0) * down
    turns = {
        "spine": columns(0.3 * lean if two else 0.0 * down, 0.0, 0.0),
        "neck": columns(-0.4 * lean, 0.0, 0.0),
        "head": columns(-0.6 * lean, 0.0, 0.0),
        "tail": columns(0.0 * down, 10 * np.sin(2 * TAU * phase) * down, 0.0),
    }
    arm = ArmMotion(55 * down, _still(phase, HANGING), 10 + 65 * down, _still(phase, 0.5 * HANGING))
    return Motion(offset, columns(lean, 0.0, 0.0), turns, {1: arm, -1: arm}, _stand(body, phase))


def swim(body: Body, phase: np.ndarray, style: Style) -> Motion:
    """A wave along spine and tail, from side to side."""
    once = TAU * phase
    turns = {
        "head": columns(0.0, -8 * style.swing * np.sin(once + 0.6), 0.0),
        "spine": columns(0.0, 18 * style.swing * np.sin(once), 0.0),
        "tail": columns(0.0, 38 * style.swing * np.sin(once - 1.1), 0.0),
    }
    offset = columns(0.02 * np.sin(once), 0.01 * np.sin(2 * once), 0.0)
    return Motion(offset, columns(0.0, -5 * style.swing * np.sin(once), 0.0), turns, {}, _stand(body, phase))


CLIPS: dict[str, Clip] = {
    "walk": Clip(walk, 1.1, "legs"),
    "run": Clip(run, 0.7, "legs"),
    "idle": Clip(idle, 4.0),
    "wave": Clip(wave, 2.0, "arms"),
    "jump": Clip(jump, 1.4, "legs"),
    "sit": Clip(sit, 4.0, "legs"),
    "swim": Clip(swim, 1.2, "tail"),
}


def clip_named(name: str, body: Body) -> Clip:
    """A clip that a body can do.

    Raises:
        MaquetteError: no such clip, or the body lacks what it needs.
    """
    if name not in CLIPS:
        raise unknown_name("clip", name, CLIPS)
    clip = CLIPS[name]
    has = {
        "legs": bool(body.legs),
        "arms": bool(body.arms) or len(body.legs) >= 4,
        "tail": bool(body.trunk["tail"] or body.trunk["spine"]),
        "": True,
    }
    if not has[clip.needs]:
        able = [other for other, entry in CLIPS.items() if has[entry.needs]]
        lacks = {"legs": "pair of legs that reach the ground", "arms": "pair of arms", "tail": "spine or tail"}
        raise MaquetteError(f"clip '{name}' needs a {lacks[clip.needs]}, and the skeleton has none; it can {able}")
    return clip


def _stand(body: Body, phase: np.ndarray) -> tuple[FootMotion, ...]:
    return tuple(planted(len(phase)) for _ in body.legs)


def _still(phase: np.ndarray, value: float) -> np.ndarray:
    return np.full(len(phase), value)


def _smooth(share: np.ndarray) -> np.ndarray:
    return share * share * share * (10 - 15 * share + 6 * share * share)


def _hump(phase: np.ndarray, start: float, stop: float) -> np.ndarray:
    """0 outside (start, stop), rising to 1 half way and falling again, smoothly."""
    return np.sin(np.pi * np.clip((phase - start) / (stop - start), 0.0, 1.0)) ** 2
