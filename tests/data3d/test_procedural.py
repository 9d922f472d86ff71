"""Procedural shapes: pure, normalised, closed, and what their captions say is what is there."""

from __future__ import annotations

import json

import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st

from maquette.errors import MaquetteError
from maquette_data3d.geometry.fields import cell_centres, mesh_field
from maquette_data3d.ingest.read_asset import read_mesh
from maquette_data3d.procedural import CLASSES, COLORS, FIRST_CLASSES, sample_shape
from maquette_data3d.procedural.mesh_files import FORMATS, write_mesh_files

INDEX = st.integers(0, 10_000)


@given(st.integers(0, 1000), INDEX)
def test_a_shape_is_a_pure_function_of_seed_and_index(seed, index):
    one, two = sample_shape(seed, index), sample_shape(seed, index)
    assert (one.caption, one.attributes, one.class_name) == (two.caption, two.attributes, two.class_name)
    assert np.array_equal(one.program.rows, two.program.rows)
    assert one.class_name == CLASSES[one.class_id] == FIRST_CLASSES[index % len(FIRST_CLASSES)]
    assert one.attributes["color"] in COLORS
    assert one.attributes["color"] in one.caption.split() and one.class_name in one.caption


@given(INDEX)
def test_coarse_to_fine_changes_no_value_in_the_band(index):
    shape = sample_shape(3, index)
    full = np.clip(shape.sdf(cell_centres(32)) / 0.05, -1, 1).reshape(32, 32, 32)
    assert np.abs(shape.tsdf(32, 0.05) - full).max() < 1e-2
    assert (np.sign(shape.tsdf(32, 0.05)) == np.sign(full)).all()


@given(INDEX)
def test_distances_are_bounded_by_distances(index):
    """1-Lipschitz; ellipsoids and superquadrics only bound their distance and may jump off the surface."""
    shape, rng = sample_shape(5, index), np.random.default_rng(index)
    points = rng.uniform(-0.5, 0.5, (4000, 3))
    step = rng.normal(0, 0.01, points.shape)
    near = np.abs(shape.sdf(points)) < 0.05
    slope = (np.abs(shape.sdf(points + step) - shape.sdf(points)) / np.linalg.norm(step, axis=1))[near]
    if shape.class_name in ("chair", "table", "mug", "gear"):
        assert slope.max() < 1.001
    assert np.percentile(slope, 95) < 1.01


@pytest.mark.parametrize("index", [5, 6, 14, 26, 30])
def test_distances_without_a_closed_form_are_right_in_the_band(index):
    shape = sample_shape(0, index)
    mesh = shape.mesh(128)
    field = mesh_field(mesh.vertices, mesh.faces, np.zeros((len(mesh.faces), 3, 3), np.uint8), 64)
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (20_000, 3))
    scale = 0.9 / np.ptp(mesh.vertices, axis=0).max()
    exact, found = field.distance(points * scale) / scale, shape.sdf(points)
    near = (exact > 0) & (exact < 0.05)
    assert np.abs(found - exact)[near].mean() < 1.5e-3
    assert (found <= exact + 2e-3)[exact > 0].mean() > 0.995  # a lower bound, but for what the mesh cuts off


@given(INDEX)
def test_meshes_are_closed_centred_and_in_one_piece(index):
    mesh = sample_shape(1, index).mesh(64)
    solid = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    assert solid.is_watertight and solid.is_winding_consistent and solid.volume > 0
    # Cells of 1/64 miss the points of pinched pebbles.
    assert abs(solid.extents.max() - 0.9) < 0.02
    assert np.abs(solid.bounds.sum(0)).max() < 0.02
    assert solid.body_count == 1


@given(INDEX)
def test_fields_fit_together(index):
    shape = sample_shape(2, index)
    fields = shape.fields(32, 0.05, 512)
    assert fields["tsdf"].shape == (1, 32, 32, 32) and fields["tsdf"].dtype == np.float16
    assert fields["color"].shape == (3, 16, 16, 16) and fields["color"].dtype == np.uint8
    off = np.abs(shape.sdf(fields["surface"].astype(np.float32)))
    assert off.max() < 0.02 and np.percentile(off, 98) < 1e-3
    assert np.allclose(np.linalg.norm(fields["normals"].astype(np.float32), axis=1), 1, atol=2e-3)
    # No further off: between the flat stones of a cairn there is little room.
    outside = fields["surface"].astype(np.float32) + 0.004 * fields["normals"].astype(np.float32)
    assert (shape.sdf(outside) > 0).mean() > 0.97
    palette = np.round(shape.program.part_colors * 255).astype(np.uint8)
    seen = fields["color"].reshape(3, -1).T
    assert {tuple(c) for c in seen} <= {tuple(c) for c in palette}
    again = sample_shape(2, index).fields(32, 0.05, 512)
    assert all(np.array_equal(fields[key], again[key]) for key in fields)


def test_parts_have_names_labels_and_colors():
    shape = sample_shape(0, 2)
    points, _ = shape.surface_points(500, np.random.default_rng(0))
    labels = shape.part_of(points)
    assert set(shape.program.part_names) >= {"base", "pole", "shade"}
    assert set(np.unique(labels)) == set(range(len(shape.program.part_names)))
    assert np.array_equal(shape.color_of(points), shape.program.part_colors[labels])
    assert np.allclose(shape.program.part_colors[shape.program.part_names.index("shade")],
                       COLORS[shape.attributes["color"]])  # fmt: skip


def test_no_part_is_thinner_than_two_voxels():
    """Opening a 128 grid by a ball of just under one voxel of 64 loses next to nothing."""
    from scipy.ndimage import distance_transform_edt

    for index in range(len(FIRST_CLASSES)):
        inside = sample_shape(7, index).tsdf(128, 0.05) < 0
        core = distance_transform_edt(inside) > 1.4
        opened = distance_transform_edt(~core) <= 2.5
        assert (inside & ~opened).sum() < 0.02 * inside.sum(), sample_shape(7, index).caption


def test_attributes_are_real():
    chairs = [sample_shape(0, index) for index in range(0, 1600, 8)]
    tall = [s for s in chairs if s.attributes["size"] == "tall" and s.attributes["back"] == "no"]
    wide = [s for s in chairs if s.attributes["size"] == "wide" and s.attributes["back"] == "no"]
    assert len(tall) > 5 and len(wide) > 5

    def ratio(shape):
        low, high = np.array(shape.mesh(32).vertices).min(0), np.array(shape.mesh(32).vertices).max(0)
        return (high - low)[1] / (high - low)[0]

    assert min(map(ratio, tall)) > max(map(ratio, wide))
    for shape in chairs:
        assert ("no back" in shape.caption) <= (shape.attributes["back"] == "no")
        assert ("arms" in shape.caption.split()) <= shape.attributes["arms"]
        assert ("back" in shape.program.part_names) == (shape.attributes["back"] != "no")


def test_captions_vary_in_wording():
    captions = [sample_shape(0, index).caption for index in range(400)]
    assert len(set(captions)) > 330
    assert any(" with " in c for c in captions) and any(", " in c for c in captions)
    assert any(c.startswith("a ") for c in captions) and any(not c.startswith(("a ", "an ")) for c in captions)


def test_shapes_are_written_as_mesh_files_in_every_format(tmp_path):
    manifest = write_mesh_files(tmp_path, 10, seed=4, formats=FORMATS, resolution=32)
    entries = [json.loads(line) for line in manifest.read_text().splitlines()]
    assert {entry["file"].rpartition(".")[2] for entry in entries} == set(FORMATS)
    for index, entry in enumerate(entries):
        shape = sample_shape(4, index)
        assert (entry["name"], entry["category"]) == (shape.caption, shape.class_name)
        mesh = read_mesh(tmp_path / entry["file"])
        assert abs(np.ptp(mesh.vertices, axis=0).max() - 0.9) < 1e-5
    with pytest.raises(MaquetteError, match="did you mean 'glb'"):
        write_mesh_files(tmp_path, 1, formats=("glbb",))
    with pytest.raises(MaquetteError, match="did you mean 'boat'"):
        write_mesh_files(tmp_path, 1, classes=("boot",))
    manifest = write_mesh_files(tmp_path / "tools", 2, classes=("hammer", "knife"), resolution=16)
    assert [json.loads(line)["category"] for line in manifest.read_text().splitlines()] == ["hammer", "knife"]
