"""What every finishing step promises: a mesh that is whole, with what it carried, or an error that says why."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maquette.errors import MaquetteError
from maquette.finishing import finish
from maquette.types import Asset, Mesh
from maquette_data3d.finishing.selection import areas, volume, welded
from tests.data3d.finishing.finishing_meshes import ball, box, furnished, joined, soup

CHEAP = [
    {"name": "repair", "floaters": 0.01, "inner_shells": True},
    {"name": "decimate", "share": 0.3},
    {"name": "unwrap", "resolution": 256},
    {"name": "lods"},
    {"name": "units", "size_m": 2.0},
    "origin",
    "up_axis",
    {"name": "print_check", "size_mm": 50.0},
]


def _whole(mesh: Mesh) -> None:
    assert len(mesh.faces)
    assert np.isfinite(mesh.vertices).all()
    assert areas(mesh.vertices, mesh.faces).sum() > 0
    if mesh.skin is not None:
        np.testing.assert_allclose(mesh.skin.weights.sum(1), 1, atol=1e-5)


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), faces=st.integers(4, 60), step=st.sampled_from(range(len(CHEAP))))
def test_no_step_gives_an_empty_mesh_or_nan(seed: int, faces: int, step: int) -> None:
    try:
        made = finish(Asset(soup(seed, faces)), [CHEAP[step]])
    except MaquetteError as error:
        assert str(error).startswith("finishing step")
        return
    _whole(made.mesh)
    assert made.metadata["finishing"][0]["step"]


@pytest.mark.parametrize("step", CHEAP, ids=lambda step: step if isinstance(step, str) else step["name"])
def test_a_mesh_without_area_is_refused_or_left(step) -> None:
    flat = Mesh(np.zeros((3, 3)), [[0, 1, 2]])
    try:
        assert len(finish(Asset(flat), [step]).mesh.faces) == 1
    except MaquetteError as error:
        assert "finishing step" in str(error)


@pytest.mark.parametrize("step", ["repair", {"name": "decimate", "share": 0.4}, {"name": "remesh", "faces": 600}])
def test_what_a_mesh_carries_goes_along(step) -> None:
    before = furnished()
    after = finish(Asset(before), [step]).mesh
    _whole(after)
    assert after.unit_m == before.unit_m
    assert after.materials == before.materials
    assert after.images == before.images
    middle = after.vertices[after.faces].mean(1)
    clear = np.abs(middle[:, 1]) > 0.08
    for places in (after.material, after.part):
        assert (places[clear] == (middle[clear, 1] > 0)).all()
    height = (after.vertices[:, 1] + 0.5).clip(0, 1)
    np.testing.assert_allclose(after.colors[:, 0] / 255, height, atol=0.06)
    top = np.where(after.skin.joints == 1, after.skin.weights, 0).sum(1)
    np.testing.assert_allclose(top, height, atol=0.03)
    expected = after.vertices[after.faces][..., :2] + 0.5
    np.testing.assert_allclose(after.uv[after.material == 0], expected[after.material == 0], atol=0.04)


@settings(max_examples=8, deadline=None)
@given(share=st.floats(0.05, 0.9), scale=st.sampled_from([1e-3, 1.0, 1e3]))
def test_decimation_meets_its_budget_and_keeps_the_volume(share: float, scale: float) -> None:
    dense = ball(4, scale)
    fewer = finish(Asset(dense), [{"name": "decimate", "share": share}]).mesh
    assert len(fewer.faces) <= np.ceil(len(dense.faces) * share)
    assert volume(*welded(fewer)) == pytest.approx(volume(*welded(dense)), rel=0.04)


def test_decimation_does_not_hurt_flat_faces() -> None:
    import trimesh

    cut = trimesh.creation.box()
    for _ in range(3):
        cut = cut.subdivide()
    fewer = finish(Asset(Mesh(cut.vertices, cut.faces)), [{"name": "decimate", "faces": 12}]).mesh
    assert len(fewer.faces) == 12
    assert volume(*welded(fewer)) == pytest.approx(1, abs=1e-5)


def test_repair_closes_turns_welds_and_clears() -> None:
    outer, inner = box(), box((0.4, 0.4, 0.4))
    broken = outer.faces[2:].copy()
    broken[3] = broken[3, ::-1]
    crumb = Mesh(box((0.01, 0.01, 0.01)).vertices + 2, box().faces)
    open_box = Mesh(outer.vertices[broken].reshape(-1, 3), np.arange(broken.size).reshape(-1, 3))
    asset = Asset(joined(open_box, open_box, inner, crumb))
    made = finish(asset, [{"name": "repair", "inner_shells": True, "floaters": 0.01}])
    did = made.metadata["finishing"][0]
    assert volume(*welded(made.mesh)) == pytest.approx(1, abs=1e-6)
    assert len(made.mesh.faces) == 12
    assert (did["duplicate_faces"], did["inner_shells"], did["floaters"], did["holes_filled"]) == (10, 1, 1, 1)
    assert "warnings" not in did


def test_the_border_of_an_open_sheet_is_no_hole() -> None:
    sheet = Mesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]])
    made = finish(Asset(sheet), ["repair"])
    assert len(made.mesh.faces) == 2
    assert made.metadata["finishing"][0]["warnings"] == ["4 sides are still open"]


def test_levels_of_detail_have_fewer_and_fewer_faces() -> None:
    levels = finish(Asset(ball(4)), [{"name": "lods", "shares": [0.5, 0.1]}]).metadata["lods"]
    assert [len(level.faces) for level in levels] == [pytest.approx(2560, abs=2), pytest.approx(512, abs=2)]


def test_quads_are_recorded() -> None:
    made = finish(Asset(ball(3)), [{"name": "remesh", "topology": "quad", "faces": 400}])
    did = made.metadata["finishing"][0]
    assert did["quads"] >= 0.4 * len(made.mesh.faces)
    assert volume(*welded(made.mesh)) == pytest.approx(volume(*welded(ball(3))), rel=0.05)


def test_settings_that_make_no_sense_say_so() -> None:
    for step in (
        {"name": "decimate"},
        {"name": "decimate", "share": 2.0},
        {"name": "units", "along": "diagonal"},
        {"name": "up_axis", "up": "w"},
        {"name": "origin", "at": "left"},
        {"name": "lods", "shares": [0.1, 0.5]},
        {"name": "remesh", "topology": "hexagon"},
        {"name": "collision", "threshold": 0.0},
        {"name": "unwrap", "resolution": 1},
    ):
        with pytest.raises(MaquetteError, match=step["name"]):
            finish(Asset(box()), [step])
