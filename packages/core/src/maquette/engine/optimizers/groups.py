"""Which parameters share a learning rate and a weight decay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from maquette.engine.optimizers.settings import OptimizerConfig
from maquette.errors import unknown_name


def parameter_groups(named: Mapping[str, nn.Parameter], config: OptimizerConfig) -> list[dict[str, Any]]:
    """The trainable parameters as torch's groups, with their names.

    Matrices decay, vectors (biases, norms, scales) do not, as usual for transformers; ``config.groups`` overrules it.
    The groups with the common learning rate come first.
    """
    groups: dict[tuple[float, float], list[tuple[str, nn.Parameter]]] = {}
    for decay in (config.weight_decay, 0.0):
        groups.setdefault((1.0, decay), [])
    for name, parameter in named.items():
        if parameter.requires_grad:
            groups.setdefault(_rule(name, parameter, config), []).append((name, parameter))
    return [
        {"params": members, "lr": config.learning_rate * scale, "learning_rate_scale": scale, "weight_decay": decay}
        for (scale, decay), members in groups.items()
        if members
    ]


def _rule(name: str, parameter: nn.Parameter, config: OptimizerConfig) -> tuple[float, float]:
    usual = config.weight_decay if parameter.ndim > 1 else 0.0
    for group in config.groups:
        if fnmatchcase(name, group.match):
            return group.learning_rate_scale, usual if group.weight_decay is None else group.weight_decay
    return 1.0, usual


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its share of the step's learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group.get("learning_rate_scale", 1.0)


def check_names(config: OptimizerConfig, names: Iterable[str]) -> None:
    """Refuse a group that matches no parameter of the whole model.

    Raises:
        MaquetteError: names the glob, and the parameters there are.
    """
    known = list(names)
    for group in config.groups:
        if not any(fnmatchcase(name, group.match) for name in known):
            raise unknown_name("glob", group.match, known[:20], where="in optimizer.groups matches no parameter")
