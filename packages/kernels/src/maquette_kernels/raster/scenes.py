"""Meshes to draw in tests and benchmarks."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_KINDS = 5


def draw_scene(seed: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """A few triangles in one or two pictures: positions [B, V, 4] in clip space and faces int32 [F, 3].

    Every third is a tiling of squares. In others corners lie on a lattice of 1/2 or 1/8 pixel (edges and corners meet
    middles of pixels) or anywhere; w is 1, a power of two, or anything; some corners may lie behind the camera or far
    outside; some faces come twice, turned.
    """
    generator = torch.Generator().manual_seed(seed)

    def number(low: int, high: int) -> int:
        return int(torch.randint(low, high, (), generator=generator))

    batch, count, kind = number(0, 3), number(3, 12), number(0, _KINDS)
    if number(0, 3) == 0:
        return _tiling(number(1, 4), number(0, 4), batch, (height, width))
    sizes = torch.tensor([width, height])
    steps = (2, 8)[number(0, 2)]
    pixels = torch.randint(-2 * steps, (max(width, height) + 2) * steps, (batch, count, 2), generator=generator) / steps
    if kind >= 3:
        pixels = pixels + torch.rand(pixels.shape, generator=generator)
    w = torch.ones(batch, count, 1)
    if kind >= 1:
        w = 2.0 ** torch.randint(-1, 2, w.shape, generator=generator)
    if kind >= 3:
        w = 0.5 + torch.rand(w.shape, generator=generator)
    z = torch.rand(w.shape, generator=generator) * 1.9 - 0.9
    positions = torch.cat([(pixels / sizes * 2 - 1) * w, z * w, w], -1)
    if kind == 4:
        odd = torch.rand(batch, count, generator=generator)
        positions[..., 3] = torch.where(odd < 0.3, -positions[..., 3], positions[..., 3])
        positions[..., :2] *= torch.where(odd > 0.8, 1e6, 1.0)[..., None]
    faces = torch.randint(0, count, ((0, 1, 7, 16, 23)[number(0, 5)], 3), generator=generator)
    twice = torch.randint(0, max(len(faces), 1), (number(0, 4) if len(faces) else 0,), generator=generator)
    return positions, torch.cat([faces, faces[twice].flip(-1)]).to(torch.int32)


def _tiling(squares: int, shift: int, batch: int, sides: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """A picture covered by squares cut in two, all equally far: each pixel on an edge belongs to one of its faces."""
    step = -(-max(sides) // squares)
    line = torch.arange(squares + 1).float() * step + 0.5 * (shift - 1)
    x, y = torch.meshgrid(line, line, indexing="xy")
    pixels = torch.stack([x, y], -1).reshape(-1, 2) / torch.tensor([sides[1], sides[0]]) * 2 - 1
    positions = torch.cat([pixels, torch.zeros(len(pixels), 1), torch.ones(len(pixels), 1)], -1)
    cell = (torch.arange(squares)[:, None] * (squares + 1) + torch.arange(squares)).flatten()
    upper = torch.stack([cell, cell + 1, cell + squares + 1], -1)
    lower = torch.stack([cell + 1, cell + squares + 1, cell + squares + 2], -1)
    return positions.expand(batch, -1, -1).contiguous(), torch.cat([lower, upper]).to(torch.int32)


def bumpy_sphere(rings: int) -> tuple[Tensor, Tensor]:
    """A closed sphere with bumps, of about ``4 * rings**2`` faces: vertices float64 [V, 3], faces int32 [F, 3]."""
    spokes = 2 * rings
    around = torch.arange(spokes).double() * (2 * math.pi / spokes)
    down = (torch.arange(rings - 1).double() + 1) * (math.pi / rings)
    radius = 0.8 + 0.05 * torch.sin(9 * down)[:, None] * torch.cos(7 * around)
    x, z = down.sin()[:, None] * around.cos() * radius, down.sin()[:, None] * around.sin() * radius
    ring = torch.stack([x, (down.cos()[:, None] * radius).expand_as(x), z], -1).reshape(-1, 3)
    poles = torch.tensor([[0, 0.8, 0], [0, -0.8, 0]], dtype=torch.float64)
    place = torch.arange(len(ring)).reshape(rings - 1, spokes)
    here, beside = place, place.roll(-1, 1)
    a, b, c, d = here[:-1], beside[:-1], here[1:], beside[1:]
    body = torch.cat([torch.stack([a, b, c], -1).reshape(-1, 3), torch.stack([b, d, c], -1).reshape(-1, 3)])
    north, south = torch.full((spokes,), len(ring)), torch.full((spokes,), len(ring) + 1)
    caps = [torch.stack([north, beside[0], here[0]], -1), torch.stack([south, here[-1], beside[-1]], -1)]
    return torch.cat([ring, poles]), torch.cat([*caps, body]).to(torch.int32)


def facing_camera(vertices: Tensor, away: float = 3.0, near: float = 0.1, far: float = 10.0) -> Tensor:
    """Points [V, 3] seen from ``away`` along the z axis under about 35 degrees, in clip space [V, 4]."""
    x, y, z = vertices.unbind(-1)
    ahead = away - z
    focal = 3.2
    depth = ahead * ((far + near) / (far - near)) - 2 * far * near / (far - near)
    return torch.stack([focal * x, -focal * y, depth, ahead], -1)
