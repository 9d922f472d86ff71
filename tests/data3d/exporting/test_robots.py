"""URDF and MJCF load in yourdfpy and MuJoCo, weigh what they should, and rest on the ground."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import trimesh

from maquette.errors import MaquetteError
from maquette.finishing import finish
from maquette.testing import check_exporter
from maquette.types import Asset, Material, Mesh
from maquette_data3d.exporting.robots.body import BodyConfig, body_of
from maquette_data3d.exporting.robots.mjcf import MjcfExporter
from maquette_data3d.exporting.robots.urdf import UrdfExporter
from tests.data3d.exporting import random_assets as assets


def box(extents, unit_m=1.0, **more):
    shape = trimesh.creation.box(extents)
    return Mesh(shape.vertices, shape.faces, unit_m=unit_m, **more)


def of_box(x, y, z, density=1000.0):
    """Mass and tensor of a solid box."""
    mass = density * x * y * z
    return mass, np.diag([y * y + z * z, x * x + z * z, x * x + y * y]) * mass / 12


def test_a_box_weighs_what_the_formula_says_and_lies_along_the_axes_of_robots():
    body = body_of(Asset(box((20, 40, 60), unit_m=0.01)), BodyConfig(density=500))
    mass, inertia = of_box(0.6, 0.2, 0.4, 500)
    assert np.isclose(body.mass, mass) and np.allclose(body.inertia, inertia, rtol=1e-5, atol=1e-9)
    assert np.allclose(np.ptp(body.visual.vertices, axis=0), [0.6, 0.2, 0.4])


def test_two_hulls_weigh_as_one_box():
    halves = []
    for side in (-1, 1):
        half = trimesh.creation.box((1, 1, 1), trimesh.transformations.translation_matrix([side * 0.5, 0, 0]))
        halves.append({"vertices": half.vertices, "faces": half.faces})
    body = body_of(Asset(box((2, 1, 1)), {"collision": halves}), BodyConfig())
    mass, inertia = of_box(1, 2, 1)
    assert len(body.hulls) == 2 and np.isclose(body.mass, mass) and np.allclose(body.inertia, inertia)


def test_what_the_finishing_steps_found_is_what_is_written():
    pytest.importorskip("coacd")
    # An angle of two boards, which its hull would fill.
    parts = [((0.6, 0.02, 0.4), (0, 0, 0)), ((0.02, 0.4, 0.4), (0.31, 0.2, 0))]
    shapes = [trimesh.creation.box(size, trimesh.transformations.translation_matrix(at)) for size, at in parts]
    joined = trimesh.util.concatenate(shapes)
    mesh = Mesh(joined.vertices, joined.faces)
    asset = finish(Asset(mesh), ["collision", {"name": "inertia", "density": 700}])
    volume = sum(np.prod(size) for size, _ in parts)
    centre = sum(np.prod(size) * np.array(at) for size, at in parts) / volume
    body = body_of(asset, BodyConfig())
    assert len(body.hulls) > 1 and np.isclose(body.mass, 700 * volume, rtol=1e-4)
    assert np.allclose(body.centre, centre[[2, 0, 1]], atol=1e-5)
    moment = sum(
        np.prod(s) * 700 * ((s[0] ** 2 + s[1] ** 2) / 12 + ((np.array(at) - centre)[:2] ** 2).sum()) for s, at in parts
    )
    assert np.isclose(body.inertia[0, 0], moment, rtol=1e-4)  # about the forward axis
    small = body_of(asset, BodyConfig(unit_m=0.1))
    assert np.isclose(small.mass, body.mass * 1e-3) and np.allclose(small.inertia, body.inertia * 1e-5)


@pytest.mark.parametrize("seed", range(5))
def test_yourdfpy_reads_the_urdf(seed, tmp_path):
    yourdfpy = pytest.importorskip("yourdfpy")
    asset = assets.random_asset(seed)
    path = UrdfExporter()(asset, tmp_path / "a b" / "the chair.urdf")
    robot = yourdfpy.URDF.load(str(path), load_collision_meshes=True, build_collision_scene_graph=True)
    link = robot.link_map["the_chair"]
    body = body_of(asset, BodyConfig())
    assert np.isclose(link.inertial.mass, body.mass)
    assert np.allclose(link.inertial.inertia, body.inertia, rtol=1e-6)
    assert np.allclose(robot.scene.bounds, [body.visual.vertices.min(0), body.visual.vertices.max(0)], atol=1e-5)
    assert np.allclose(robot.collision_scene.bounds, robot.scene.bounds, atol=1e-5)


@pytest.mark.parametrize("seed", [0, 1, 3, 4, 5])
def test_mujoco_reads_the_mjcf(seed, tmp_path):
    mujoco = pytest.importorskip("mujoco")
    asset = assets.random_asset(seed)
    path = MjcfExporter()(asset, tmp_path / "a b" / "the chair.mjcf")
    model = mujoco.MjModel.from_xml_path(str(path))
    body = body_of(asset, BodyConfig())
    assert np.isclose(model.body_mass[1], body.mass)
    assert np.allclose(np.sort(model.body_inertia[1]), np.linalg.eigvalsh(body.inertia), rtol=1e-4)
    assert np.allclose(model.body_ipos[1], body.centre, atol=1e-6)
    assert model.nq == 7


def test_a_box_falls_and_stays_on_the_ground(tmp_path):
    mujoco = pytest.importorskip("mujoco")
    surface = Material("red", (1.0, 0.0, 0.0, 1.0))
    mesh = box((0.2, 0.4, 0.2), material=np.zeros(12), materials=(surface,))
    path = MjcfExporter()(Asset(mesh), tmp_path / "box.xml")
    ground = '<geom type="plane" size="5 5 1" pos="0 0 -.3"/></worldbody>'
    model = mujoco.MjModel.from_xml_path(str(_with(path, "</worldbody>", ground)))
    data = mujoco.MjData(model)
    mujoco.mj_step(model, data, 1000)
    assert abs(data.qpos[2] + 0.1) < 0.01 and np.abs(data.qvel).max() < 0.01


def _with(path, old, new):
    path.write_text(path.read_text().replace(old, new))
    return path


def test_flat_and_tiny_bodies_are_refused_with_the_reason(tmp_path):
    flat = Mesh(np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]]), np.array([[0, 1, 2]]))
    for exporter in (UrdfExporter(), MjcfExporter()):
        with pytest.raises(MaquetteError, match="no volume"):
            exporter(Asset(flat), tmp_path / f"a{exporter.suffix}")
    assert not list(tmp_path.iterdir())
    with pytest.raises(MaquetteError, match="too small"):
        MjcfExporter(BodyConfig(unit_m=1e-4))(Asset(box((1, 1, 1), unit_m=None)), tmp_path / "a.mjcf")
    with pytest.raises(MaquetteError, match="density"):
        BodyConfig(density=0)


def test_textures_and_fixed_bodies(tmp_path):
    mujoco = pytest.importorskip("mujoco")
    mesh = assets.random_asset(1, textured=True).mesh
    surface = Material("wood", textures={"base_color": 1})
    mesh = replace(mesh, materials=(surface,), material=np.zeros(len(mesh.faces), np.int32))
    path = MjcfExporter(BodyConfig(fixed=True))(Asset(mesh), tmp_path / "a.mjcf")
    model = mujoco.MjModel.from_xml_path(str(path))
    assert model.ntex == 1 and model.nq == 0


@pytest.mark.parametrize("exporter", [UrdfExporter, MjcfExporter])
def test_writing_is_atomic(exporter, tmp_path):
    check_exporter(exporter(), tmp_path / f"a{exporter.suffix}")
