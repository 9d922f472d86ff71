"""Roles of joints by the names that tools and artists give them."""

from __future__ import annotations

import numpy as np
import pytest

from maquette import plugins
from maquette_data3d import sample_shape
from maquette_data3d.features.shape_subject import ShapeSubject
from maquette_data3d.joint_roles import ROLES, role_of

NAMES = {
    "mixamo": {
        "Hips": "pelvis", "Spine": "spine", "LeftShoulder": "left shoulder", "LeftArm": "left upper arm",
        "LeftForeArm": "left forearm", "RightHandIndex2": "right hand", "RightUpLeg": "right thigh",
        "RightLeg": "right shin", "LeftToeBase": "left foot", "HeadTop_End": "other",
    },
    "blender": {"upperarm.l": "left upper arm", "lowerarm.r": "right forearm", "kneeIK.l": "other", "hips": "pelvis"},
    "quaternius": {
        "FrontUpLeg.R": "right front shin", "BackLeg.L": "left hind thigh", "Tail3": "tail", "Foot.L": "left foot",
        "LowerArm.L": "left forearm", "Shoulders": "chest", "PoleTarget.L": "other", "L.UpperLeg": "left thigh",
    },
    "plain": {"Bone.004": "other", "": "other", "TankTrack5.L": "other", "left wing": "left wing"},
}  # fmt: skip


@pytest.mark.parametrize("convention", NAMES)
def test_names(convention: str) -> None:
    assert {name: role_of(name) for name in NAMES[convention]} == NAMES[convention]


@pytest.mark.parametrize("index", range(4))
def test_procedural_creatures_have_a_role_for_each_joint(index: int) -> None:
    feature = plugins.build("features", {"name": "skeleton", "roles": True})
    subject = ShapeSubject(sample_shape(3, index, classes=("creatures",)), 16, 0.1)
    arrays = feature.compute(subject)
    names = [feature.facts()["joint_roles"][role] for role in arrays["joint_roles"]]
    assert "other" not in names and len(names) == len(arrays["joints"])
    assert all(name in ROLES for name in names) and set(feature.ragged()) == set(arrays)
    single = [name for name in names if name != "tail"]
    assert len(set(single)) == len(single)


def test_what_has_no_skeleton_has_no_roles() -> None:
    feature = plugins.build("features", {"name": "skeleton", "roles": True})
    arrays = feature.compute(ShapeSubject(sample_shape(0, 0), 16, 0.1))
    assert arrays["joint_roles"].shape == (0,) and arrays["joint_roles"].dtype == np.uint8
    assert "joint_roles" not in plugins.build("features", {"name": "skeleton"}).compute(
        ShapeSubject(sample_shape(0, 0), 16, 0.1)
    )
