"""AdamW (Kingma & Ba 2015; Loshchilov & Hutter 2019) on whatever this process holds of each parameter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from maquette.engine.optimizers.groups import check_names, parameter_groups
from maquette.engine.optimizers.settings import OptimizerConfig, check_betas
from maquette.engine.optimizers.stochastic_rounding import add_rounded
from maquette.parallel.shards import local


@dataclass
class AdamWConfig(OptimizerConfig):
    """AdamW and its learning-rate schedule."""

    betas: list[float] = field(default_factory=lambda: [0.9, 0.99])
    eps: float = 1e-8
    stochastic_rounding: bool = False
    """Of weights stored as bf16: rounds up or down by chance, so that small updates are kept on average."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_betas(self.betas)


class AdamW:
    """Makes AdamW for named parameters: torch's fused kernels, or stochastic rounding for bf16 weights."""

    def __init__(self, config: AdamWConfig) -> None:
        self.config = config

    def check(self, names: Iterable[str]) -> None:
        """Refuse groups that match none of the whole model's parameter names."""
        check_names(self.config, names)

    def __call__(self, named_parameters: Mapping[str, nn.Parameter]) -> torch.optim.Optimizer:
        """The optimizer of these parameters; frozen ones are left out."""
        config = self.config
        groups = parameter_groups(named_parameters, config)
        return ShardedAdamW(groups, (config.betas[0], config.betas[1]), config.eps, config.stochastic_rounding)


class ShardedAdamW(torch.optim.Optimizer):
    """AdamW over plain tensors and DTensors of any meshes.

    Every operation is elementwise, so it works on local parts: no DTensor dispatch, and groups may mix layouts. Slots
    are ``step`` (float32 scalar) and ``exp_avg``, ``exp_avg_sq``, laid out like the parameter.

    Args:
        groups: as :func:`parameter_groups` gives them.
        betas: decay rates of the moments.
        eps: added to the root of the second moment.
        stochastic_rounding: for bf16 parameters, whose moments are then fp32.
    """

    def __init__(
        self, groups: list[dict[str, Any]], betas: tuple[float, float], eps: float, stochastic_rounding: bool = False
    ) -> None:
        super().__init__(groups, {"betas": betas, "eps": eps, "stochastic_rounding": stochastic_rounding})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One update of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._step_group(group)
        return loss

    def _step_group(self, group: dict[str, Any]) -> None:
        plain: list[tuple[str, Tensor]] = []
        rounded: list[tuple[str, Tensor]] = []
        for name, parameter in zip(group["param_names"], group["params"], strict=True):
            if parameter.grad is not None:
                rounds = group["stochastic_rounding"] and parameter.dtype == torch.bfloat16
                self._start(parameter, torch.float32 if rounds else parameter.dtype)
                (rounded if rounds else plain).append((name, parameter))
        self._fused(group, [parameter for _, parameter in plain])
        for name, parameter in rounded:
            self._rounded(group, name, parameter)

    def _start(self, parameter: Tensor, dtype: torch.dtype) -> None:
        slots = self.state[parameter]
        if not slots:
            slots["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            for slot in ("exp_avg", "exp_avg_sq"):
                slots[slot] = torch.zeros_like(parameter, dtype=dtype)

    def _fused(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        if not parameters:
            return
        slots = [self.state[parameter] for parameter in parameters]
        adamw(
            [local(parameter) for parameter in parameters],
            [local(parameter.grad) for parameter in parameters if parameter.grad is not None],
            [local(slot["exp_avg"]) for slot in slots],
            [local(slot["exp_avg_sq"]) for slot in slots],
            [],
            [slot["step"] for slot in slots],
            fused=True,
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )

    def _rounded(self, group: dict[str, Any], name: str, parameter: Tensor) -> None:
        slots = self.state[parameter]
        assert parameter.grad is not None
        gradient = local(parameter.grad).float()
        first, second = local(slots["exp_avg"]), local(slots["exp_avg_sq"])
        beta1, beta2 = group["betas"]
        step = slots["step"].add_(1)
        first.lerp_(gradient, 1 - beta1)
        second.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        scale = (second / (1 - beta2**step)).sqrt_().add_(group["eps"]).mul_(1 - beta1**step)
        change = (first / scale).mul_(-group["lr"])
        add_rounded(parameter, change, 1 - group["lr"] * group["weight_decay"], (name, step))
