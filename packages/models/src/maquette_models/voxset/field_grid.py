"""Grids of a decoder's fields, asked for only where a surface can be, and the mesh of a latent.

Grids are made in pieces: generators yield None after each chunk of queries, and an engine does other work between.
"""

from __future__ import annotations

import math
from collections.abc import Generator

import torch
from einops import rearrange
from torch import Tensor

from maquette.errors import MaquetteError
from maquette_models.decoders.marching_cubes import MarchingCubes, MarchingCubesConfig
from maquette_models.reconstructs import Reconstruction
from maquette_models.voxset.anchors import Anchors, to_voxels
from maquette_models.voxset.field_decoder import FieldDecoder

Pieces = Generator[None, None, Tensor]
CHUNK = 16384  # queries at once
CERTAIN = 0.9  # of the truncation: a coarse value beyond it is taken at its word
GRAY = 0.5


def centres(resolution: int, device: torch.device | None = None) -> Tensor:
    """Centres of the cells of the unit cube, float32 [R,R,R,3]."""
    axis = (torch.arange(resolution, device=device) + 0.5) / resolution - 0.5
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1)


def finished(pieces: Pieces) -> Tensor:
    """What pieces come to, one right after the other."""
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            found: Tensor = end.value
            return found


def ask(decoder: FieldDecoder, tokens: Tensor, anchors: Anchors, points: Tensor, side: int) -> Pieces:
    """Values [P,V] of one shape's field at points [P,3] of the unit cube; `side` is that of the anchors' grid."""
    found = []
    for part in to_voxels(points, side).split(CHUNK):
        found.append(decoder.values(tokens, anchors, part[None])[0])
        yield None
    return torch.cat(found)


def coarse_step(resolution: int, truncation: float) -> int:
    """How many fine cells a side a coarse cell has: the largest power of two such that a surface farther from its
    centre than `CERTAIN` passes neither through it nor between it and the next fine cell."""
    step = 1
    while resolution % (2 * step) == 0 and (step + 0.5) * math.sqrt(3) / resolution <= CERTAIN * truncation:
        step *= 2
    return step


def tsdf_grid(
    decoder: FieldDecoder, tokens: Tensor, anchors: Anchors, resolution: int, *, side: int, truncation: float
) -> Pieces:
    """Distance [1,R,R,R] of one shape's tokens [1,N,W], in truncations, clipped to [-1,1].

    A coarse grid comes first. Where it says that the surface is too far off to matter, its sign stands; all other cells
    are asked for. With true distances the surface is that of the full grid.
    """
    step = coarse_step(resolution, truncation)
    fine = centres(resolution, tokens.device)
    by_cell = rearrange(fine, "(x p) (y q) (z r) d -> (x y z) (p q r) d", p=step, q=step, r=step)
    value = yield from ask(decoder, tokens, anchors, by_cell.mean(dim=1), side)
    value = value[:, 0].clamp(-1, 1)
    grid = value.sign()[:, None].repeat(1, step**3)
    near = value.abs() < CERTAIN
    inside = by_cell[near].flatten(0, 1)
    asked = yield from ask(decoder, tokens, anchors, inside, side)
    grid[near] = asked[:, 0].clamp(-1, 1).view(-1, step**3)
    cells = resolution // step
    return rearrange(grid, "(x y z) (p q r) -> 1 (x p) (y q) (z r)", x=cells, y=cells, z=cells, p=step, q=step, r=step)


def color_grid(decoder: FieldDecoder, tokens: Tensor, anchors: Anchors, resolution: int, *, side: int) -> Pieces:
    """Colour [3,R,R,R] in [0,1] of one shape's tokens [1,N,W], near its anchors; gray elsewhere."""
    points = centres(resolution, tokens.device).flatten(0, 2)
    cells = ((points + 0.5) * side).long()
    reach = torch.zeros([side] * 3, dtype=torch.bool, device=tokens.device)
    reach[anchors.positions[anchors.mask].round().long().unbind(-1)] = True
    pooled = torch.nn.functional.max_pool3d(reach[None, None].float(), 5, stride=1, padding=2)[0, 0] > 0
    near = pooled[cells.unbind(-1)]
    colors = torch.full((len(points), 3), GRAY, device=tokens.device)
    asked = yield from ask(decoder, tokens, anchors, points[near], side)
    colors[near] = (asked * 0.5 + 0.5).clamp(0, 1)
    return rearrange(colors, "(x y z) c -> c x y z", x=resolution, y=resolution, z=resolution)


def extracted(tsdf: Tensor, color: Tensor, tokens: int) -> Reconstruction:
    """The coloured mesh of a distance grid [1,R,R,R] and a colour grid [3,S,S,S] of one latent of so many tokens."""
    try:
        mesh = MarchingCubes(MarchingCubesConfig(min_component=0.0))(tsdf, color)
    except MaquetteError:  # nothing is inside
        mesh = None
    return Reconstruction(mesh, tsdf, tokens)
