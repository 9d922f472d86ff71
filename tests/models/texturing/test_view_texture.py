"""From pictures of shapes to tokens, and from a request with a mesh to the same mesh painted by its views."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maquette import plugins
from maquette.assets import open_pipeline
from maquette.errors import MaquetteError
from maquette.placement import in_unit_cube
from maquette.testing import check_dataset, check_pipeline, check_pipeline_on_device
from maquette.types import Request
from maquette_models.texturing.view_attributes import decoded
from maquette_models.texturing.view_painter import KnownPictures
from maquette_models.texturing.view_scene import viewed
from maquette_models.texturing.view_texture import ViewTexture
from maquette_models.texturing.view_tokens import ATTRIBUTES, NEAR, SHAPE, attribute_patches, pictures, view_tokens
from tests.models.texturing import painted_shapes
from tests.models.texturing import toy_views as toy

toy.install()

STEPS = 60


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.train_run(tmp_path_factory.mktemp("runs"), STEPS)


@pytest.fixture(scope="module")
def pipeline(run: Path) -> ViewTexture:
    return open_pipeline(run)


def dataset(**changes):
    data = plugins.build("datasets", toy.block(**changes))
    data.setup("fit")
    return data


def test_dataset_contract():
    check_dataset(dataset, batches=6)


def test_batches_hold_what_the_shards_show():
    """Attributes come back from the normalised tokens; what is given are unit normals and places near the voxel."""
    data = dataset()
    batch, facts = data.val_dataloader()[0], data.facts()
    mean, std = (torch.tensor(facts[key]) for key in ("latent_mean", "latent_std"))
    assert facts["latent_channels"] == 16 * ATTRIBUTES and facts["given_channels"] == 16 * SHAPE
    mask = batch["token_mask"]
    shown = (batch["latent"] * std + mean)[mask].unflatten(-1, (-1, ATTRIBUTES))
    kinds = batch["caption"]
    for row, caption in enumerate(kinds):
        color, kind = caption.split()[1:]
        expected = torch.tensor([*toy.COLORS[color], *toy.FINISH[kind]])
        own = (batch["latent"][row] * std + mean)[mask[row]].unflatten(-1, (-1, ATTRIBUTES))
        assert (own - expected).abs().max() < 0.01
    assert shown.min() > -0.01 and not batch["latent"][~mask].any()
    given = batch["given"][mask].unflatten(-1, (-1, SHAPE))
    length = given[..., :3].norm(dim=-1)
    assert ((length - 1).abs()[length > 0] < 1e-2).all()
    assert (batch["positions"][mask] >= 0).all() and (batch["positions"][mask] < 16).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), views=st.integers(1, 3), patch=st.sampled_from([2, 4, 8]))
def test_pictures_come_back_from_tokens(seed, views, patch):
    """Covered pixels exactly; a patch that sees nothing is no token; places are those beside the voxel's middle."""
    generator = torch.Generator().manual_seed(seed)
    covered = torch.rand(views, 8, 8, generator=generator) < 0.2
    covered[:, 0, 0] = True
    position = torch.rand(views, 3, 8, 8, generator=generator) - 0.5
    normal = torch.nn.functional.normalize(torch.randn(views, 3, 8, 8, generator=generator), dim=1)
    attributes = torch.rand(views, ATTRIBUTES, 8, 8, generator=generator)
    tokens = view_tokens(position, normal * covered[:, None], covered, patch, 16)
    values = attribute_patches(attributes, tokens, patch)
    back = pictures(values, tokens.slots, views, 8, patch)
    assert torch.equal(back.movedim(1, -1)[covered], attributes.movedim(1, -1)[covered])
    assert tokens.covered.any(dim=1).all() and int(tokens.covered.sum()) == int(covered.sum())
    middle = (tokens.positions + 0.5) / 16 - 0.5
    places = tokens.given.unflatten(1, (-1, SHAPE))[..., 3:] / NEAR + middle[:, None]
    whole = pictures(places.flatten(1), tokens.slots, views, 8, patch)
    assert torch.allclose(whole.movedim(1, -1)[covered], position.movedim(1, -1)[covered], atol=1e-6)


def test_pipeline_contract(pipeline):
    check_pipeline(pipeline, Request("a red box", seed=3, mesh=toy.mesh_of(1)))


def test_models_compute_on_another_device(run: Path) -> None:
    check_pipeline_on_device(lambda: open_pipeline(run), Request("a red box", seed=3, steps=3, mesh=toy.mesh_of(1)))


def color(asset):
    return decoded(asset.mesh.images[0])[..., :3].mean(axis=(0, 1)) / 255


def test_the_prompt_says_the_colour_and_the_shape_stays(pipeline):
    mesh = toy.mesh_of(2)
    far = replace(mesh, vertices=mesh.vertices * 40 + np.float32(7), unit_m=0.01)
    red, blue = (pipeline(Request(f"a {name} globe", mesh=far)) for name in ("red", "blue"))
    assert color(red)[0] > color(red)[2] + 0.2 and color(blue)[2] > color(blue)[0] + 0.2
    for name in ("vertices", "faces", "uv"):
        assert np.array_equal(getattr(red.mesh, name), getattr(far, name))
    assert red.mesh.unit_m == 0.01 and red.metadata["views"] == toy.VIEWS
    assert red.metadata["texels_seen"] > 0.4 and len(red.mesh.images) == 2
    again = pipeline(Request("a red globe", mesh=far))
    assert again.mesh.images == red.mesh.images
    assert pipeline(Request("a red globe", seed=1, mesh=far)).mesh.images != red.mesh.images


def test_views_of_a_sampled_mesh_keep_what_is_known(pipeline):
    """Pixels that are not free come back exactly, the others are painted."""
    painter = pipeline.painter
    scene = viewed(in_unit_cube(toy.mesh_of(0)), 2, toy.SIZE, 8)
    covered = scene.maps.covered
    known = torch.full((2, ATTRIBUTES, toy.SIZE, toy.SIZE), 0.25) * covered[:, None]
    free = covered & (scene.maps.position[:, 1] > 0)
    found = painter.paint(Request("a red globe"), scene, KnownPictures(known, free, 2))
    kept = (covered & ~free)[:, None].expand_as(found)
    assert torch.allclose(found[kept], known[kept], atol=1e-5)
    assert (found - known).abs()[free[:, None].expand_as(found)].mean() > 0.05


def test_a_run_paints_a_region_anew(run):
    """The upper half takes the prompt's colour, the lower half stays bit for bit."""
    painted, atlas = painted_shapes.textured(toy.mesh_of(2), 64)
    edit = plugins.build("pipelines", {"name": "texture_edit", "run": str(run), "rounds": 1})
    asset = edit(Request("a red globe", mesh=painted, options={"region": "upper half", "seam": 0.0}))
    height = atlas.points.positions[:, 1]
    rows = atlas.covered.nonzero().numpy()
    for place in (0, 1):
        old, new = (decoded(mesh.images[place])[rows[:, 0], rows[:, 1]] for mesh in (painted, asset.mesh))
        assert np.array_equal(old[height < 0], new[height < 0])
    upper = decoded(asset.mesh.images[0])[rows[:, 0], rows[:, 1]][height > 0.05].mean(axis=0)
    assert upper[0] > upper[2] + 30


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request("a red box"), "paints a mesh"),
        (Request("a red box", options={"sise": 3}), "unknown option 'sise'"),
        (Request("a red box", options={"size": 0}), "option 'size' is 0"),
        (Request("a red box", options={"keep_uv": "maybe"}), "maybe"),
        (Request("a red box", class_name="chair"), "chair"),
    ],
)
def test_what_cannot_be_done_is_said(pipeline, request_, message):
    mesh = None if message == "paints a mesh" else toy.mesh_of(1)
    with pytest.raises(MaquetteError, match=message):
        pipeline(replace(request_, mesh=mesh))


def test_pictures_that_do_not_divide_into_patches_are_refused():
    with pytest.raises(MaquetteError, match="pictures of 16 pixels, patches have 5"):
        dataset(patch=5)
