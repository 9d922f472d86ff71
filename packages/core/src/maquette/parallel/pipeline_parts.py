"""The parts of a model that a pipeline's stages hold: what they keep of the whole, and what passes between them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from maquette.errors import MaquetteError
from maquette.parallel.pipeline_schedules import Schedule, block_counts

CARRIERS = {torch.int64: torch.float64, torch.float64: torch.float64}
"""What whole numbers and truth values travel as, where float32 would not hold them exactly."""


@dataclass(frozen=True)
class Wire:
    """One tensor that passes between stages.

    Everything travels as a floating point tensor: not every release of torch takes others between its stages.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    differentiable: bool

    @classmethod
    def of(cls, x: Tensor) -> Wire:
        """As ``begin`` gave it."""
        return cls(tuple(x.shape), x.dtype, x.requires_grad and x.is_floating_point())

    @property
    def carrier(self) -> torch.dtype:
        """The dtype it travels as."""
        if self.dtype.is_floating_point:
            return self.dtype
        return CARRIERS.get(self.dtype, torch.float32)

    def example(self) -> Tensor:
        """Without memory, as torch's stages describe what they receive."""
        return torch.empty(self.shape, dtype=self.carrier, device="meta", requires_grad=True)

    def pack(self, x: Tensor) -> Tensor:
        """What is sent. Never a view and never what this stage received: zero-bubble schedules cut the graph there."""
        if not self.differentiable:
            return x.detach().to(self.carrier, copy=True)
        return x.clone() if (x.requires_grad and x.is_leaf) or x._is_view() or not x.is_contiguous() else x

    def unpack(self, x: Tensor) -> Tensor:
        """What a block is given."""
        return x if self.differentiable else x.detach().to(self.dtype)


class Stage:
    """Where a part stands in the pipeline; each part has its own as ``pipeline_stage``."""

    def __init__(self, index: int, count: int, context: Callable[[], AbstractContextManager[Any]]) -> None:
        self.index, self.count, self.context = index, count, context
        self.wires: tuple[Wire, ...] | None = None
        """What passes between stages; None while the first part is asked for it, in place of its output."""
        self._nesting: pytree.TreeSpec | None = None

    @property
    def first(self) -> bool:
        """Holds ``begin``."""
        return self.index == 0

    @property
    def last(self) -> bool:
        """Holds ``finish``."""
        return self.index == self.count - 1

    def flatten(self, output: Any) -> Any:
        """The model's output as torch's stages want it: a tensor or a tuple of tensors."""
        if isinstance(output, Tensor):
            return output
        leaves, self._nesting = pytree.tree_flatten(output)
        return tuple(leaves)

    def restore(self, output: Any) -> Any:
        """The model's output as the model gave it."""
        return pytree.tree_unflatten(list(output), self._nesting) if self._nesting is not None else output


class PipelinePart(nn.Module):
    """Mixed into the class of every part: ``forward`` is a stage of the pipeline, under the model's own name.

    The first part takes the model's inputs, the others what the one before gives; the last gives the model's output.
    ``begin`` and ``finish`` are None where another part holds them.
    """

    pipeline_stage: Stage

    def forward(self, *inputs: Any) -> Any:
        """Begin, this part's blocks, finish: as far as this part holds them."""
        stage, model = self.pipeline_stage, _untyped(self)
        with stage.context():
            if stage.first:
                h, *context = model.begin(*inputs)
                if stage.wires is None:
                    return tuple(Wire.of(x) for x in (h, *context))
            else:
                assert stage.wires is not None
                h, *context = (wire.unpack(x) for wire, x in zip(stage.wires, inputs, strict=True))
            for block in model.blocks():
                h = block(h, *context)
            if stage.last:
                return stage.flatten(model.finish(h, *context))
        assert stage.wires is not None
        return tuple(wire.pack(x) for wire, x in zip(stage.wires, (h, *context), strict=True))


def _untyped(module: nn.Module) -> Any:
    return module


def refusal(model: nn.Module, schedule: Schedule, ranks: int) -> str | None:
    """Why a model cannot be split over a pipeline, or None."""
    name = type(model).__name__
    for method in ("blocks", "begin", "finish", "begin_parts", "finish_parts"):
        if not callable(getattr(model, method, None)):
            return f"{name} has no {method}(), which a pipeline needs to split it; use another axis for it"
    blocks, stages = len(_untyped(model).blocks()), schedule.stages(ranks)
    if blocks < stages:
        fits = [size for size in range(2, ranks) if schedule.stages(size) <= blocks]
        advice = f"parallel.pipeline of at most {fits[-1]}" if fits else "no pipeline"
        return (
            f"schedule '{schedule.word}' makes {stages} stages of pipeline={ranks}, but {name} has {blocks} blocks; "
            f"use {advice}" + (" or schedule 1f1b" if ranks <= blocks else "")
        )
    experts = getattr(model, "expert_layers", None)
    if callable(experts) and experts():
        return f"the balance loss of {name}'s experts does not pass between stages; use parallel.expert and no pipeline"
    return _misplaced(model)


def _misplaced(model: nn.Module) -> str | None:
    """Parameters must belong to exactly one of ``begin``, the blocks and ``finish``."""
    name = type(model).__name__
    begin, finish = set(_untyped(model).begin_parts()), set(_untyped(model).finish_parts())
    direct = {*model._modules, *model._parameters, *model._buffers}
    if unknown := sorted((begin | finish) - direct):
        return f"{name} says that begin or finish uses '{unknown[0]}', which it does not have"
    if both := sorted(begin & finish):
        return f"{name} uses '{both[0]}' in begin and in finish, which are on different stages"
    blocks = {id(tensor) for block in _untyped(model).blocks() for tensor in block.state_dict(keep_vars=True).values()}
    for key, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in blocks and key.split(".")[0] not in begin | finish:
            return f"{name} does not say who uses '{key}': name it in begin_parts() or finish_parts()"
    return None


def split(
    model: nn.Module, schedule: Schedule, rank: int, ranks: int, context: Callable[[], AbstractContextManager[Any]]
) -> list[nn.Module]:
    """The parts of a model that a rank holds, in the order of its stages; names of parameters stay.

    Args:
        model: the whole one, as a rule on the meta device; it becomes one of the parts.
        schedule: how many stages there are and who holds which.
        rank: along the pipeline.
        ranks: in the pipeline.
        context: opened round every forward pass of a stage, e.g. autocast.

    Raises:
        MaquetteError: the model cannot be split so, with the reason.
    """
    if reason := refusal(model, schedule, ranks):
        raise MaquetteError(f"parallel: {reason}")
    stages = [Stage(index, schedule.stages(ranks), context) for index in schedule.held(rank, ranks)]
    wholes = [copy.deepcopy(model) for _ in stages[1:]] + [model]
    counts = block_counts(len(_untyped(model).blocks()), schedule.stages(ranks))
    return [_keep(whole, stage, counts) for whole, stage in zip(wholes, stages, strict=True)]


def _keep(model: nn.Module, stage: Stage, counts: list[int]) -> nn.Module:
    start = sum(counts[: stage.index])
    blocks = _untyped(model).blocks()
    kept = blocks[start : start + counts[stage.index]]
    begin, finish = _untyped(model).begin_parts(), _untyped(model).finish_parts()
    _remove(model, [block for block in blocks if all(block is not other for other in kept)])
    lacks: dict[str, None] = {}
    if not stage.first:
        _drop(model, begin)
        lacks["begin"] = None
    if not stage.last:
        _drop(model, finish)
        lacks["finish"] = None
    cls = type(model)
    # A class of its own, and not attributes of the object, so that copies of the part and fully_shard keep it.
    model.__class__ = type(cls.__name__, (PipelinePart, cls), {**lacks, "__module__": cls.__module__})
    _untyped(model).pipeline_stage = stage
    if [id(block) for block in _untyped(model).blocks()] != [id(block) for block in kept]:
        raise MaquetteError(
            f"parallel: {cls.__name__}.blocks() must list what its containers hold, so that a pipeline can remove some"
        )
    return model


def _remove(model: nn.Module, blocks: list[nn.Module]) -> None:
    """Take blocks out of the containers that hold them; the others keep their keys, and so their parameters' names."""
    unwanted = {id(block) for block in blocks}
    for parent in list(model.modules()):
        for key in [key for key, child in parent._modules.items() if id(child) in unwanted]:
            del parent._modules[key]


def _drop(model: nn.Module, names: Iterable[str]) -> None:
    for name in names:
        held: dict[str, Any]
        for held in (model._modules, model._parameters, model._buffers):
            if name in held:
                held[name] = None
