"""Where an edit may change a mesh, and how the changed part meets the rest."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maquette.errors import MaquetteError
from maquette.types import Mesh
from maquette_models.decoders.marching_cubes import MarchingCubes, MarchingCubesConfig, extract
from maquette_models.editing.blended_surface import Seam, blend_weights, blended_field, edited_mesh, interior
from maquette_models.editing.regions import pieces, region_mask
from maquette_models.grid.mesh_fields import colors_near, mesh_field, mesh_grids
from maquette_models.metrics.mesh_topology import is_closed

R = 32
RED, BLUE = (200, 20, 20, 255), (20, 20, 200, 255)


def cell_centres(resolution: int = R) -> torch.Tensor:
    axis = (torch.arange(resolution) + 0.5) / resolution - 0.5
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"))


def ball(center: tuple[float, float, float], radius: float, color: tuple[int, ...] = RED) -> Mesh:
    distance = (cell_centres() - torch.tensor(center).view(3, 1, 1, 1)).norm(dim=0) - radius
    mesh = MarchingCubes(MarchingCubesConfig(0.0))((distance / 0.1).clamp(-1, 1))
    return Mesh(mesh.vertices, mesh.faces, np.tile(np.array(color, np.uint8), (len(mesh.vertices), 1)))


def together(*meshes: Mesh) -> Mesh:
    starts = np.cumsum([0, *[len(mesh.vertices) for mesh in meshes]])
    faces = [mesh.faces + start for mesh, start in zip(meshes, starts, strict=False)]
    colors = np.concatenate([mesh.colors for mesh in meshes])
    return Mesh(np.concatenate([mesh.vertices for mesh in meshes]), np.concatenate(faces), colors)


TWO = together(ball((-0.2, 0, 0), 0.15), ball((0.2, 0, 0), 0.15, BLUE))


def test_a_box_is_the_cells_whose_centres_it_holds() -> None:
    mask = region_mask(TWO, {"box": [[-0.5, 0.0, -0.25], [0.5, 0.5, 0.25]]}, 8, 0.0)
    assert mask[:, 4:, 2:6].all() and mask.sum() == 8 * 4 * 4
    assert np.array_equal(mask, region_mask(TWO, {"box": "-.5, 0, -.25  .5 .5 .25"}, 8, 0.0))


@pytest.mark.parametrize(
    ("words", "axis", "low", "high"),
    [
        ("the upper half", 1, 0.0, 0.5),
        ("top", 1, 0.05, 0.5),
        ("bottom quarter", 1, -0.5, -0.075),
        ("left", 0, 0.35 - 0.7 / 3, 0.5),
        ("right 50 %", 0, -0.5, 0.0),
        ("the front third", 2, 0.05, 0.5),
    ],
)
def test_words_name_a_part_of_the_meshs_own_box(words: str, axis: int, low: float, high: float) -> None:
    mask = region_mask(TWO, {"region": words}, 64, 0.0)
    where = np.argwhere(mask)[:, axis]
    assert abs(where.min() / 64 - 0.5 - low) <= 1.5 / 64 and abs((where.max() + 1) / 64 - 0.5 - high) <= 1.5 / 64
    assert mask.sum() == (where.max() - where.min() + 1) * 64**2


def test_a_part_is_the_nearest_piece_and_nothing_of_the_other() -> None:
    assert len(np.unique(pieces(TWO))) == 2
    mask = region_mask(TWO, {"part": [0.3, 0.1, 0.0]}, R, 0.05)
    x = cell_centres()[0].numpy()
    assert mask.any() and (x[mask] > 0).all()
    inside = (cell_centres() - torch.tensor([0.2, 0, 0]).view(3, 1, 1, 1)).norm(dim=0).numpy() < 0.15
    assert mask[inside].all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "one of box, part and region; got none"),
        ({"box": "0,0,0,1,1,1", "region": "top"}, "got box, region"),
        ({"box": "0,0,0,1,1"}, "box must be 6 numbers"),
        ({"box": "0,0,0,1,1,x"}, "box must be 6 numbers"),
        ({"box": "0,0,0,1,1,-1"}, "low corner must lie below"),
        ({"box": "2,2,2,3,3,3"}, "outside the unit cube"),
        ({"region": "somewhere"}, "names no place"),
    ],
)
def test_regions_that_say_nothing_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(MaquetteError, match=message):
        region_mask(TWO, options, R, 0.0)
    with pytest.raises(MaquetteError, match="one piece"):
        region_mask(ball((0, 0, 0), 0.2), {"part": "0,0,0"}, R, 0.0)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2), st.floats(-0.3, 0.3), st.floats(0, 6), st.floats(0.1, 0.35), st.booleans())
def test_outside_the_mask_the_field_is_the_given_one_and_the_mesh_is_closed(
    axis: int, cut: float, band: float, radius: float, upper: bool
) -> None:
    given_mesh = ball((0.05, -0.02, 0.0), 0.25)
    own = mesh_field(given_mesh, R, 0.1)
    made = ((cell_centres(16).abs().amax(dim=0) - radius) / 0.1).clamp(-1, 1)[None, None]
    mask = (cell_centres()[axis].numpy() > cut) == upper
    weights = blend_weights(interior(mask), band)
    assert (weights[~mask] == 0).all() and (weights[interior(mask)] > 0).all() and weights.max() <= 1
    field = blended_field(own, made, interior(mask), Seam(band, 0.0))
    assert np.array_equal(field[~mask], own[0, 0].numpy()[~mask])
    mesh = edited_mesh(field, interior(mask), given_mesh, torch.full((1, 3, 8, 8, 8), 0.5))
    assert is_closed(mesh)
    placed = mesh.vertices[:, axis]
    outside = (placed < cut - 1.5 / R) if upper else (placed > cut + 1.5 / R)
    assert (mesh.colors[outside] == RED).all()


def test_a_flat_surface_just_outside_the_mask_stays_where_it_is() -> None:
    """It lies between the last cell outside and the first inside; what is generated puts a block on top of it."""
    y = cell_centres()[1]
    top = y - 0.75 / R  # a quarter of a cell above the last centre outside
    own = (torch.maximum(top, cell_centres().abs().amax(dim=0) - 0.3) / 0.1).clamp(-1, 1)[None, None]
    block = torch.minimum(own, ((cell_centres().abs().amax(dim=0) - 0.2) / 0.1).clamp(-1, 1))
    mask = y.numpy() > 1 / R
    field = blended_field(own, block, interior(mask), Seam(2.0, 0.0))
    assert (field < 0).sum() > (own < 0).sum()
    edited, given_surface = (outer_vertices(extract(grid)[0], mask) for grid in (field, own[0, 0].numpy()))
    assert len(edited) and np.array_equal(edited, given_surface)
    with pytest.raises(MaquetteError, match="thinner than three cells"):
        interior(mask & (y.numpy() < 3 / R))


def outer_vertices(vertices: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Those in cells outside the mask, sorted."""
    cell = np.floor((vertices + 0.5) * len(mask)).astype(np.int64).clip(0, len(mask) - 1)
    return np.unique(vertices[~mask[tuple(cell.T)]], axis=0)


def test_what_floats_in_the_region_alone_is_left_out_and_what_was_there_stays() -> None:
    own = mesh_field(TWO, R, 0.1)
    crumb = ((cell_centres() - torch.tensor([0.2, 0.3, 0.0]).view(3, 1, 1, 1)).norm(dim=0) - 0.06) / 0.1
    made = torch.minimum(own[0, 0], crumb.clamp(-1, 1))[None, None]
    mask = cell_centres()[0].numpy() > 0
    kept, cleaned = (blended_field(own, made, interior(mask), Seam(0.0, crumbs)) for crumbs in (0.0, 0.2))
    assert (kept[:, 24:, :] < 0).any() and not (cleaned[:, 24:, :] < 0).any()
    assert np.array_equal(cleaned[~mask], own[0, 0].numpy()[~mask])
    whole = np.ones_like(mask)
    assert (blended_field(own, own, whole, Seam(0.0, 0.9)) < 0).any() == False  # noqa: E712 - nothing is that large


def test_grids_of_a_mesh_are_those_of_its_surface() -> None:
    tsdf, color = mesh_grids(TWO, R, 0.1)
    exact = torch.minimum(
        *[(cell_centres() - torch.tensor([x, 0, 0]).view(3, 1, 1, 1)).norm(dim=0) - 0.15 for x in (-0.2, 0.2)]
    )
    assert (tsdf[0, 0] - (exact / 0.1).clamp(-1, 1)).abs().max() < 0.1
    assert color.shape == (1, 3, 16, 16, 16)
    assert torch.allclose(color[0, :, :8], torch.tensor(RED[:3]).view(3, 1, 1, 1) / 255, atol=1e-3)
    assert torch.allclose(color[0, :, 8:], torch.tensor(BLUE[:3]).view(3, 1, 1, 1) / 255, atol=1e-3)
    gray = colors_near(Mesh(TWO.vertices, TWO.faces), torch.zeros(2, 3))
    assert gray.shape == (2, 3) and (gray == gray[0, 0]).all()
