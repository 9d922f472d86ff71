"""Every class of procedural shapes: sound bodies, true captions, materials, skeletons, held-out pairs."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from maquette.errors import MaquetteError
from maquette_data3d.geometry.fields import cell_centres
from maquette_data3d.procedural import (
    CLASSES,
    FAMILIES,
    FIRST_CLASSES,
    classes_of,
    held_out_pairs,
    sample_shape,
)
from maquette_data3d.procedural import primitives as prim
from maquette_data3d.procedural.palette import COLORS

NEW = CLASSES[len(FIRST_CLASSES) :]
INDEX, VARIETY = st.integers(0, 10_000), st.sampled_from([0.0, 0.25, 1.0])


def rows_of(shape, name):
    """How many bodies are added to the parts of a name."""
    rows = shape.program.rows
    parts = [number for number, part in enumerate(shape.program.part_names) if part == name]
    return int(np.isin(rows[rows[:, prim.OPERATION] == prim.ADD, prim.PART], parts).sum())


def some(name, count=60, **known):
    """Shapes of a class that have the attributes given."""
    shapes = (sample_shape(9, index, classes=(name,)) for index in range(count))
    return [s for s in shapes if all(s.attributes[key] == value for key, value in known.items())]


def box_of(shape):
    """Width, height and depth."""
    inside = np.argwhere(shape.tsdf(32) < 0)
    return inside.max(0) - inside.min(0) + 1.0


def test_families_hold_every_class_once():
    assert sorted(member for family in FAMILIES.values() for member in family) == sorted(CLASSES)
    assert len(CLASSES) >= 24 and CLASSES[:8] == FIRST_CLASSES
    assert classes_of(("tools", "gear", "chair")) == (*FAMILIES["tools"], "chair")
    assert sample_shape(0, 1, classes=("vehicles",)).class_name == FAMILIES["vehicles"][1]
    with pytest.raises(MaquetteError, match="did you mean 'bridge'"):
        sample_shape(0, 0, classes=("brigde",))
    with pytest.raises(MaquetteError, match="at least one class"):
        sample_shape(0, 0, classes=())


def test_the_first_eight_draw_what_they_have_always_drawn():
    found = hashlib.sha256()
    for index in range(64):
        for variety in (0.25, 1.0):
            shape = sample_shape(0, index, variety)
            rows = np.round(shape.program.rows[:, : prim.PROFILE], 6) + 0.0
            found.update(json.dumps([shape.caption, shape.attributes, rows.tolist()]).encode())
    assert found.hexdigest() == "f84e9bc3c0c12ee18eb62ad3e5f9e5ae3e84e4d2533fc686d04a91ffab3349cb"


@pytest.mark.parametrize("name", NEW)
def test_new_classes_are_one_closed_body_that_fits_the_cube(name):
    for index in range(3):
        shape = sample_shape(4, index, classes=(name,))
        mesh = shape.mesh(64)
        solid = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
        assert solid.is_watertight and solid.volume > 0, shape.caption
        assert solid.body_count == 1, shape.caption
        assert abs(solid.extents.max() - 0.9) < 0.025 and np.abs(solid.bounds.sum(0)).max() < 0.03, shape.caption
        assert shape.class_id == CLASSES.index(name) and name in shape.caption
        colors = shape.program.part_colors
        assert np.isclose(colors, np.float32(COLORS[shape.attributes["color"]])).all(1).any()


@pytest.mark.parametrize("name", NEW)
def test_no_part_of_new_classes_is_thinner_than_two_voxels(name):
    shape = sample_shape(6, 2, classes=(name,))
    inside = shape.tsdf(128) < 0
    core = distance_transform_edt(inside) > 1.4
    opened = distance_transform_edt(~core) <= 2.5
    assert (inside & ~opened).sum() < 0.02 * inside.sum(), shape.caption


@settings(max_examples=12)
@given(INDEX)
def test_coarse_to_fine_agrees_with_every_cell_asked(index):
    shape = sample_shape(3, index, classes=NEW)
    full = np.clip(shape.sdf(cell_centres(32)) / 0.05, -1, 1).reshape(32, 32, 32)
    assert np.abs(shape.tsdf(32, 0.05) - full).max() < 1e-2
    labels = shape.program.part_colors[shape.part_of(cell_centres(16))]
    grid = shape.color_grid(16).reshape(3, -1).T / 255
    assert (np.abs(grid - labels).max(1) < 0.01).mean() > 0.995  # bounds of distances jump here and there


@given(st.lists(st.floats(0.05, 0.5), min_size=6, max_size=6), st.floats(0.1, 0.5), st.integers(0, 99))
def test_the_distance_to_a_lathe_is_that_to_its_outline(knots, half, seed):
    radii = prim.profile(np.array(knots))
    levels = np.linspace(-half, half, len(radii))
    outline = np.array([[0, -half], *zip(radii, levels, strict=True), [0, half]])
    points = np.random.default_rng(seed).uniform([0, -0.7], [0.8, 0.7], (200, 2))
    a, along = outline[:-1], np.diff(outline, axis=0)
    share = ((points[:, None] - a) * along).sum(-1) / (along**2).sum(-1)
    nearest = a + np.clip(share, 0, 1)[..., None] * along
    expected = np.linalg.norm(points[:, None] - nearest, axis=-1).min(1)
    inside = (np.abs(points[:, 1]) < half) & (points[:, 0] < np.interp(points[:, 1], levels, radii))
    found = np.array([prim.lathe(x, y, half, radii) for x, y in points])
    assert np.allclose(found, np.where(inside, -expected, expected), atol=1e-9)


def test_captions_count_what_is_there():
    for shape in some("stool", legs="three") + some("stool", legs="four"):
        assert rows_of(shape, "legs") == {"three": 3, "four": 4}[shape.attributes["legs"]]
    for shape in some("shelf"):
        assert rows_of(shape, "boards") == shape.attributes["boards"]
    for shape in some("sofa"):
        assert rows_of(shape, "seats") == shape.attributes["seats"]
        assert ("corner sofa" in shape.caption) == shape.attributes["corner"]
    for shape in some("truck"):
        assert rows_of(shape, "wheels") == 2 * shape.attributes["axles"]
    for shape in some("airplane"):
        assert rows_of(shape, "engines") == shape.attributes["engines"]
    for shape in some("vase"):
        assert rows_of(shape, "blossoms") == 3 * shape.attributes["flowers"]
    for shape in some("fish"):
        assert sum(name.startswith("stripe") for name in shape.program.part_names) == shape.attributes["stripes"]


@pytest.mark.parametrize(
    ("name", "attribute", "more", "less", "over", "under"),
    [
        ("stool", "size", "tall", "low", 1, 0),
        ("bottle", "size", "tall", "short", 1, 0),
        ("vase", "size", "tall", "squat", 1, 0),
        ("bowl", "depth", "deep", "shallow", 1, 0),
        ("shelf", "size", "tall", "wide", 1, 0),
        ("bridge", "size", "wide", "narrow", 2, 0),
        ("knife", "width", "wide", "narrow", 0, 1),
        ("fish", "body", "deep", "slim", 1, 2),
    ],
)
def test_sizes_in_words_are_sizes_in_space(name, attribute, more, less, over, under):  # noqa: PLR0917
    def ratio(value):
        plain = {"vase": {"flowers": False}, "bowl": {"foot": "no", "content": "no"}}.get(name, {})
        found = [box_of(s) for s in some(name, 40, **{attribute: value}, **plain)][:6]
        assert len(found) > 1
        return np.median([extent[over] / extent[under] for extent in found])

    assert ratio(more) > 1.1 * ratio(less)


@given(INDEX, VARIETY)
def test_paraphrases_are_many_different_and_true(index, variety):
    shape = sample_shape(8, index, variety, classes=CLASSES)
    captions = shape.captions(16)
    assert captions[0] == shape.caption and len(set(captions)) == len(captions) == 16
    assert shape.captions(5) == captions[:5]
    others = set(COLORS) - {shape.attributes["color"]}
    for caption in captions:
        words = caption.replace(",", "").split()
        assert shape.attributes["color"] in words and not others & set(words)
        assert not any(a == "a" and b[0] in "aeiou" for a, b in pairwise(words))
    if shape.class_name == "stool":
        assert not any("three" in caption for caption in captions) or shape.attributes["legs"] == "three"


def test_materials_fit_the_parts():
    for index in range(2 * len(CLASSES)):
        program = sample_shape(5, index, classes=CLASSES).program
        assert len(program.materials) == len(program.part_names)
        assert all(0 <= m.metallic <= 1 and 0 <= m.roughness <= 1 and m.name for m in program.materials)
    car = sample_shape(0, 4).program
    of = dict(zip(car.part_names, car.materials, strict=True))
    assert of["windows"].name == "glass" and of["wheels"].name == "rubber" and of["body"].name == "car paint"
    hammer = some("hammer", head="claw")[0].program
    assert dict(zip(hammer.part_names, hammer.materials, strict=True))["head"].metallic == 1


@given(INDEX)
def test_creatures_have_skeletons_and_smooth_skins(index):
    shape = sample_shape(2, index, classes=("creatures",))
    names, parents, positions = shape.skeleton()
    assert parents.dtype == np.int32 and positions.dtype == np.float32 and positions.shape == (len(names), 3)
    assert parents[0] == -1 and (parents[1:] < np.arange(1, len(names))).all() and (parents[1:] >= 0).all()
    assert len(set(names)) == len(names)
    assert shape.sdf(positions).max() < 0.02  # joints are inside the body
    points, _ = shape.surface_points(300, np.random.default_rng(0), shape.tsdf(32))
    joints, weights = shape.skin(points)
    assert joints.dtype == np.uint8 and weights.dtype == np.float32 and joints.shape == weights.shape == (300, 4)
    assert np.allclose(weights.sum(1), 1, atol=1e-6) and (weights >= 0).all() and joints.max() < len(names)
    step = points + np.random.default_rng(1).normal(0, 2e-4, points.shape).astype(np.float32)
    assert np.abs(spread(shape.skin(step), names) - spread((joints, weights), names)).max() < 0.15


def spread(skin, names):
    """Weights [P, J] of a skin."""
    joints, weights = skin
    full = np.zeros((len(joints), len(names)))
    np.add.at(full, (np.arange(len(joints))[:, None], joints.astype(int)), weights)
    return full


def test_a_limb_follows_its_own_bone():
    shape = sample_shape(0, 5)
    names, _, _ = shape.skeleton()
    shins = [number for number, name in enumerate(names) if name.endswith("shin")]
    points, _ = shape.surface_points(2000, np.random.default_rng(0))
    feet = points[points[:, 1] < points[:, 1].min() + 0.04]
    assert len(feet) > 20 and (spread(shape.skin(feet), names)[:, shins].sum(1) > 0.8).all()


def test_other_classes_have_no_skeleton():
    shape = sample_shape(0, 0)
    assert shape.skeleton() is None and shape.skin(np.zeros((1, 3))) is None


@pytest.mark.parametrize("name", CLASSES)
def test_held_out_pairs_are_met_but_their_values_are_frequent_elsewhere(name):
    pairs = held_out_pairs(name)
    shapes = [sample_shape(1, index, classes=(name,)) for index in range(150)]
    held, kept = [s for s in shapes if s.held_out], [s for s in shapes if not s.held_out]
    assert 0 < len(held) < 0.4 * len(shapes)
    for a, b, c, d in pairs:
        assert any(s.attributes[a] == b for s in kept) and any(s.attributes[c] == d for s in kept)
        assert not any(s.attributes[a] == b and s.attributes[c] == d for s in kept)
    assert any(sample_shape(1, index, 0.25, classes=(name,)).held_out for index in range(150))


def test_held_out_pairs_of_an_unknown_class():
    with pytest.raises(MaquetteError, match="did you mean 'chair'"):
        held_out_pairs("chiar")
