"""What an objective reports, from the last stage's microbatches to every rank of a pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maquette.errors import MaquetteError

PER_SAMPLE = "per_sample"
COUNT = "count"


@dataclass(frozen=True)
class Terms:
    """The names of an objective's scalars and of its columns (one value a sample), in the order they travel."""

    scalars: tuple[str, ...]
    columns: tuple[str, ...]

    @classmethod
    def of(cls, terms: Mapping[str, Any]) -> Terms:
        """Those of one microbatch.

        Raises:
            MaquetteError: there is no ``loss``, or something that is neither a scalar nor ``per_sample``.
        """
        scalars = tuple(name for name in terms if name not in (PER_SAMPLE, COUNT))
        if "loss" not in scalars:
            raise MaquetteError(f"objective: loss() gives {sorted(terms)}, but no 'loss'")
        for name in scalars:
            if not isinstance(terms[name], Tensor) or terms[name].ndim:
                raise MaquetteError(f"objective: '{name}' must be a scalar tensor; values of samples go to per_sample")
        return cls(scalars, tuple(terms.get(PER_SAMPLE, {})))

    def pack(self, microbatches: Sequence[Mapping[str, Any]]) -> Tensor:
        """The whole batch's values, float32 [scalars + columns x rows]: means of the scalars, then the columns.

        Where the objective counts what its means are over (``count``), microbatches weigh as much as they have of it.

        Raises:
            MaquetteError: the microbatches report different things.
        """
        for terms in microbatches:
            if Terms.of(terms) != self:
                raise MaquetteError(f"objective: reports {sorted(terms)} once and {sorted(self.scalars)} another time")
        first = microbatches[0]["loss"]
        counts = torch.stack([terms.get(COUNT, torch.ones_like(first)).detach().float() for terms in microbatches])
        weights = counts / counts.sum()
        parts = [
            (torch.stack([terms[name].detach().float() for terms in microbatches]) * weights).sum().view(1)
            for name in self.scalars
        ]
        for name in self.columns:
            parts.extend(terms[PER_SAMPLE][name].detach().float().reshape(-1) for terms in microbatches)
        return torch.cat(parts)

    def size(self, rows: int) -> int:
        """How many values ``pack`` gives for a batch of ``rows``."""
        return len(self.scalars) + rows * len(self.columns)

    def unpack(self, values: Tensor, rows: int) -> dict[str, Any]:
        """The inverse of ``pack``: as the objective would have reported the whole batch, without its ``count``."""
        scalars, columns = values[: len(self.scalars)], values[len(self.scalars) :].view(-1, rows)
        terms: dict[str, Any] = dict(zip(self.scalars, scalars.unbind(), strict=True))
        if self.columns:
            terms[PER_SAMPLE] = dict(zip(self.columns, columns.unbind(), strict=True))
        return terms
