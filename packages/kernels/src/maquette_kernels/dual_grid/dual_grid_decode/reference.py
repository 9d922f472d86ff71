"""``dual_grid_decode`` as it is defined: look up the voxels around each crossed edge, then cut the quads."""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

import torch
from torch import Tensor

MARGIN = 1e-9
"""By how much the other diagonal must bend less to be taken, as a cosine: a flat quad is cut the same everywhere."""


def reference(
    voxels: Tensor,
    points: Tensor,
    edges: Tensor,
    signs: Tensor | None,
    weights: Tensor | None,
    resolution: int,
    blend: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Vertices, faces, and the voxel that each vertex comes from."""
    quads, owners = _quads(voxels, edges, signs)
    places = voxels[:, -3:].double() + points.double()
    used = torch.unique(quads)
    vertices = places[used] / resolution - 0.5
    corner = torch.searchsorted(used, quads)
    if blend:
        centre = _centres(vertices[corner], None if weights is None else weights.double()[quads])
        own = torch.arange(len(used), len(used) + len(quads), device=quads.device)
        cut = [torch.stack([corner[:, i], corner[:, (i + 1) % 4], own], 1) for i in range(4)]
        faces = torch.stack(cut, 1).reshape(-1, 3)
        vertices, used = torch.cat([vertices, centre]), torch.cat([used, owners])
    else:
        other = _bends(places[quads]) if weights is None else _heavier(weights.double()[quads])
        turned = torch.where(other[:, None], corner.roll(-1, 1), corner)
        faces = turned[:, [0, 1, 2, 0, 2, 3]].reshape(-1, 3)
    return vertices.to(points.dtype), faces.int(), used.int()


def _quads(voxels: Tensor, edges: Tensor, signs: Tensor | None) -> tuple[Tensor, Tensor]:
    """Voxels round each crossed edge that has all four, int64 [Q, 4], and the one that it leaves, [Q]."""
    index = {tuple(voxel): n for n, voxel in enumerate(voxels.tolist())}
    crossed = edges.tolist()
    looks = None if signs is None else signs.tolist()
    quads, owners = [], []
    for axis in range(3):
        for n, voxel in enumerate(voxels.tolist()):
            around = [index.get(tuple(_moved(voxel, axis, u, v))) for u, v in ((1, 1), (0, 1), (0, 0), (1, 0))]
            if crossed[n][axis] and None not in around:
                quads.append(around if looks is None or looks[n][axis] else around[::-1])
                owners.append(n)
    device = voxels.device
    return torch.tensor(quads, device=device).long().reshape(-1, 4), torch.tensor(owners, device=device).long()


def _moved(voxel: list[int], axis: int, u: int, v: int) -> list[int]:
    """The voxel u steps down along the axis after ``axis``, v along the one after that."""
    moved, first = list(voxel), len(voxel) - 3
    moved[first + (axis + 1) % 3] -= u
    moved[first + (axis + 2) % 3] -= v
    return moved


def _bends(corners: Tensor) -> Tensor:
    """Whether quads [Q, 4, 3] bend less over the diagonal 1-3 than over 0-2."""

    def cosine(a: int, b: int, c: int, d: int) -> Tensor:
        p, q, r, s = (corners[:, i] for i in (a, b, c, d))
        one, two = torch.linalg.cross(q - p, r - p), torch.linalg.cross(r - p, s - p)
        lengths: Tensor = one.norm(dim=1) * two.norm(dim=1)
        along: Tensor = (one * two).sum(1)
        return along / lengths.clamp(min=1e-300)

    other: Tensor = cosine(1, 2, 3, 0) > cosine(0, 1, 2, 3) + MARGIN
    return other


def _heavier(weights: Tensor) -> Tensor:
    """Whether the diagonal 1-3 has the larger product of weights [Q, 4]."""
    return weights[:, 1] * weights[:, 3] > weights[:, 0] * weights[:, 2]


def _centres(corners: Tensor, weights: Tensor | None) -> Tensor:
    """The mean of the middles of both diagonals of quads [Q, 4, 3], by the products of weights [Q, 4]."""
    first, second = (corners[:, 0] + corners[:, 2]) / 2, (corners[:, 1] + corners[:, 3]) / 2
    if weights is None:
        return (first + second) / 2
    one, two = weights[:, 0] * weights[:, 2], weights[:, 1] * weights[:, 3]
    return (one[:, None] * first + two[:, None] * second) / (one + two)[:, None]
