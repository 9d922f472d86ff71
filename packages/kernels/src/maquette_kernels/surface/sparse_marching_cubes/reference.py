"""Marching cubes of sparse samples in plain Python, cell by cell."""

from __future__ import annotations

import torch
from torch import Tensor

from maquette_kernels.surface import cases
from maquette_kernels.surface.edges import edge_weights

Sample = tuple[int, ...]


def reference(values: Tensor, coords: Tensor, level: float, clearance: float) -> tuple[Tensor, Tensor, Tensor]:
    """The triangles of every cell that has all eight samples, and a vertex on each of their edges, in order."""
    where = {tuple(sample): number for number, sample in enumerate(coords.tolist())}
    inside = (values.detach() < level).tolist()
    triangles = [corner for first in sorted(where) for corner in _triangles(first, where, inside)]
    ends = sorted(set(triangles))
    number = {edge: index for index, edge in enumerate(ends)}
    faces = torch.tensor([number[edge] for edge in triangles], dtype=torch.int32, device=values.device)
    pairs = [(where[sample], where[_step(sample, axis)]) for sample, axis in ends]
    edges = torch.tensor(pairs, dtype=torch.int64, device=values.device).view(-1, 2)
    axes = torch.tensor([axis for _, axis in ends], dtype=torch.int64, device=values.device)
    along = torch.nn.functional.one_hot(axes, 3) if ends else axes.new_empty(0, 3)
    weights = edge_weights(values, edges, level, clearance)
    return coords[edges[:, 0], 1:] + weights[:, None] * along, faces.view(-1, 3), edges


def _step(sample: Sample, axis: int) -> Sample:
    return tuple(c + (place == axis + 1) for place, c in enumerate(sample))


def _triangles(first: Sample, where: dict[Sample, int], inside: list[bool]) -> list[tuple[Sample, int]]:
    """The edges, each as its first sample and its axis, that the triangles of a cell have their corners on."""
    batch, x, y, z = first
    samples = [(batch, x + (c & 1), y + (c >> 1 & 1), z + (c >> 2 & 1)) for c in range(8)]
    if not all(sample in where for sample in samples):
        return []
    slots, counts = cases.triangles()
    corners, axes = cases.edges()
    case = sum(inside[where[sample]] << corner for corner, sample in enumerate(samples))
    return [(samples[corners[edge]], int(axes[edge])) for edge in slots[case, : 3 * counts[case]]]
