"""An optimizer's state as flat tensors by the parameters' names, and the way back, whatever the layout."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def optimizer_state(optimizer: torch.optim.Optimizer, named: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """``<parameter>/<slot>`` for every slot; references, not copies."""
    return {
        f"{name}/{slot}": value
        for name, parameter in named.items()
        for slot, value in optimizer.state.get(parameter, {}).items()
    }


def start_slots(optimizer: torch.optim.Optimizer, named: Mapping[str, nn.Parameter], known: set[str]) -> None:
    """Make the slots of a checkpoint's names, laid out like the parameters, to be filled in place.

    A step without gradients at a learning rate of zero lets any optimizer make its own slots and changes no weight.
    """
    rates = [group["lr"] for group in optimizer.param_groups]
    gradients = {name: parameter.grad for name, parameter in named.items()}
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    for parameter in named.values():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for (name, parameter), group_gradient in zip(named.items(), gradients.values(), strict=True):
        parameter.grad = group_gradient
        if not any(f"{name}/{slot}" in known for slot in optimizer.state.get(parameter, {})):
            optimizer.state.pop(parameter, None)
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
