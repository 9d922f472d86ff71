"""Joints find their roles by name and, where names say nothing, by shape."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from maquette.errors import MaquetteError
from maquette.types import Mesh, Skeleton, Skin
from maquette_data3d.animation.joint_names import meaning
from maquette_data3d.animation.roles import body_of


@pytest.mark.parametrize(
    ("name", "part", "side", "limb"),
    [
        ("mixamorig:LeftUpLeg", "upper leg", "left", ""),
        ("mixamorig:RightLeg", "leg", "right", ""),
        ("LeftForeArm", "lower arm", "left", ""),
        ("LeftArm", "arm", "left", ""),
        ("upperarm.l", "upper arm", "left", ""),
        ("LowerLeg.R", "lower leg", "right", ""),
        ("BackLowLeg.L", "lower leg", "left", "hind"),
        ("FrontFoot.R", "foot", "right", "front"),
        ("calf_l", "lower leg", "left", ""),
        ("thigh_r", "upper leg", "right", ""),
        ("left hind shin", "lower leg", "left", "hind"),
        ("Spine2", "spine", "", ""),
        ("Tail3", "tail", "", ""),
        ("kneeIK.l", "helper", "left", ""),
        ("PoleTarget.L", "helper", "left", ""),
        ("HeadTop_End", "helper", "", ""),
        ("Bone.012", "", "", ""),
    ],
)
def test_names(name, part, side, limb):
    said = meaning(name)
    assert (said.part, said.side, said.limb) == (part, side, limb)


def renamed(mesh: Mesh, names) -> Mesh:
    skeleton = mesh.skin.skeleton
    return replace(mesh, skin=replace(mesh.skin, skeleton=Skeleton(tuple(names), skeleton.parents, skeleton.rest)))


def turned(mesh: Mesh, quarters: int) -> Mesh:
    """The mesh turned about the vertical."""
    angle = np.pi / 2 * quarters
    turn = np.eye(4)
    turn[:3, :3] = [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    skeleton = mesh.skin.skeleton
    rest = turn @ skeleton.rest
    skin = replace(mesh.skin, skeleton=Skeleton(skeleton.names, skeleton.parents, rest))
    return replace(mesh, vertices=(mesh.vertices @ turn[:3, :3].T).astype(np.float32), skin=skin)


@pytest.mark.parametrize(
    ("kind", "legs", "arms"), [("biped", 2, 2), ("creature", 4, 0), ("bird", 2, 0), ("fish", 0, 0)]
)
def test_creatures_have_the_limbs_they_were_made_with(creatures, kind, legs, arms):
    for index in range(3):
        mesh = creatures(kind, index)
        body = body_of(mesh)
        names = mesh.skin.skeleton.names
        assert (len(body.legs), len(body.arms)) == (legs, arms)
        assert np.allclose(body.front, (0, 0, 1), atol=1e-6) or kind == "fish"
        for limb in (*body.legs, *body.arms):
            assert ("left" in names[limb.upper]) == (limb.side == 1)
        for leg in body.legs:
            assert ("front" in names[leg.upper]) == (leg.along > 0.5)
        assert all(abs(sole.point[1] - mesh.vertices[:, 1].min()) < 0.06 * body.height for sole in body.soles)


@pytest.mark.parametrize("kind", ["biped", "creature", "bird"])
def test_shape_tells_what_names_do(creatures, kind):
    """The same legs are found when no joint has a telling name, whichever way the thing faces."""
    found, told = [], []
    for index in range(4):
        mesh = creatures(kind, index)
        by_name = body_of(mesh)
        nameless = renamed(mesh, [f"Bone.{n:03d}" for n in range(len(mesh.skin.skeleton.names))])
        for quarters in (0, 1):
            body = body_of(turned(nameless, quarters))
            told.append({(leg.upper, leg.lower, leg.side) for leg in by_name.legs})
            found.append({(leg.upper, leg.lower, leg.side) for leg in body.legs})
            front = (0, 0, 1) if quarters == 0 else (1, 0, 0)
            assert np.allclose(body.front, front, atol=0.1), (index, quarters)
    assert found == told


def test_feet_that_hang_on_the_root_are_found():
    """As many game rigs have it: the foot follows a target, not the shin."""
    names = ("Root", "Foot.L", "Foot.R", "Body", "UpperLeg.L", "LowerLeg.L", "UpperLeg.R", "LowerLeg.R", "PoleTarget.L")
    places = [(0, 0, 0), (0.1, 0.05, 0), (-0.1, 0.05, 0), (0, 1, 0), (0.1, 0.9, 0), (0.1, 0.5, 0.05), (-0.1, 0.9, 0)]
    places += [(-0.1, 0.5, 0.05), (0.1, 0.5, 1)]
    rest = np.tile(np.eye(4), (len(names), 1, 1))
    rest[:, :3, 3] = places
    skeleton = Skeleton(names, np.array([-1, 0, 0, 0, 3, 4, 3, 6, 0], np.int32), rest)
    points = [(0.1, 0, 0.1), (-0.1, 0, 0.1), (0, 1.5, 0), (0.1, 0.7, 0), (0.1, 0.3, 0), (-0.1, 0.7, 0), (-0.1, 0.3, 0)]
    held = np.array([1, 2, 3, 4, 5, 6, 7])[:, None]
    skin = Skin(skeleton, held, np.ones((7, 1), np.float32))
    body = body_of(Mesh(np.array(points), np.array([[0, 1, 2]]), skin=skin))
    assert {(leg.upper, leg.lower, leg.end, leg.side) for leg in body.legs} == {(4, 5, 1, 1), (6, 7, 2, -1)}
    assert body.movers == (3,) and np.allclose(body.front, (0, 0, 1))


def test_no_skin_is_said(creatures):
    with pytest.raises(MaquetteError, match="no skeleton; rig it first"):
        body_of(replace(creatures("biped", 0), skin=None))
    mesh = creatures("biped", 0)
    loose = replace(mesh.skin, weights=np.zeros_like(mesh.skin.weights))
    with pytest.raises(MaquetteError, match="moves none of its vertices"):
        body_of(replace(mesh, skin=loose))
