"""Grids of distances in a narrow band, from coarse to fine: exact where the surface is near, signs elsewhere."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from maquette.errors import MaquetteError
from maquette_kernels.distance.mesh_query import MeshQuery

BLOCK = 4
COARSEST = 8
"""Blocks a side at which the search begins."""
UNSURE = (0.1, 0.9)
"""Winding numbers of a block that no surface passes through between which its cells are asked one by one."""
AT_ONCE = 1 << 15
"""Blocks whose cells are asked together."""


class _Grid:
    """The cells of a cube, in blocks of BLOCK^3, which may stick out of it behind the last cell."""

    def __init__(self, mesh: MeshQuery, resolution: int, low: float, side: float) -> None:
        self.mesh, self.resolution, self.low, self.cell = mesh, resolution, low, side / resolution
        self.blocks = -(-resolution // BLOCK)
        axis = (torch.arange(BLOCK, dtype=mesh.vertices.dtype) + 0.5 - BLOCK / 2) * self.cell
        self.offsets = torch.cartesian_prod(axis, axis, axis).to(mesh.vertices.device)

    def centres(self, block: Tensor, step: int) -> Tensor:
        """Centres [N, 3] of runs of step^3 blocks that begin at block int64 [N, 3]."""
        return (block + step / 2).to(self.offsets.dtype) * (BLOCK * self.cell) + self.low

    def reach(self, step: int) -> float:
        """From such a centre to the centre of the farthest cell."""
        return 3**0.5 / 2 * (BLOCK * step - 1) * self.cell

    def number(self, block: Tensor) -> Tensor:
        """Numbers [N] of blocks [N, 3]."""
        return (block[:, 0] * self.blocks + block[:, 1]) * self.blocks + block[:, 2]


def sdf_grid(
    vertices: Tensor, faces: Tensor, resolution: int, *, band: float, low: float = -0.5, side: float = 1.0,
    signed: bool = True,
) -> Tensor:  # fmt: skip
    """Distances to a mesh at the centres of a cube's cells, clamped to a band; no gradients.

    Blocks of cells farther than the band are given up from coarse to fine, so the work grows with the surface.
    Signs are those of :func:`maquette_kernels.distance.functions.inside_mesh`: asked cell by cell in blocks that
    the surface may pass through, and near holes, where the winding number of a block is neither about 0 nor about
    1; elsewhere its centre decides for a block.

    Args:
        vertices: [V, 3], float32 or float64.
        faces: int32 or int64 [F, 3].
        resolution: cells a side, 1 or more.
        band: distance at which values are cut off, over 0, in the unit of vertices.
        low: the cube's lowest corner, on each axis.
        side: its length.
        signed: negative inside; otherwise distances only.

    Returns:
        [R, R, R], [x, y, z] order, dtype of vertices, between -band and band. The whole band where there is no face.

    Raises:
        MaquetteError: shapes or dtypes that do not fit, or a resolution, band or side that is not over 0.
    """
    if resolution < 1 or not band > 0 or not side > 0:
        told = f"resolution {resolution}, band {band}, side {side}"
        raise MaquetteError(f"sdf_grid: {told}: each must be over 0")
    grid = _Grid(MeshQuery(vertices, faces), resolution, low, side)
    cells = grid.offsets.new_full((grid.blocks**3, BLOCK**3), band)
    near, away = _walk(grid, cells, band, signed)
    for part in range(0, len(near), AT_ONCE):
        _ask(grid, cells, near[part : part + AT_ONCE], away[part : part + AT_ONCE], signed)
    cells.clamp_(-band, band)
    names = {"i": grid.blocks, "j": grid.blocks, "a": BLOCK, "b": BLOCK}
    whole = rearrange(cells, "(i j k) (a b c) -> (i a) (j b) (k c)", **names)
    return whole[:resolution, :resolution, :resolution].contiguous()


def _walk(grid: _Grid, cells: Tensor, band: float, signed: bool) -> tuple[Tensor, Tensor]:
    """Blocks [N, 3] that are near, and how far their centres are; signs of the others are filled in."""
    step = 1
    while grid.blocks > COARSEST * step:
        step *= 2
    device = cells.device
    axis = torch.arange(0, grid.blocks, step, device=device)
    block = torch.cartesian_prod(axis, axis, axis)
    corners = torch.cartesian_prod(*[torch.arange(2, device=device)] * 3)
    while True:
        away = grid.mesh.closest(grid.centres(block, step))[0]
        near = away <= band + grid.reach(step)
        if signed and not near.all():
            _sign_far(grid, cells, block[~near], step, band)
        block, away = block[near], away[near]
        if step == 1:
            return block, away
        step //= 2
        block = (block[:, None] + corners * step).flatten(0, 1)
        block = block[(block < grid.blocks).all(1)]


def _sign_far(grid: _Grid, cells: Tensor, block: Tensor, step: int, band: float) -> None:
    """Fills in runs of blocks that no surface is near to."""
    number = grid.mesh.winding_number(grid.centres(block, step))
    unsure = (number > UNSURE[0]) & (number < UNSURE[1])
    for chosen, by_cell in (((number >= UNSURE[1]), False), (unsure, True)):
        every = torch.cartesian_prod(*[torch.arange(step, device=block.device)] * 3).view(-1, 3)
        inner = (block[chosen][:, None] + every).flatten(0, 1)
        inner = inner[(inner < grid.blocks).all(1)]
        if by_cell:
            places = (grid.centres(inner, 1)[:, None] + grid.offsets).flatten(0, 1)
            inside = grid.mesh.inside(places).view(-1, BLOCK**3)
            cells[grid.number(inner)] = torch.where(inside, -band, band).to(cells.dtype)
        else:
            cells[grid.number(inner)] = -band


def _ask(grid: _Grid, cells: Tensor, block: Tensor, away: Tensor, signed: bool) -> None:
    """Fills in blocks that are near: each cell its distance, and its sign from its block or its own."""
    centres = grid.centres(block, 1)
    distance = grid.mesh.around(centres, away, grid.reach(1), grid.offsets)
    if signed:
        alike = away > grid.reach(1)  # no surface passes between the cells
        number = torch.full_like(away, 0.5)
        number[alike] = grid.mesh.winding_number(centres[alike])
        alike = (number <= UNSURE[0]) | (number >= UNSURE[1])
        inside = (number > 0.5)[:, None].repeat(1, BLOCK**3)
        inside[~alike] = _inside(grid, centres[~alike], distance[~alike])
        distance = torch.where(inside, -distance, distance)
    cells[grid.number(block)] = distance


def _inside(grid: _Grid, centres: Tensor, distance: Tensor) -> Tensor:
    """Whether the cells of blocks are inside, bool [N, cells], by eights: those share their sign if one of them is
    farther from the surface than they are apart.
    """
    half = {"x": 2, "y": 2, "z": 2, "a": 2, "b": 2}
    places = rearrange(centres[:, None] + grid.offsets, "n (a x b y c z) d -> (n a b c) (x y z) d", c=2, **half)
    eights = rearrange(distance, "n (a x b y c z) -> (n a b c) (x y z)", c=2, **half)
    farthest, which = eights.max(1)
    alike = farthest > 1.001 * 3**0.5 * grid.cell
    inside = torch.empty_like(eights, dtype=torch.bool)
    inside[alike] = grid.mesh.inside(places[alike, which[alike]])[:, None]
    inside[~alike] = grid.mesh.inside(places[~alike].flatten(0, 1)).view(-1, 8)
    return rearrange(inside, "(n a b c) (x y z) -> n (a x b y c z)", c=2, **half)
