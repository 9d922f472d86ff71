"""Batches straight from mapped files: one array a field for all rows, filled without a copy a sample in between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from maquette.errors import MaquetteError
from maquette_data3d.stream.buffers import Buffers
from maquette_data3d.stream.curriculum import Stage
from maquette_data3d.stream.fields import Layout

_STAGED = 1 << 18

Views = Mapping[str, np.ndarray]


class Row(NamedTuple):
    """One row of a batch.

    Attributes:
        views: the stored arrays, nothing of them read yet.
        start: where in its order of points the windows begin, of 2^64.
        flip: whether it is mirrored along x.
    """

    views: Views
    start: int = 0
    flip: bool = False


@dataclass(frozen=True)
class Assembler:
    """Turns rows into tensors.

    Attributes:
        windows: points to read, by point group.
        resolution: the side of the finest stored grids, which a stage's resolution is compared with.
        packed: ragged fields as values and offsets, not padded with a mask.
    """

    layouts: Sequence[Layout]
    windows: Mapping[str, int]
    resolution: int
    packed: bool
    buffers: Buffers = field(default_factory=lambda: Buffers(pinned=False))

    def __call__(self, rows: Sequence[Row], stage: Stage) -> dict[str, Tensor]:
        """The fields of a batch.

        Returns:
            By name, [B, ...]. A padded ragged field [B, longest, ...] comes with `<name>_mask`, bool [B, longest]; a
            packed one [sum of lengths, ...] with `<name>_offsets`, int64 [B + 1].
        """
        batch: dict[str, Tensor] = {}
        for layout in self.layouts:
            if not layout.ragged:
                batch[layout.name] = self._fixed(layout, rows, stage)
            elif self.packed:
                batch |= self._packed(layout, rows)
            else:
                batch |= self._padded(layout, rows)
        return batch

    def _fixed(self, layout: Layout, rows: Sequence[Row], stage: Stage) -> Tensor:
        if layout.grid and stage.resolution and self.resolution:
            return self._pooled(layout, rows, stage.resolution)
        shape, spare = layout.shape, 0
        if layout.group:
            points = min(self.windows[layout.group], stage.points or shape[0])
            shape, spare = (points, *shape[1:]), shape[0] - points
        batch = self.buffers.empty((len(rows), *shape), layout.delivered)
        views = [row.views[layout.name] for row in rows]
        if layout.group:
            starts = [(row.start * (spare + 1)) >> 64 for row in rows]
            views = [view[start : start + shape[0]] for view, start in zip(views, starts, strict=True)]
        _fill(layout, batch, views, [row.flip for row in rows])
        return batch

    def _pooled(self, layout: Layout, rows: Sequence[Row], resolution: int) -> Tensor:
        """Grids averaged down: the centre of a coarse cell is the mean of its cells' centres, so striding would move
        the shape by half a cell."""
        side = layout.shape[-1] * resolution // self.resolution
        if side >= layout.grid:
            return self._fixed(layout, rows, Stage())
        if not side or layout.grid % side:
            raise MaquetteError(f"curriculum: resolution {resolution} does not divide the side of '{layout.name}'")
        step, channels = layout.grid // side, layout.shape[0]
        batch = self.buffers.empty((len(rows), channels, side, side, side), layout.delivered)
        whole = torch.empty((1, *layout.shape))
        for out, row in zip(batch, rows, strict=True):
            _fill(layout, whole, [row.views[layout.name]], [row.flip])
            mean = whole.view(channels, side, step, side, step, side, step).mean((2, 4, 6))
            out.copy_(mean if out.is_floating_point() else mean.round())
        return batch

    def _padded(self, layout: Layout, rows: Sequence[Row]) -> dict[str, Tensor]:
        views = [row.views[layout.name] for row in rows]
        lengths = torch.tensor([len(view) for view in views])
        longest = int(lengths.max())
        batch = self.buffers.empty((len(rows), longest, *layout.shape), layout.delivered, recurring=False)
        for out, row, view in zip(batch, rows, views, strict=True):
            _fill(layout, out[None, : len(view)], [view], [row.flip])
            out[len(view) :] = 0
        return {layout.name: batch, f"{layout.name}_mask": torch.arange(longest) < lengths[:, None]}

    def _packed(self, layout: Layout, rows: Sequence[Row]) -> dict[str, Tensor]:
        views = [row.views[layout.name] for row in rows]
        ends = np.cumsum([len(view) for view in views]).tolist()
        batch = self.buffers.empty((ends[-1], *layout.shape), layout.delivered, recurring=False)
        for row, view, end in zip(rows, views, ends, strict=True):
            _fill(layout, batch[None, end - len(view) : end], [view], [row.flip])
        return {layout.name: batch, f"{layout.name}_offsets": torch.tensor([0, *ends])}


def _fill(layout: Layout, batch: Tensor, views: Sequence[np.ndarray], flips: Sequence[bool]) -> None:
    """Copies stored arrays into the rows of a batch, converted and mirrored."""
    if layout.mirror == "flip" and any(flips):
        views = [view[:, ::-1] if flip else view for view, flip in zip(views, flips, strict=True)]
    if batch.dtype == layout.kept:
        for row, view in zip(batch.numpy(), views, strict=True):
            row[...] = view
    else:
        _convert(layout, batch, views)
    if layout.scale != 1 and batch.is_floating_point():
        batch.div_(layout.scale)
    if layout.mirror == "negate" and any(flips):
        for row in np.flatnonzero(flips).tolist():
            batch[row, ..., 0].neg_()


def _convert(layout: Layout, batch: Tensor, views: Sequence[np.ndarray]) -> None:
    # Half to float is twenty times faster in torch than in numpy, and torch takes no read-only memory: the values
    # go through a piece of memory that stays in the cache.
    size = max(views[0].nbytes, 1)
    together = min(max(_STAGED // size, 1), len(views))
    between = np.empty((together, *batch.shape[1:]), layout.stored)
    tensor = torch.from_numpy(between)
    for start in range(0, len(views), together):
        some = views[start : start + together]
        for row, view in zip(between, some, strict=False):
            row[...] = view
        batch[start : start + len(some)].copy_(tensor[: len(some)])
