"""What holds of every surface, whatever field it is of: properties that need no reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Run = Callable[..., tuple[Tensor, ...]]


def open_edges(faces: Tensor) -> int:
    """Directed edges of triangles [F, 3] that occur twice, or whose reverse does not occur."""
    if not len(faces):
        return 0
    ring = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).long()
    size = int(faces.max()) + 1
    forward, counts = (ring[:, 0] * size + ring[:, 1]).unique(return_counts=True)
    backward = (ring[:, 1] * size + ring[:, 0]).unique()
    return int((counts > 1).sum() + (~torch.isin(forward, backward)).sum())


def signed_volume(vertices: Tensor, faces: Tensor) -> float:
    """Volume that closed triangles enclose; positive where they face outwards."""
    a, b, c = vertices.double()[faces.long()].unbind(1)
    return float((a * torch.linalg.cross(b, c)).sum() / 6)


def dense_is_closed(run: Run, arguments: tuple[Any, ...]) -> None:
    """A grid with outside samples around it gives a closed, outward surface, each vertex of it in use."""
    grid, level, clearance = arguments
    vertices, faces, _ = run(torch.nn.functional.pad(grid, [1] * 6, value=level + 1.0), level, clearance)
    assert open_edges(faces) == 0, f"{open_edges(faces)} edges are open"
    assert len(faces.unique()) == len(vertices), "a vertex has no face"
    assert not len(faces) or signed_volume(vertices, faces) > 0, "the surface faces inwards"


def dense_turns(run: Run, arguments: tuple[Any, ...]) -> None:
    """Exchanging axes of the grid exchanges coordinates of the vertices."""
    grid, level, clearance = arguments
    vertices = run(grid, level, clearance)[0]
    turned = run(grid.permute(2, 0, 1).contiguous(), level, clearance)[0]
    assert torch.equal(_sorted_rows(vertices), _sorted_rows(turned[:, [1, 2, 0]])), "turning moves vertices"


def dense_ties_are_outside(run: Run, arguments: tuple[Any, ...]) -> None:
    """A sample exactly at the level counts as one above it."""
    grid, level, clearance = arguments
    coarse = ((grid - level) * 2).round() / 2
    tied = run(coarse + level, level, clearance)
    apart = run(torch.where(coarse == 0, 0.25, coarse) + level, level, clearance)
    assert torch.equal(tied[1], apart[1]) and torch.equal(tied[2], apart[2]), "a sample at the level is not outside"


def sparse_ignores_order(run: Run, arguments: tuple[Any, ...]) -> None:
    """Vertices and faces hang on where samples are, not on the order in which they are given."""
    values, coords, level, clearance = arguments
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(len(values)))
    vertices, faces, edges = run(values, coords, level, clearance)
    shuffled = run(values[order], coords[order], level, clearance)
    assert torch.equal(vertices, shuffled[0]) and torch.equal(faces, shuffled[1]), "the order of samples matters"
    assert torch.equal(edges, order[shuffled[2]]), "edges do not follow their samples"


def sparse_moves(run: Run, arguments: tuple[Any, ...]) -> None:
    """Moving all samples by whole steps, past zero as well, moves the vertices."""
    values, coords, level, clearance = arguments
    step = torch.tensor([0, -5, 3, 1000], dtype=coords.dtype)
    vertices, faces, edges = run(values, coords, level, clearance)
    moved = run(values, coords + step, level, clearance)
    assert torch.equal(faces, moved[1]) and torch.equal(edges, moved[2]), "moving the samples changes the surface"
    assert torch.allclose(vertices + step[1:], moved[0], rtol=0, atol=2e-4), "vertices do not move along"


def sparse_batches(run: Run, arguments: tuple[Any, ...]) -> None:
    """A batch gives the surfaces of its elements one after another."""
    values, coords, level, clearance = arguments
    vertices, faces, _ = run(values, coords, level, clearance)
    seen, begun = 0, 0
    for number in coords[:, 0].unique():
        own = coords[:, 0] == number
        alone = run(values[own], coords[own], level, clearance)
        there, triangles = vertices[seen : seen + len(alone[0])], faces[begun : begun + len(alone[1])]
        assert torch.equal(alone[0], there) and torch.equal(alone[1] + seen, triangles), "batch elements mix"
        seen, begun = seen + len(alone[0]), begun + len(alone[1])
    assert (seen, begun) == (len(vertices), len(faces)), "the batch holds more than its elements"


def _sorted_rows(points: Tensor) -> Tensor:
    for column in (2, 1, 0):
        points = points[points[:, column].sort(stable=True).indices]
    return points
