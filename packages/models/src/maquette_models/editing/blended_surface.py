"""A mesh of two fields: the given mesh's own outside a region, the generated one inside, and a closed seam between."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from maquette.errors import MaquetteError
from maquette.types import Mesh
from maquette_models.decoders.marching_cubes import colors_at, extract
from maquette_models.grid.mesh_fields import colors_near


@dataclass(frozen=True)
class Seam:
    """How the fields meet: over `band` cells inside the region; what floats in it alone and has less than `crumbs` of
    the whole volume is left out."""

    band: float
    crumbs: float


def interior(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The cells [R,R,R] of a mask that have no neighbour outside it, diagonal ones counted.

    The surface is interpolated between the centres of cells: were the outermost cells of the mask to change, it would
    move in the outer half of the step to their neighbours, and flat parts there by any distance. The end of the cube is
    no end of the region.

    Raises:
        MaquetteError: the mask has no such cell.
    """
    within = ndimage.binary_erosion(np.pad(mask, 1, mode="edge"), np.ones((3, 3, 3)), border_value=1)[1:-1, 1:-1, 1:-1]
    if not within.any():
        raise MaquetteError(f"the region is thinner than three cells of 1/{len(mask)}; choose it larger")
    return within


def blend_weights(within: NDArray[np.bool_], band: float) -> NDArray[np.float32]:
    """The share [R,R,R] of what is generated: 0 outside of `within`, rising to 1 within `band` cells of its border."""
    depth = ndimage.distance_transform_edt(np.pad(within, 1, mode="edge"))[1:-1, 1:-1, 1:-1]
    return np.clip(depth / (band + 1), 0, 1).astype(np.float32)


def blended_field(own: Tensor, generated: Tensor, within: NDArray[np.bool_], seam: Seam) -> NDArray[np.float32]:
    """The distance field [R,R,R] of the edited mesh, whose surface outside the mask is that of `own` [1,1,R,R,R], bit
    for bit.

    `generated` [1,1,S,S,S] may be of any resolution; `within` is the mask's `interior`.
    """
    made = generated.float().clamp(-1, 1)
    if made.shape != own.shape:
        made = F.interpolate(made, size=own.shape[2:], mode="trilinear", align_corners=False)
    share = torch.from_numpy(blend_weights(within, seam.band))
    field = torch.where(share > 0, torch.lerp(own[0, 0], made[0, 0], share), own[0, 0]).numpy()
    return without_floating(field, within, seam.crumbs)


def without_floating(field: NDArray[np.float32], mask: NDArray[np.bool_], crumbs: float) -> NDArray[np.float32]:
    """The field without small bodies that lie wholly in the mask."""
    inside = field < 0
    label, count = ndimage.label(inside)
    sizes = np.bincount(label.ravel(), minlength=count + 1)
    kept = sizes >= crumbs * inside.sum()
    kept[np.unique(label[~mask])] = True
    return np.where(kept[label], field, np.abs(field)).astype(np.float32)


def edited_mesh(field: NDArray[np.float32], within: NDArray[np.bool_], given: Mesh, color: Tensor) -> Mesh:
    """The surface of a field, coloured as the given mesh outside of `within`, by the grid `color` [1,3,S,S,S] inside.

    Colours change within a cell: over the width of a distance's band they would be mixtures that nobody asked for.
    """
    vertices, faces = extract(field)
    placed = vertices.astype(np.float32)
    own = colors_near(given, torch.from_numpy(placed)).numpy()
    made = colors_at(vertices, color[0].float().numpy())[:, :3] / 255
    where = ((vertices + 0.5) * len(within) - 0.5).T
    share = ndimage.map_coordinates(within.astype(np.float32), where, order=1, mode="nearest")[:, None]
    rgb = np.rint(255 * (own + share * (made - own))).clip(0, 255).astype(np.uint8)
    opaque = np.full((len(rgb), 1), 255, np.uint8)
    return Mesh(placed, faces.astype(np.int32), np.concatenate([rgb, opaque], axis=1))
