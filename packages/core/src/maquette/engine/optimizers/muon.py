"""Muon: momentum, made orthogonal, for matrices (Jordan et al. 2024); AdamW for all other parameters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn

from maquette.engine.optimizers.adamw import ShardedAdamW
from maquette.engine.optimizers.groups import check_names, parameter_groups
from maquette.engine.optimizers.newton_schulz import orthogonalize_all
from maquette.engine.optimizers.settings import OptimizerConfig, check_betas, in_unit, one_of
from maquette.parallel.shards import local

SCALES = ("match_rms_adamw", "original")
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


@dataclass
class MuonConfig(OptimizerConfig):
    """Muon for matrices, AdamW for the rest, and their one learning-rate schedule."""

    momentum: float = 0.95
    nesterov: bool = True
    scale: str = "match_rms_adamw"
    """match_rms_adamw: .2 sqrt(max(rows, columns)), with which AdamW's learning rate and decay fit (Liu et al. 2025,
    "Muon is Scalable for LLM Training"); original: sqrt(max(1, rows / columns)) (Jordan et al. 2024)."""
    iterations: int = 5
    """Of Newton-Schulz."""
    matmul_dtype: str = "bf16"
    """Of Newton-Schulz: bf16 or fp32."""
    by_adamw: list[str] = field(
        default_factory=lambda: ["*embed*", "*position*", "*table*", "*norm*", "*router*", "head*"]
    )
    """Globs of matrices that AdamW updates: embeddings, tables, routers, the last layer. Vectors always go there."""
    stacks: list[str] = field(default_factory=lambda: ["*expert*"])
    """Globs of stacks of matrices [count, inputs, outputs], each of which is made orthogonal by itself."""
    betas: list[float] = field(default_factory=lambda: [0.9, 0.99])
    eps: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_betas(self.betas)
        one_of("optimizer.scale", self.scale, SCALES)
        one_of("optimizer.matmul_dtype", self.matmul_dtype, tuple(DTYPES))
        in_unit("optimizer.momentum", self.momentum)
        if self.iterations < 1:
            raise ValueError(f"'optimizer.iterations' is {self.iterations}; it must be at least 1")

    def is_matrix(self, name: str, parameter: Tensor) -> bool:
        """Whether Muon updates this parameter."""
        if any(fnmatchcase(name, glob) for glob in self.by_adamw):
            return False
        return parameter.ndim == 2 or (parameter.ndim == 3 and any(fnmatchcase(name, glob) for glob in self.stacks))


class Muon:
    """Makes Muon for the matrices among named parameters, and AdamW for the rest."""

    def __init__(self, config: MuonConfig) -> None:
        self.config = config

    def check(self, names: Iterable[str]) -> None:
        """Refuse groups that match none of the whole model's parameter names."""
        check_names(self.config, names)

    def __call__(self, named_parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer of these parameters; frozen ones are left out."""
        matrices = {n: p for n, p in named_parameters.items() if self.config.is_matrix(n, p)}
        rest = {n: p for n, p in named_parameters.items() if n not in matrices}
        muon = [group | {"muon": True} for group in parameter_groups(matrices, self.config)]
        return ShardedMuon(muon + parameter_groups(rest, self.config), self.config)


class ShardedMuon(ShardedAdamW):
    """Muon over plain tensors and DTensors: all layouts agree with one process.

    The slot of a matrix is ``momentum_buffer``, laid out like the parameter; others have AdamW's slots.
    """

    def __init__(self, groups: list[dict[str, Any]], config: MuonConfig) -> None:
        super().__init__(groups, (config.betas[0], config.betas[1]), config.eps)
        self.config = config

    def _step_group(self, group: dict[str, Any]) -> None:
        if not group.get("muon"):
            super()._step_group(group)
            return
        parameters = [parameter for parameter in group["params"] if parameter.grad is not None]
        directions = [self._direction(parameter) for parameter in parameters]
        updates = orthogonalize_all(
            parameters, directions, iterations=self.config.iterations, dtype=DTYPES[self.config.matmul_dtype]
        )
        for parameter, update in zip(parameters, updates, strict=True):
            part = local(parameter)
            part.mul_(1 - group["lr"] * group["weight_decay"])
            part.add_(update.to(part.dtype), alpha=-group["lr"] * self._scale(parameter))

    def _direction(self, parameter: Tensor) -> Tensor:
        """The momentum after this step's gradient; of the local part."""
        slots = self.state[parameter]
        if "momentum_buffer" not in slots:
            slots["momentum_buffer"] = torch.zeros_like(parameter)
        assert parameter.grad is not None
        gradient, momentum = local(parameter.grad), local(slots["momentum_buffer"])
        momentum.lerp_(gradient, 1 - self.config.momentum)
        return gradient.lerp(momentum, self.config.momentum) if self.config.nesterov else momentum

    def _scale(self, parameter: Tensor) -> float:
        # A linear layer is [outputs, inputs], a stack of experts the other way round.
        rows, columns = parameter.shape if parameter.ndim == 2 else parameter.shape[:0:-1]
        if self.config.scale == "original":
            return math.sqrt(max(1.0, rows / columns))
        return 0.2 * math.sqrt(max(rows, columns))
