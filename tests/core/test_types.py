"""What the types that travel between plugins refuse, and that moving a mesh moves all that is in its space."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maquette import hookimpl, plugins
from maquette.errors import MaquetteError
from maquette.finishing import finish
from maquette.placement import LONGEST_SIDE, in_unit_cube, moved
from maquette.types import Animation, Asset, Material, Mesh, Skeleton, Skin

POINTS = np.array([[0, 0, 0], [2, 0, 0], [0, 1, 0], [0, 0, 4]], np.float32)
FACES = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.int32)


def skinned():
    rest = np.tile(np.eye(4), (2, 1, 1))
    rest[1, :3, 3] = [0, 1, 0]
    skeleton = Skeleton(("root", "tip"), np.array([-1, 0], np.int32), rest)
    return Mesh(POINTS, FACES, skin=Skin(skeleton, [[0, 1]] * 4, [[0.5, 0.5]] * 4), unit_m=0.01)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"uv": np.zeros((4, 2))}, "mesh uv must be"),
        ({"uv": np.full((4, 3, 2), np.nan)}, "NaN"),
        ({"material": [0, 0, 0, 1], "materials": (Material(),)}, "outside its 1 materials"),
        ({"part": [-1, 0, 0, 0], "part_names": ("a",)}, "outside its 1 part_names"),
        ({"materials": (Material(textures={"base_color": 0}),)}, "image 0 of 0"),
        ({"materials": (Material(textures={"gloss": 0}),), "images": (b"",)}, "'gloss'"),
        ({"materials": (Material(alpha_mode="glass"),)}, "'glass'"),
    ],
)
def test_a_mesh_refuses_what_does_not_fit(changes, said):
    with pytest.raises(MaquetteError, match=said):
        Mesh(POINTS, FACES, **changes)


def test_a_skin_refuses_what_does_not_fit():
    skeleton = Skeleton(("a", "b"), np.array([1, -1], np.int32), np.tile(np.eye(4), (2, 1, 1)))
    with pytest.raises(MaquetteError, match="after its parent"):
        Skin(skeleton, [[0]], [[1.0]])
    ordered = replace(skeleton, parents=np.array([-1, 0], np.int32))
    with pytest.raises(MaquetteError, match="outside its 2"):
        Skin(ordered, [[2]], [[1.0]])
    with pytest.raises(MaquetteError, match="negative"):
        Skin(ordered, [[0]], [[-1.0]])
    with pytest.raises(MaquetteError, match="of 1 vertices"):
        Mesh(POINTS, FACES, skin=Skin(ordered, [[0]], [[1.0]]))


def test_an_animation_belongs_to_the_skin():
    clip = Animation("wave", np.zeros(3), np.zeros((3, 1, 4)), np.zeros((3, 1, 3)))
    with pytest.raises(MaquetteError, match=r"'wave'.*has 2"):
        Asset(skinned(), animations=(clip,))


@given(st.floats(0.01, 100), st.lists(st.floats(-10, 10), min_size=3, max_size=3))
def test_moving_keeps_size_in_metres_and_joints_on_their_points(scale, offset):
    before = skinned()
    after = moved(before, scale, np.array(offset))
    size = np.ptp(before.vertices, axis=0) * before.unit_m
    np.testing.assert_allclose(np.ptp(after.vertices, axis=0) * after.unit_m, size, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(after.skin.skeleton.rest[1, :3, 3], after.vertices[2], atol=1e-4 * scale + 1e-5)


def test_the_unit_cube_holds_the_mesh_by_its_longest_side():
    low, high = (f(in_unit_cube(skinned()).vertices, axis=0) for f in (np.min, np.max))
    np.testing.assert_allclose(high + low, 0, atol=1e-6)
    assert (high - low).max() == pytest.approx(LONGEST_SIDE)


@dataclass
class NothingConfig:
    """Whether to fail."""

    fail: bool = False


class Nothing:
    """Leaves no faces."""

    def __init__(self, config):
        self.config = config

    def __call__(self, asset):
        if self.config.fail:
            raise MaquetteError("no luck")
        return Asset(Mesh(POINTS, np.zeros((0, 3), np.int32)))


class Steps:
    @hookimpl
    def register_finishers(self, register):
        register("test_nothing", NothingConfig, Nothing)


def test_finishing_names_the_step_that_fails():
    plugins.manager().add(Steps(), "test-steps")
    with pytest.raises(MaquetteError, match="'test_nothing' left no faces"):
        finish(Asset(skinned()), ["test_nothing"])
    with pytest.raises(MaquetteError, match="'test_nothing': no luck"):
        finish(Asset(skinned()), [{"name": "test_nothing", "fail": True}])
    assert finish(Asset(skinned()), []).mesh.unit_m == 0.01
