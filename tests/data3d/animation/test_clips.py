"""Clips are periodic, smooth, and keep their feet where a standing foot is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maquette.errors import MaquetteError
from maquette_data3d.animation.clips import CLIPS, Style, clip_named
from maquette_data3d.animation.gaits import Gait
from maquette_data3d.animation.roles import body_of

SHARES = st.floats(0.05, 0.95)


@pytest.fixture(scope="module")
def bodies(creatures):
    return {name: body_of(creatures(name, 0)) for name in ("biped", "creature", "fish")}


def able(body):
    for name, clip in CLIPS.items():
        try:
            clip_named(name, body)
        except MaquetteError:
            continue
        yield name, clip


def values(motion):
    yield from (motion.offset, motion.tilt, *motion.turns.values())
    yield from (part for arm in motion.arms.values() for part in (arm.swing, arm.spread, arm.lower_swing))
    yield from (part for foot in motion.feet for part in (foot.path, foot.pitch))


def test_each_body_can_do_what_it_has_limbs_for(bodies):
    assert {name for name, _ in able(bodies["biped"])} == set(CLIPS), "it has a spine to swim with"
    assert {"walk", "run", "wave", "sit"} <= {name for name, _ in able(bodies["creature"])}
    assert {name for name, _ in able(bodies["fish"])} == {"idle", "swim"}


@pytest.mark.parametrize("name", ["biped", "creature", "fish"])
def test_the_end_of_a_cycle_is_its_beginning(bodies, name):
    for clip_name, clip in able(bodies[name]):
        near = clip.make(bodies[name], np.array([0.0, 1.0 - 1e-6]), Style())
        for part in values(near):
            assert np.abs(part[0] - part[1]).max() < 1e-3, clip_name


@pytest.mark.parametrize("name", ["biped", "creature", "fish"])
def test_nothing_jumps_between_frames(bodies, name):
    """At ten times the frames a step is a tenth as long; a jump would stay."""
    for clip_name, clip in able(bodies[name]):
        coarse, fine = (
            max(np.abs(np.diff(part, axis=0)).max() for part in values(clip.make(bodies[name], phase, Style())))
            for phase in (np.linspace(0, 1, 101), np.linspace(0, 1, 1001))
        )
        assert fine < 0.2 * coarse, clip_name


@given(SHARES, st.floats(0.1, 2), st.floats(0, 1), st.floats(0, 1))
def test_a_standing_foot_goes_back_with_the_ground(duty, stride, first, second):
    gait = Gait(duty, stride, 0.2, 20.0)
    one, other = gait.foot(np.array([first])), gait.foot(np.array([second]))
    if one.stands[0] and other.stands[0]:
        moved = other.path[0, 2] - one.path[0, 2] + gait.travel * (second - first)
        assert abs(moved) < 1e-9 * max(1, gait.travel)
        assert one.path[0, 1] == one.pitch[0] == 0
    assert 0 <= one.path[0, 1] <= 0.2


@given(SHARES)
def test_feet_lift_off_and_land_at_the_speed_of_the_ground(duty):
    gait, step = Gait(duty, 1.0, 0.2, 20.0), 1e-5 * min(duty, 1 - duty)
    for change in (0.0, duty):
        before, after = (gait.foot(np.array([(change + at * step) % 1 for at in pair])) for pair in ((-2, -1), (1, 2)))
        speeds = [np.diff(foot.path, axis=0)[0] / step for foot in (before, after)]
        assert np.abs(speeds[0] - speeds[1]).max() < 1e-2 / min(duty, 1 - duty)


def test_walkers_always_stand_and_runners_fly(bodies):
    phase = np.linspace(0, 1, 200, endpoint=False)
    standing = {
        name: np.sum([foot.stands for foot in CLIPS[name].make(bodies["biped"], phase, Style()).feet], axis=0)
        for name in ("walk", "run")
    }
    assert standing["walk"].min() == 1 and standing["run"].min() == 0
    four = np.sum([foot.stands for foot in CLIPS["walk"].make(bodies["creature"], phase, Style()).feet], axis=0)
    assert four.min() >= 2, "four legs never stand on one"


def test_clips_tell_what_they_lack(bodies):
    with pytest.raises(MaquetteError, match=r"'walk' needs a pair of legs .* it can"):
        clip_named("walk", bodies["fish"])
    with pytest.raises(MaquetteError, match="wlak"):
        clip_named("wlak", bodies["biped"])
    with pytest.raises(MaquetteError, match="speed"):
        Style(speed=0)
