"""A strategy in a loose file: data parallelism in its simplest form, one sum of all gradients a step.

    maquette launch --nproc 2 --plugin examples/plugins/one_reduction.py train CONFIG.yaml strategy.name=one_reduction

maquette's own `ddp` sums in buckets while the backward pass still runs; this waits for its end and sends one flat
buffer: fewer messages, and nothing hidden behind them. It trains as one process does, alone and in products:

    from maquette.testing import check_strategy
    check_strategy({"name": "one_reduction"}, {"tensor": 2}, world=4, files=["examples/plugins/one_reduction.py"])
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor

from maquette import hookimpl
from maquette.parallel.strategy import Strategy


@dataclass
class OneReductionConfig:
    """Send gradients as bfloat16: half the bytes, and no longer what one process computes."""

    half: bool = False


class OneReduction(Strategy):
    """Every process holds the whole model, or its tensor-parallel part, and sees its share of the batch."""

    axis = "data"

    def __init__(self, config: OneReductionConfig) -> None:
        self.config = config

    def refuses(self, layout, model, precision):
        """What it does not do, said before anything is built."""
        if layout.shard > 1 or layout.expert > 1:
            return "'one_reduction' keeps whole copies; use strategy.name=fsdp to shard, or ddp with experts"
        return None

    def reduce_gradients(self, model: nn.Module, mesh) -> None:
        """Sum what the copies computed; the engine has divided each process's loss already."""
        group = mesh.group("data", "context")  # whoever has the same weights and other samples or tokens
        if group is None:
            return
        gradients = [local_gradient(parameter) for parameter in model.parameters() if parameter.requires_grad]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        sent = flat.bfloat16() if self.config.half else flat
        distributed.all_reduce(sent, group=group)
        parts = sent.split([gradient.numel() for gradient in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


def local_gradient(parameter: nn.Parameter) -> Tensor:
    """This process's part of a gradient; zeros where this process had no use for the parameter."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad.to_local() if isinstance(parameter.grad, DTensor) else parameter.grad


@hookimpl
def register_strategies(register):
    register("one_reduction", OneReductionConfig, OneReduction)
