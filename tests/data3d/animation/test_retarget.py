"""Clips on skeletons: feet stay on the ground, limbs point where the clip says whatever the rest pose, loops close."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maquette import plugins
from maquette.assets import import_asset
from maquette.cli import cli, run
from maquette.errors import MaquetteError
from maquette.types import Mesh, Request, Skeleton, Skin
from maquette_data3d.animation.clips import CLIPS
from maquette_data3d.animation.foot_contact import foot_contact
from maquette_data3d.animation.posing import skinned
from maquette_data3d.animation.retarget import poses_of, retarget

SLIDE, DEPTH = 0.01, 0.01  # of the height: what feet may slide, and be under the ground
REAL = (
    "animated-men-characters/male-shirt",  # Quaternius: feet hang on the root
    "adventurers/knight",  # KayKit, Blender's names
    "fruit-characters-animated/peach",  # Mixamo's names
    "man-animated/animated-human",  # stands askew in the middle of a step
    "farm-animals-animated/cow",
    "animal-pack-vol-2/cat",  # no names, faces +x, stands in the middle of a step
    "dinosaur-animated-pack/velociraptor",  # forelegs in the air
    "monster-pack-animated/skeleton",  # arms are called legs, no feet
)


@pytest.mark.parametrize("kind", ["biped", "creature", "bird"])
@pytest.mark.parametrize("clip", ["walk", "run", "idle", "jump", "sit"])
def test_feet_of_creatures_keep_to_the_ground(creatures, kind, clip):
    for index in range(2):
        mesh = creatures(kind, index)
        contact = foot_contact(mesh, retarget(mesh, clip))
        assert contact.slide < SLIDE and contact.depth < DEPTH and contact.hover < 0.02, (index, contact)


@pytest.mark.parametrize("name", REAL)
def test_feet_of_real_characters_keep_to_the_ground(real_models, name):
    mesh = import_asset(real_models / "models" / f"{name}.glb").mesh
    for clip in ("walk", "run"):
        made = retarget(mesh, clip)
        contact = foot_contact(mesh, made)
        assert contact.slide < SLIDE and contact.depth < DEPTH, contact
        assert made.travel > 0.1 * made.body.reach and made.stride > 0.5
    assert len(made.body.legs) == (4 if name.endswith(("cow", "cat")) else 2)


def test_a_foot_that_slides_is_seen(creatures):
    """The measure itself: a clip that walks at another speed than it says."""
    mesh = creatures("biped", 0)
    made = retarget(mesh, "walk")
    assert foot_contact(mesh, replace(made, travel=0.8 * made.travel)).slide > 2 * SLIDE
    sunk = replace(made.animation, translations=made.animation.translations - np.float32([0, 0.05, 0]))
    assert foot_contact(mesh, replace(made, animation=sunk)).depth > 2 * DEPTH


@pytest.mark.parametrize("kind", ["biped", "creature", "fish"])
def test_cycles_close_exactly(creatures, kind):
    mesh = creatures(kind, 0)
    for clip in CLIPS:
        try:
            animation = retarget(mesh, clip).animation
        except MaquetteError:
            continue
        assert (animation.translations[0] == animation.translations[-1]).all()
        turn = (animation.rotations[0] * animation.rotations[-1]).sum(-1)
        assert np.abs(np.abs(turn) - 1).max() < 1e-6
        assert (animation.times[0], animation.times[-1]) == (0, np.float32(CLIPS[clip].seconds))
        lengths = np.linalg.norm(animation.rotations, axis=-1)
        assert np.abs(lengths - 1).max() < 1e-5 and (np.diff(animation.times) > 0).all()


def test_who_travels_goes_as_far_as_it_says(creatures):
    mesh = creatures("biped", 1)
    still, going = retarget(mesh, "walk"), retarget(mesh, "walk", travels=True)
    way = poses_of(mesh, going.animation).places - poses_of(mesh, still.animation).places
    assert np.allclose(way[-1] - way[0], going.travel * going.body.front, atol=1e-5)
    assert np.ptp(way, axis=1).max() < 1e-5, "all joints go together"


def test_bones_keep_their_lengths_and_unknown_ones_their_place(creatures):
    mesh = creatures("biped", 0)
    animation, body = retarget(mesh, "run").animation, retarget(mesh, "run").body
    places, parents = poses_of(mesh, animation).places, mesh.skin.skeleton.parents
    child = np.flatnonzero(parents >= 0)
    lengths = np.linalg.norm(places[:, child] - places[:, parents[child]], axis=-1)
    rest = np.linalg.norm(body.positions[child] - body.positions[parents[child]], axis=-1)
    assert np.abs(lengths - rest).max() < 1e-5


def with_arms(angle: float, scale: float = 1.0) -> Mesh:
    """A figure of bones whose arms are lowered by an angle from level, with joints whose axes are turned and scaled."""
    names = ["Hips", "Chest", "Head"]
    parents, places = [-1, 0, 1], [(0, 1, 0), (0, 1.4, 0), (0, 1.7, 0)]
    down, out = np.sin(np.radians(angle)), np.cos(np.radians(angle))
    for side, x in (("Left", 1), ("Right", -1)):
        first = len(names)
        names += [f"{side}{part}" for part in ("UpLeg", "Leg", "Foot", "Arm", "ForeArm", "Hand")]
        parents += [0, first, first + 1, 1, first + 3, first + 4]
        places += [(0.12 * x, 0.95, 0), (0.12 * x, 0.5, 0.02), (0.12 * x, 0.08, 0)]
        places += [(x * (0.2 + r * out), 1.4 - r * down, 0) for r in (0, 0.3, 0.55)]
    rest = np.tile(np.eye(4), (len(names), 1, 1))
    rng = np.random.default_rng(0)
    for joint in rest:
        joint[:3, :3] = scale * np.linalg.qr(rng.normal(size=(3, 3)))[0]
        joint[:3, :3] *= np.sign(np.linalg.det(joint[:3, :3]))
    rest[:, :3, 3] = places
    soles = [(x * 0.12, 0.0, z) for x in (1, -1) for z in (-0.05, 0.15)]
    vertices = np.array([*places, *soles, (0, 1.9, 0)])
    feet = [names.index(f"{side}Foot") for side in ("Left", "Left", "Right", "Right")]
    held = np.array([*range(len(names)), *feet, 2])[:, None]
    skeleton = Skeleton(tuple(names), np.array(parents, np.int32), rest)
    return Mesh(vertices, np.array([[0, 1, 2]]), skin=Skin(skeleton, held, np.ones((len(held), 1), np.float32)))


@settings(deadline=None, max_examples=8, suppress_health_check=list(HealthCheck))
@given(st.floats(-20, 85), st.sampled_from([1.0, 100.0]), st.sampled_from(["walk", "wave", "idle"]))
def test_rest_poses_make_no_difference(angle, scale, clip):
    """T-pose or A-pose, axes turned and scaled: hands, knees and heads go the same way."""
    one, other = with_arms(0.0), with_arms(angle, scale)
    places = [
        skinned(mesh, poses_of(mesh, retarget(mesh, clip).animation), np.arange(len(mesh.vertices)))
        for mesh in (one, other)
    ]
    assert np.abs(places[0] - places[1]).max() < 1e-4


def test_waving_raises_the_right_hand():
    mesh = with_arms(45.0)
    places = poses_of(mesh, retarget(mesh, "wave").animation).places
    names = mesh.skin.skeleton.names
    right, left, elbow = (places[:, names.index(name)] for name in ("RightHand", "LeftHand", "RightForeArm"))
    assert (right[:, 1] > elbow[:, 1] + 0.15).all() and (right[:, 1] > 1.5).all() and (left[:, 1] < 1.1).all()
    assert np.ptp(right[:, 0]) > 0.1 and np.ptp(left[:, 0]) < 0.05


def test_pipeline_gives_several_clips_and_says_what_is_wrong(creatures):
    pipeline = plugins.build("pipelines", {"name": "animate", "fps": 20})
    mesh = creatures("creature", 0)
    asset = pipeline(Request(mesh=mesh, options={"clip": "walk, idle", "stride": 0.5}))
    assert [clip.name for clip in asset.animations] == ["walk", "idle"] and asset.mesh is mesh
    told = asset.metadata["animations"]["walk"]
    assert told["frames"] == len(asset.animations[0].times) == 23 and told["in_place"] and told["legs"] == 4
    for options, words in (({"clip": "fly"}, "fly"), ({"speeed": 2}, "speeed"), ({"fps": "x"}, "must be a number")):
        with pytest.raises(MaquetteError, match=words):
            pipeline(Request(mesh=mesh, options=options))
    failed, made = pipeline.batch([Request(mesh=replace(mesh, skin=None)), Request(mesh=mesh)])
    assert "rig it first" in str(failed) and made.animations[0].name == "walk"
    with pytest.raises(MaquetteError, match="frames"):
        pipeline(Request(mesh=mesh, options={"fps": float("nan")}))


def test_command_writes_clips_and_a_sheet(creatures, tmp_path, capsys):
    from PIL import Image

    from maquette.assets import export
    from maquette.types import Asset

    export(Asset(creatures("biped", 0)), tmp_path / "in.glb")
    words = ["--clip", "walk", "--clip", "wave", "--out", str(tmp_path / "out.glb"), "--sheet", str(tmp_path / "s.png")]
    assert run(cli, ["animate", str(tmp_path / "in.glb"), *words, "fps=15"], standalone_mode=False) == 0
    back = import_asset(tmp_path / "out.glb")
    assert [clip.name for clip in back.animations] == ["walk", "wave"]
    wanted = retarget(import_asset(tmp_path / "in.glb").mesh, "walk", fps=15)
    shown, kept = (poses_of(back.mesh, clip).places for clip in (back.animations[0], wanted.animation))
    assert np.abs(shown - kept).max() < 1e-4
    rows = np.asarray(Image.open(tmp_path / "s.png").convert("RGB"), np.int16)
    assert rows.shape == (2 * 192, 8 * 192, 3) and np.abs(rows[:192, :192] - rows[:192, 384:576]).max() > 40
    assert run(cli, ["animate", "--list"], standalone_mode=False) == 0
    assert "walk" in capsys.readouterr().out
