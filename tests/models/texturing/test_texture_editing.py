"""Textures edited in a region: what is asked for lands, and every other texel stays, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maquette import plugins
from maquette.errors import MaquetteError
from maquette.types import Material, Mesh, Request
from maquette_kernels.raster.atlas import texel_surface
from maquette_models.texturing.edit_look import LUMINANCE, recolored
from maquette_models.texturing.edit_texels import GUTTER
from maquette_models.texturing.edit_words import Look, color_of, named_parts, read_instruction, singular
from maquette_models.texturing.view_attributes import decoded, encoded, to_linear, to_unit
from tests.models.texturing import painted_shapes

SIZE = 64
BOX = replace(
    painted_shapes.textured(painted_shapes.box([-0.3, -0.2, -0.4], [0.3, 0.2, 0.4]), SIZE)[0],
    part=np.repeat(np.arange(3, dtype=np.int32), 4),
    part_names=("legs", "seat", "seat back"),
)
FACE, SHARE = (values.numpy() for values in texel_surface(torch.from_numpy(BOX.uv), SIZE))


@pytest.fixture(scope="module")
def edit():
    return plugins.build("pipelines", {"name": "texture_edit"})


def images(mesh):
    return [decoded(image) for image in mesh.images]


def untouched(before, after, inside):
    """Whether texels that show what is outside, and those far from any chart's edited texels, are what they were."""
    from scipy.ndimage import distance_transform_edt

    shown = FACE >= 0
    may = inside | (~shown & (distance_transform_edt(~inside) <= GUTTER))
    return all(np.array_equal(a[~may], b[~may]) for a, b in zip(images(before), images(after), strict=True))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), share=st.floats(0.05, 0.95), color=st.sampled_from(["red", "white", "#102030"]))
def test_texels_outside_a_mask_stay_bit_for_bit(seed, share, color):
    """Of both images, in charts and beside them, whatever the mask."""
    mask = (np.random.default_rng(seed).random((SIZE, SIZE)) < share).astype(np.uint8) * 255
    pipeline = plugins.build("pipelines", {"name": "texture_edit"})
    options = {"mask": mask, "color": color, "metallic": 0.25, "roughness": 0.5}
    edited = pipeline(Request(mesh=BOX, options=options)).mesh
    for old, new in zip(images(BOX), images(edited), strict=True):
        assert np.array_equal(old[mask == 0], new[mask == 0])
        assert (old != new).any()


@settings(max_examples=25, deadline=None)
@given(
    low=st.tuples(*[st.floats(-0.5, 0.1)] * 3),
    size=st.tuples(*[st.floats(0.2, 0.6)] * 3),
    seam=st.sampled_from([0.0, 0.03, 0.2]),
)
def test_texels_outside_a_box_stay_bit_for_bit(low, size, seam):
    """The seam is blended inside the box alone."""
    pipeline = plugins.build("pipelines", {"name": "texture_edit"})
    high = np.add(low, size)
    options = {"box": [*low, *high], "color": "purple", "roughness": 0.9, "seam": seam}
    try:
        edited = pipeline(Request(mesh=BOX, options=options)).mesh
    except MaquetteError as error:
        assert "holds nothing" in str(error) or "texels of its own" in str(error)
        return
    scaled = BOX.vertices * (0.9 / 0.8)  # in the unit cube
    corners = scaled[BOX.faces][np.maximum(FACE, 0)]
    place = np.einsum("yxc,yxci->yxi", SHARE, corners)
    inside = (FACE >= 0) & ((place >= np.array(low) - 1e-5) & (place <= high + 1e-5)).all(-1)
    assert untouched(BOX, edited, inside)


@pytest.mark.parametrize(
    ("text", "parts"),
    [("make the legs red", [0]), ("paint the seat and the legs red", [0, 1]), ("a red seat back please", [2])],
)
def test_an_instruction_colours_the_parts_it_names(edit, text, parts):
    edited = edit(Request(mesh=BOX, options={"instruction": text})).mesh
    inside = (FACE >= 0) & np.isin(BOX.part[FACE], parts)
    assert untouched(BOX, edited, inside)
    mean = to_linear(to_unit(images(edited)[0][inside][:, :3])).mean(axis=0)
    assert np.abs(mean - to_linear(np.array(color_of("red")))).max() < 0.12
    assert edited.materials == BOX.materials and edited.uv is BOX.uv and edited.part is BOX.part
    assert np.array_equal(edited.vertices, BOX.vertices)


def test_a_place_in_words_has_a_soft_seam(edit):
    edited = edit(Request(mesh=BOX, options={"instruction": "make the upper half blue", "seam": 0.1})).mesh
    old, new = images(BOX)[0].astype(int), images(edited)[0].astype(int)
    place = np.einsum("yxc,yxci->yxi", SHARE, BOX.vertices[BOX.faces][np.maximum(FACE, 0)])[..., 1]
    changed = np.abs(new - old)[..., :3].max(-1)
    assert changed[(FACE >= 0) & (place < -1e-3)].max() == 0
    assert changed[(FACE >= 0) & (place > 0) & (place < 0.01)].max() < 40 < changed[(FACE >= 0) & (place > 0.15)].max()


def test_metal_and_finish_change_the_other_image(edit):
    edited = edit(Request(mesh=BOX, options={"instruction": "make the seat matte metal"})).mesh
    inside = (FACE >= 0) & (BOX.part[FACE] == 1)
    assert np.array_equal(images(BOX)[0], images(edited)[0])
    assert (images(edited)[1][inside][:, 2] == 255).all()
    assert images(edited)[1][inside][:, 1].mean() / 255 > 0.8


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), color=st.sampled_from(["red", "green", "blue", "grey"]))
def test_recolouring_keeps_the_detail(seed, color):
    """Ratios of luminance stay where nothing is clipped, and the mean is the colour asked for."""
    linear = np.random.default_rng(seed).random((50, 3)) * 0.2 + 0.2
    made = recolored(linear, Look(color_of(color)))
    assert np.allclose(made.mean(axis=0), to_linear(np.array(color_of(color))), atol=1e-6)
    before, after = linear @ LUMINANCE, made @ LUMINANCE
    assert np.allclose(before / before.mean(), after / after.mean(), atol=1e-6)


def test_a_mesh_without_images_gets_them_and_looks_as_it_did(edit):
    """Factors alone, in one material of two: only what the edit touches is written into an image."""
    materials = (Material("a", (0.5, 0.2, 0.1, 1.0), roughness=0.3), Material("b", (0.1, 0.4, 0.2, 1.0)))
    plain = replace(BOX, materials=materials, images=(), material=np.repeat([0, 1], 6), part=np.repeat([0, 1], 6))
    edited = edit(Request(mesh=plain, options={"part": "legs", "color": "pink", "size": SIZE})).mesh
    assert edited.materials[1] == materials[1] and len(edited.images) == 1
    assert edited.materials[0].base_color == (1.0, 1.0, 1.0, 1.0) and edited.materials[0].roughness == 0.3
    inside = (FACE >= 0) & (FACE < 6)
    assert np.abs(images(edited)[0][inside][:, :3] / 255 - color_of("pink")).max() < 0.01


def test_a_mesh_of_vertex_colours_is_laid_out_first(edit):
    bare = Mesh(BOX.vertices, BOX.faces, np.tile([200, 40, 40, 255], (len(BOX.vertices), 1)), part=BOX.part,
                part_names=BOX.part_names)  # fmt: skip
    edited = edit(Request(mesh=bare, options={"part": "seat", "color": "blue", "size": 128})).mesh
    assert edited.uv is not None and len(edited.images) == 2
    seat = np.unique(edited.faces[edited.part == 1])
    rest = np.setdiff1d(np.arange(len(edited.vertices)), np.unique(edited.faces[np.isin(edited.part, [1])]))
    assert np.abs(edited.colors[seat, :3] / 255 - color_of("blue")).max() < 0.05
    assert np.abs(edited.colors[rest, :3].astype(int) - [200, 40, 40]).max() <= 1


def test_an_image_with_another_role_stays_for_it(edit):
    glowing = replace(BOX.materials[0], emissive=(1.0, 1.0, 1.0), textures={**BOX.materials[0].textures, "emissive": 0})
    edited = edit(Request(mesh=replace(BOX, materials=(glowing,)), options={"part": "seat", "color": "red"})).mesh
    assert edited.images[edited.materials[0].textures["emissive"]] == BOX.images[0]
    assert edited.materials[0].textures["base_color"] == 2


def test_texels_that_two_places_share_stay(edit):
    """Two sides laid on one square: a part of one alone has no texels of its own, and that is said."""
    uv = BOX.uv.copy()
    uv[4:6] = uv[0:2]
    shared = replace(BOX, uv=uv)
    with pytest.raises(MaquetteError, match=r"shares \d+ with the rest .* keep_uv=never"):
        edit(Request(mesh=replace(shared, part=np.array([0, 0, *[1] * 10])), options={"part": "legs", "color": "red"}))


def test_an_opaque_png_stays_without_alpha(edit):
    clear = np.full((8, 8, 4), 128, np.uint8)
    assert decoded(encoded(clear)).tolist() == clear.tolist()
    edited = edit(Request(mesh=BOX, options={"part": "seat", "color": "red"})).mesh
    assert (decoded(edited.images[0])[..., 3] == 255).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "needs a look"),
        ({"instruction": "make the hood red"}, "called 'hood'; it has legs, seat, seat back"),
        ({"instruction": "make the seat"}, "names no look"),
        ({"instruction": "red legs", "part": "seat"}, "leave out part"),
        ({"color": "red", "part": "hood"}, "no part 'hood'"),
        ({"color": "red", "part": "seat", "box": "0,0,0,1,1,1"}, "has one of mask, box"),
        ({"color": "octarine"}, "'octarine' is no colour"),
        ({"metallic": 2}, "option 'metallic' of a texture edit is 2"),
        ({"color": "red", "sphere": "5,5,5,1"}, "holds nothing of the mesh"),
        ({"color": "red", "size": "large"}, "option 'size' is 'large'"),
        ({"color": "red", "seam": "wide"}, "option 'seam' of a texture edit is 'wide'"),
        ({"paint": "red"}, "unknown option 'paint'"),
        ({"color": "red", "mask": np.zeros((4, 4))}, "a mask must be a picture uint8"),
    ],
)
def test_what_cannot_be_done_is_said(edit, options, message):
    with pytest.raises(MaquetteError, match=message):
        edit(Request(mesh=BOX, options=options))
    assert isinstance(edit.batch([Request(mesh=BOX, options=options)])[0], MaquetteError)


def test_words_of_parts():
    names = ["front left wheel", "wheel 2", "leaves", "glass"]
    assert named_parts(["the", "wheels"], names) == (1,)
    assert named_parts(["front", "left", "wheel"], names) == (0,)
    assert singular("shelves") == "shelf" and singular("glass") == "glass" and singular("legs") == "leg"
    said = read_instruction("make the chair light green", [], ["chair"])
    assert said.parts == () and said.place == "" and min(said.look.color) > min(color_of("green"))


def test_a_run_of_surface_paint_fills_a_part(toy_runs):
    """The part is painted anew by a run with the pipeline `texture`, the others stay."""
    paint = plugins.build("pipelines", {"name": "texture_edit", "run": str(toy_runs / "flow")})
    request = Request("a red box", mesh=BOX, options={"part": "seat"})
    edited = paint(request).mesh
    inside = (FACE >= 0) & (BOX.part[FACE] == 1)
    assert untouched(BOX, edited, inside)
    assert all((a[inside] != b[inside]).any() for a, b in zip(images(BOX), images(edited), strict=True))
    assert paint(request).mesh.images == edited.images
