"""A batch on its way through a pipeline: the first stage's arguments, the last one's targets, and the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from maquette.errors import MaquetteError
from maquette.parallel.pipeline_parts import PipelinePart
from maquette.parallel.pipeline_terms import COUNT

Signature = tuple[Any, ...]


def signature(batch: Mapping[str, Any]) -> Signature:
    """Shapes and dtypes of all tensors of a batch: batches that agree pass the same shapes between stages."""
    leaves, spec = pytree.tree_flatten({key: value for key, value in batch.items() if _has_tensors(value)})
    return (str(spec), *((tuple(x.shape), x.dtype) for x in leaves if isinstance(x, Tensor)))


def _has_tensors(value: Any) -> bool:
    return any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(value))


def chunk(nested: Any, rows: int, start: int, stop: int) -> Any:
    """Samples ``start`` to ``stop`` of nested values: of tensors and lists of ``rows`` values; others stay whole."""

    def cut(value: Any) -> Any:
        per_sample = value.ndim and len(value) == rows if isinstance(value, Tensor) else _is_column(value, rows)
        return value[start:stop] if per_sample else value

    return pytree.tree_map(cut, nested, is_leaf=lambda value: _is_column(value, rows))


def _is_column(value: Any, rows: int) -> bool:
    """A list of one plain value (a caption, a number) for each sample."""
    return isinstance(value, list) and len(value) == rows and not _has_tensors(value)


@dataclass
class BatchUnderWay:
    """What the ends of a pipeline need of a batch.

    Attributes:
        inputs: the first stage's arguments, one tuple a microbatch; empty on other ranks.
        target: what the loss compares with, on the last stage's rank.
        last: the part whose output that is.
        counted: how many things the whole batch's mean is over; None where the objective does not count.
        factor: what each microbatch's loss is multiplied by before its backward pass; where the objective counts what
            its means are over, what the loss of each one counted is multiplied by.
        terms: what the objective reported, one dict a microbatch.
    """

    objective: Any
    rows: int
    context: Callable[[], AbstractContextManager[Any]]
    factor: float | Tensor = 1.0
    inputs: list[tuple[Any, ...]] = field(default_factory=list)
    target: Mapping[str, Any] | None = None
    last: PipelinePart | None = None
    counted: Tensor | None = None
    terms: list[dict[str, Any]] = field(default_factory=list)

    def prepare(self, first: nn.Module | None, last: nn.Module | None, batch: Mapping[str, Any], size: int) -> None:
        """Ask the objective for the first part's arguments and for the targets; noise is drawn for the whole batch.

        Args:
            first: the part that begins, where this rank has it.
            last: the part that finishes, where this rank has it.
            batch: as the dataset gave it.
            size: rows of a microbatch.
        """
        with torch.no_grad(), self.context():
            if first is not None:
                inputs = tuple(self.objective.inputs(first, batch))
                starts = range(0, self.rows, size)
                self.inputs = [tuple(chunk(inputs, self.rows, start, start + size)) for start in starts]
            if last is not None:
                self.last = cast(PipelinePart, last)
                self.target = self.objective.target(batch)
                count = getattr(self.objective, "count", None)
                self.counted = count(self.target).float() if callable(count) else None

    def loss(self, output: Any, rows: Tensor) -> Tensor:
        """The loss of the samples whose numbers are ``rows`` (consecutive, on the CPU), weighted for its gradients."""
        start, stop = int(rows[0]), int(rows[-1]) + 1
        assert self.last is not None
        output = self.last.pipeline_stage.restore(output)
        with self.context():
            terms = self.objective.loss(output, chunk(self.target, self.rows, start, stop))
        self.terms.append(terms)
        if COUNT not in terms:
            return terms["loss"] * self.factor  # type: ignore[no-any-return]
        if self.counted is None:
            raise MaquetteError(
                f"objective {type(self.objective).__name__} reports a count; a pipeline cuts its batches and "
                "must know the whole one's before: give the objective count(target), a scalar tensor"
            )
        return terms["loss"] * (terms[COUNT] * self.factor)  # type: ignore[no-any-return]
