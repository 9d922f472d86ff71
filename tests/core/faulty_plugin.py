"""Faults that happen once, at a step and on a rank, as a device's would; a loose-file plugin."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from maquette import hookimpl
from maquette.parallel.data_parallel import DataParallel, DataParallelConfig

sys.path[:0] = [str(Path(__file__).parent)]

from toy_plugin import ToyData, ToyDataConfig, ToyObjective, ToyObjectiveConfig  # noqa: E402


@dataclass
class FaultyConfig(DataParallelConfig):
    """``fault`` is weight (before a step), gradient (after the copies' gradients were added up) or none."""

    fault: str = "none"
    step: int = 0
    rank: int = 0
    bit: int = 0


class Faulty(DataParallel):
    """``ddp`` with one flipped bit in the life of the process."""

    def __init__(self, config: FaultyConfig) -> None:
        super().__init__(config)
        self.fault, self.seen = config, 0

    def before_backward(self, model: nn.Module, last: bool) -> None:
        super().before_backward(model, last)
        if self._now("weight"):
            flip(next(model.parameters()).data, self.fault.bit)

    def reduce_gradients(self, model: nn.Module, mesh: Any) -> None:
        super().reduce_gradients(model, mesh)
        self.rank = mesh.rank
        if self._now("gradient"):
            gradient = next(model.parameters()).grad
            assert gradient is not None
            flip(gradient, self.fault.bit)
        self.seen += 1

    def _now(self, kind: str) -> bool:
        due = (self.fault.fault, self.fault.step, self.fault.rank) == (kind, self.seen, getattr(self, "rank", 0))
        if due:
            self.fault.fault = "none"
        return due


def flip(tensor: Tensor, bit: int) -> None:
    """One bit of the first element."""
    tensor[(slice(0, 1),) * tensor.ndim].view(torch.int32).bitwise_xor_(1 << bit)


@dataclass
class BadDataConfig(ToyDataConfig):
    """Batches of the steps ``bad`` are a hundred times too large."""

    bad: list[int] = field(default_factory=list)


class BadData(ToyData):
    """The toy's batches, some of them spoilt."""

    def train_dataloader(self) -> Iterator[dict[str, Tensor]]:
        for batch in super().train_dataloader():
            step = self.consumed // self.config.batch_size - 1
            yield {"x": batch["x"] * 100} if step in self.config.bad else batch


@dataclass
class AstrayConfig(ToyObjectiveConfig):
    """At the call ``astray_at`` the weights are multiplied; at ``miscompute_at`` the loss comes out a little wrong."""

    astray_at: int = -1
    miscompute_at: int = -1
    level_from: int = -1
    """From this call on the loss is a hundred times as large."""


class Astray(ToyObjective):
    """The toy's objective, with what goes wrong by itself."""

    def __call__(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.calls + 1 == self.config.astray_at:
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.mul_(50)
        terms = super().__call__(model, batch)
        if self.calls == self.config.miscompute_at:
            terms["loss"] = terms["loss"] * (1 + 2**-20)
        if 0 < self.config.level_from <= self.calls:
            terms["loss"] = terms["loss"] * 100
        return terms


@hookimpl
def register_strategies(register: Any) -> None:
    register("faulty", FaultyConfig, Faulty)


@hookimpl
def register_datasets(register: Any) -> None:
    register("bad", BadDataConfig, BadData)


@hookimpl
def register_objectives(register: Any) -> None:
    register("astray", AstrayConfig, Astray)
