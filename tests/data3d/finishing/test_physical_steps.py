"""Size, place, printing, mass: figures that are known beforehand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maquette.errors import MaquetteError
from maquette.finishing import finish
from maquette.types import Animation, Asset, Mesh
from maquette_data3d.finishing.print_report import edge_faults
from maquette_data3d.finishing.selection import volume, welded
from tests.data3d.finishing.finishing_meshes import ball, box, furnished, joined


def _moving() -> Asset:
    mesh = furnished()
    times = np.array([0, 1], np.float32)
    rotations = np.tile(np.array([0, 0, 0, 1], np.float32), (2, 2, 1))
    translations = np.tile(np.array([[0, 0, 0], [0, 0.2, 0]], np.float32), (2, 1, 1))
    return Asset(mesh, {}, (Animation("still", times, rotations, translations),))


def test_units_scale_mesh_joints_and_clips_together() -> None:
    made = finish(_moving(), [{"name": "units", "size_m": 3.0, "along": "height", "unit_m": 0.001}])
    assert np.ptp(made.mesh.vertices[:, 1]) == pytest.approx(3000, rel=1e-5)
    assert made.mesh.unit_m == 0.001
    assert made.mesh.skin.skeleton.rest[1, 1, 3] == pytest.approx(600, rel=1e-5)
    assert made.animations[0].translations[0, 1, 1] == pytest.approx(600, rel=1e-5)
    metres = finish(made, [{"name": "units"}])
    assert np.ptp(metres.mesh.vertices[:, 1]) == pytest.approx(3, rel=1e-5)
    with pytest.raises(MaquetteError, match="size_m"):
        finish(Asset(box()), ["units"])


@pytest.mark.parametrize("up", ["x", "-x", "y", "-y", "z", "-z"])
def test_what_was_up_is_y_afterwards(up: str) -> None:
    axis, sign = "xyz".index(up[-1]), -1 if up[0] == "-" else 1
    vertices = np.eye(4, 3).astype(np.float32) * 0.1
    vertices[3, axis] = sign
    mesh = Mesh(vertices, [[0, 1, 3], [1, 2, 3], [0, 2, 3]])
    made = finish(Asset(mesh), [{"name": "up_axis", "up": up}]).mesh
    assert made.vertices[3] == pytest.approx([0, 1, 0], abs=1e-6)


def test_turning_keeps_joints_on_the_mesh_and_the_winding() -> None:
    made = finish(_moving(), [{"name": "up_axis", "up": "z"}])
    assert made.mesh.skin.skeleton.rest[1, :3, 3] == pytest.approx([0, 0, -0.2], abs=1e-7)
    assert volume(*welded(made.mesh)) > 0
    # A clip's root stands in model space: its first pose is the rest pose.
    x, y, z, w = made.animations[0].rotations[0, 0]
    assert [x, y, z, w] == pytest.approx([-np.sqrt(0.5), 0, 0, np.sqrt(0.5)], abs=1e-6)


@pytest.mark.parametrize(("at", "low"), [("bottom", 0.0), ("centre", -0.5), ("top", -1.0)])
def test_the_origin_moves_everything(at: str, low: float) -> None:
    asset = _moving()
    made = finish(asset, [{"name": "origin", "at": at}])
    assert made.mesh.vertices[:, 1].min() == pytest.approx(low, abs=1e-5)
    shift = made.mesh.skin.skeleton.rest[0, 1, 3]
    assert made.animations[0].translations[0, 0, 1] == pytest.approx(shift, abs=1e-6)


@settings(max_examples=10, deadline=None)
@given(sides=st.tuples(*[st.floats(0.1, 3.0)] * 3), density=st.floats(1, 5000), unit=st.sampled_from([1.0, 0.01]))
def test_a_box_weighs_what_the_formula_says(sides, density: float, unit: float) -> None:
    mesh = Mesh(box(sides).vertices + 1, box().faces, unit_m=unit)
    found = finish(Asset(mesh), [{"name": "inertia", "density": density}]).metadata["inertia"]
    a, b, c = (side * unit for side in sides)
    mass = density * a * b * c
    assert found["mass"] == pytest.approx(mass, rel=1e-4)
    np.testing.assert_allclose(found["centre"], unit, rtol=1e-4)
    expected = mass / 12 * np.array([b * b + c * c, a * a + c * c, a * a + b * b])
    np.testing.assert_allclose(np.diag(found["inertia"]), expected, rtol=1e-3)
    np.testing.assert_allclose(found["inertia"] - np.diag(np.diag(found["inertia"])), 0, atol=1e-3 * expected.max())


def test_a_ball_weighs_what_the_formula_says_also_when_it_is_open() -> None:
    mass = 1000 * 4 / 3 * np.pi * 0.5**3
    whole = ball(5)
    for mesh, slack in ((whole, 0.005), (Mesh(whole.vertices, whole.faces[40:]), 0.03)):
        asset = finish(Asset(mesh), [{"name": "inertia"}])
        found = asset.metadata["inertia"]
        assert found["mass"] == pytest.approx(mass, rel=slack)
        np.testing.assert_allclose(np.diag(found["inertia"]), 0.4 * mass * 0.5**2, rtol=2 * slack)
    assert any("not closed" in warning for warning in asset.metadata["finishing"][0]["warnings"])


def test_collision_pieces_are_convex_and_hug_the_shape() -> None:
    bar, post = box((1.0, 0.2, 0.2)), box((0.2, 1.0, 0.2))
    corner = joined(bar, Mesh(post.vertices + np.array([0.6, 0.4, 0]), post.faces))
    made = finish(Asset(corner), ["collision"])
    pieces = [Mesh(np.array(piece["vertices"]), np.array(piece["faces"])) for piece in made.metadata["collision"]]
    assert len(pieces) >= 2
    total = sum(volume(piece.vertices, piece.faces) for piece in pieces)
    assert 0.08 <= total * 1.001
    assert total < 0.75 * _hull_volume(corner)
    for piece in pieces:
        corners = piece.vertices[piece.faces].astype(float)
        normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        outside = ((piece.vertices[None] - corners[:, :1]) * normals[:, None]).sum(-1)
        assert (outside <= 1e-5).all()


def _hull_volume(mesh: Mesh) -> float:
    from scipy.spatial import ConvexHull

    return ConvexHull(mesh.vertices).volume


def _report(mesh: Mesh, **settings) -> dict:
    return finish(Asset(mesh), [{"name": "print_check", **settings}]).metadata["print_check"]


def test_a_solid_box_can_be_printed() -> None:
    report = _report(box((10, 20, 30)), size_mm=30.0)
    assert report["printable"]
    assert report["watertight"]
    assert report["volume_mm3"] == pytest.approx(6000, rel=1e-4)
    assert report["size_mm"] == pytest.approx([10, 20, 30])
    assert report["thinnest_mm"] is None
    assert report["overhang_share"] == 0


@pytest.mark.parametrize("thickness", [0.3, 0.6, 0.9])
def test_a_thin_wall_is_found_and_measured(thickness: float) -> None:
    report = _report(box((20, 20, thickness)), size_mm=20.0, wall_mm=1.0)
    assert report["thinnest_mm"] == pytest.approx(thickness, rel=0.02)
    assert report["thin_share"] > 0.8
    assert not report["printable"]


def test_what_hangs_over_is_told_by_its_angle() -> None:
    top = box((30, 2, 30))
    table = joined(Mesh(top.vertices + np.array([0, 11, 0]), top.faces), box((4, 20, 4)))
    report = _report(table, size_mm=30.0)
    assert report["overhang_share"] == pytest.approx(900 / (2 * 900 + 240 + 2 * 16 + 320), abs=0.02)
    assert report["shells"] == 2


def test_an_open_mesh_is_told_and_mended() -> None:
    outer = box((20, 20, 20))
    lidless = Mesh(outer.vertices, outer.faces[:-2], unit_m=0.001)
    report = _report(lidless)
    assert (report["printable"], report["open_sides"]) == (False, 4)
    made = finish(Asset(lidless), ["print_repair"])
    assert made.metadata["print_check"]["printable"]
    assert volume(*welded(made.mesh)) == pytest.approx(8000, rel=0.01)


def test_overlapping_solids_unite() -> None:
    two = joined(box((10, 10, 10)), Mesh(box((10, 10, 10)).vertices + 5, box().faces))
    made = finish(Asset(two), [{"name": "print_repair", "size_mm": 15.0}])
    assert made.metadata["finishing"][-1]["by"] == "union"
    assert volume(*welded(made.mesh)) == pytest.approx(2000 - 125, rel=1e-3)


def test_thin_sheets_are_thickened() -> None:
    sheet = Mesh([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], [[0, 1, 2], [0, 2, 3]])
    made = finish(Asset(sheet), [{"name": "print_repair", "size_mm": 20.0, "wall_mm": 1.0, "resolution": 64}])
    assert not any(edge_faults(welded(made.mesh)[1]))
    wall = finish(Asset(box((20, 20, 0.4))), [{"name": "print_repair", "size_mm": 20.0, "resolution": 64}])
    assert wall.metadata["print_check"]["thin_share"] < 0.01
    assert np.ptp(wall.mesh.vertices[:, 2]) >= 1.0


def test_nobody_knows_how_large() -> None:
    with pytest.raises(MaquetteError, match="size_mm"):
        _report(box())
