"""Exponential moving averages of a model's weights, on whatever this process holds of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from maquette.parallel.shards import local


class WeightAverages:
    """One averaged copy of every parameter and buffer for each decay.

    Copies are laid out like the weights (DTensors stay sharded, nothing is sent), in fp32 where weights are bf16, whose
    steps would be too coarse for small changes. A decay warms up as ``min(decay, (1 + step) / (10 + step))``, so that
    early weights are forgotten quickly.

    Args:
        model: on its device, sharded as it will be trained.
        decays: different numbers in (0, 1); none keeps no copy.
    """

    def __init__(self, model: nn.Module, decays: Sequence[float]) -> None:
        self.weights = {decay: {name: _copy(value) for name, value in _named(model).items()} for decay in decays}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Move the averages towards the model after optimizer step ``step`` (counted from 1)."""
        current = {name: local(tensor) for name, tensor in _named(model).items()}
        for decay, weights in self.weights.items():
            amount = 1 - min(decay, (1 + step) / (10 + step))
            averages = {name: local(tensor) for name, tensor in weights.items()}
            same = [
                name
                for name, tensor in current.items()
                if tensor.is_floating_point() and tensor.dtype == averages[name].dtype
            ]
            if same:
                torch._foreach_lerp_([averages[n] for n in same], [current[n] for n in same], amount)
            for name in current.keys() - set(same):
                if current[name].is_floating_point():
                    averages[name].lerp_(current[name].to(averages[name].dtype), amount)
                else:
                    averages[name].copy_(current[name])

    @torch.no_grad()
    def reset(self, model: nn.Module, decay: float | None = None) -> None:
        """Start one average, or all, from the model's present weights: after loading weights without averages."""
        current = _named(model)
        for weights in self.weights.values() if decay is None else [self.weights[decay]]:
            for name, tensor in weights.items():
                local(tensor).copy_(local(current[name]))

    def parts(self) -> dict[str, dict[str, Tensor]]:
        """The parts of a checkpoint, ``average_<decay>``; references, to be saved or filled in place."""
        return {part_name(decay): weights for decay, weights in self.weights.items()}

    @contextmanager
    def swapped(self, model: nn.Module, decay: float | None = None) -> Iterator[None]:
        """Within the context the model has averaged weights; afterwards, come what may, its own, bit for bit.

        Args:
            model: the one that the averages are of.
            decay: which average; the first where none is named.
        """
        weights = self.weights[next(iter(self.weights)) if decay is None else decay]
        kept = _exchange(model, weights, {})
        try:
            yield
        finally:
            _exchange(model, weights, kept)


def part_name(decay: float) -> str:
    """The name of an average's part in a checkpoint, e.g. ``average_0.999``."""
    return f"average_{decay}"


@torch.no_grad()
def _exchange(model: nn.Module, weights: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Swap weights and averages one by one, so that no second copy of the model is needed.

    An average of another dtype cannot take the weight in: ``kept`` holds those weights meanwhile.
    """
    aside: dict[str, Tensor] = {}
    for name, tensor in _named(model).items():
        current, average = local(tensor), local(weights[name])
        if name in kept:
            current.copy_(kept[name])
        elif current.dtype == average.dtype:
            before = current.clone()
            current.copy_(average)
            average.copy_(before)
        else:
            aside[name] = current.clone()
            current.copy_(average)
    return aside


def _named(model: nn.Module) -> dict[str, Tensor]:
    """The model's tensors by the bare model's names.

    By way of ``state_dict``: FSDP keeps the root's parameters gathered after a forward pass without a backward one, and
    its hook there drops these copies, which would outlive a change of the shards.
    """
    wrappers = ("_orig_mod.", "_checkpoint_wrapped_module.")
    named = model.state_dict()
    for wrapper in wrappers:
        named = {name.replace(wrapper, ""): tensor for name, tensor in named.items()}
    return named


def _copy(tensor: Tensor) -> Tensor:
    short = tensor.dtype in (torch.bfloat16, torch.float16)
    return tensor.detach().to(torch.float32, copy=True) if short else tensor.detach().clone()
