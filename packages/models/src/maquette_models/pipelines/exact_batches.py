"""Batches in which a row has the bits that it has alone.

Products of matrices pick their order of summation by their number of rows, so that a batch may change the last bits of
its rows. Which sizes do is a fact of the machine, its libraries and the shapes: it is measured, not assumed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from maquette.errors import unknown_name
from maquette_models.pipelines.recorded_passes import Record, RecordedPasses

if TYPE_CHECKING:
    from maquette.split_passes import SplitPasses

SIZES = (1, 2, 3, 4, 6, 8, 12, 16)
"""Numbers of rows that are computed at once: few, so that compiled code and graphs are made for few shapes."""

PRECISIONS = ("fp32", "bf16")
Condition = Mapping[str, Tensor]


class ExactBatches:
    """A model [B,...] that is called with any number of rows, and computes them in sizes that keep their bits.

    Args:
        model: `model(x, t [B], condition)`, a velocity or whatever else of each row.
        largest: the most rows of one pass.
        precision: of products of matrices, fp32 or bf16, whatever the weights are stored as.

    Raises:
        MaquetteError: an unknown precision.
    """

    def __init__(self, model: nn.Module, largest: int = SIZES[-1], precision: str = "fp32") -> None:
        if precision not in PRECISIONS:
            raise unknown_name("precision", precision, PRECISIONS)
        self.model = model
        self.passes: Callable[[Tensor, Tensor, Condition], Tensor] = model
        self.shared = False
        self.precision = precision
        self.config = model.config
        self.largest = largest
        self._known: dict[Hashable, tuple[int, ...]] = {}

    def __call__(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The model's output [B,...] for x [B,...] at t [B]; batches are filled up with their last row."""
        if len(x) == 1:
            return self.compute(x, t, condition)
        sizes = self.sizes(x, condition)
        parts, start = [], 0
        while start < len(x):
            left = len(x) - start
            size = next((size for size in sizes if size >= left), sizes[-1])
            rows = torch.arange(start, start + size, device=x.device).clamp(max=len(x) - 1)
            part = self.compute(x[rows], t[rows], {key: value[rows] for key, value in condition.items()})
            parts.append(part[: min(size, left)])
            start += size
        return torch.cat(parts)

    def compute(self, x: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """One pass over all rows."""
        low = torch.autocast(x.device.type, torch.bfloat16) if self.precision == "bf16" else nullcontext()
        with low:
            return self.passes(x, t, condition)

    def record(self, record: Record) -> None:
        """Let passes be recorded and repeated whole, see `RecordedPasses`."""
        self.passes = RecordedPasses(self.model, record)

    def share(self, split: SplitPasses) -> None:
        """Let passes be computed by several processes together, see `SplitPasses`.

        Raises:
            MaquetteError: the model cannot be split over so many.
        """
        self.passes, self.shared = split.shared(self.model), True

    @torch.inference_mode()
    def sizes(self, x: Tensor, condition: Condition) -> tuple[int, ...]:
        """The sizes up to `largest`, ascending, in which rows like those of x keep their bits; 1 always does."""
        shapes = tuple((key, value.shape[1:]) for key, value in condition.items())
        # Adapters add products to the model's layers, which show in its parameters.
        key = (x.shape[1:], x.dtype, x.device, shapes, sum(part.numel() for part in self.model.parameters()))
        if key not in self._known:
            self._known[key] = tuple(size for size in SIZES if size <= self.largest and self._exact(size, x, condition))
        return self._known[key]

    def _exact(self, size: int, x: Tensor, condition: Condition) -> bool:
        """Whether each row of a batch of that size comes out as it does alone."""
        if size == 1:
            return True
        generator = torch.Generator().manual_seed(size)
        noise = torch.randn((size, *x.shape[1:]), generator=generator).to(x)
        t = torch.linspace(0.01, 1, size, device=x.device)
        rows = {key: value[:1].expand(size, *value.shape[1:]) for key, value in condition.items()}
        batch = self.compute(noise, t, rows)
        one = {key: value[:1] for key, value in condition.items()}
        return all(
            torch.equal(batch[i : i + 1], self.compute(noise[i : i + 1], t[i : i + 1], one)) for i in range(size)
        )
