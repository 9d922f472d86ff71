"""One optimizer step: forward and backward of the micro-batches, reduce, check, clip, update, average."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from maquette.config import OptimizerConfig, TrainConfig
from maquette.engine.ema import WeightAverage
from maquette.engine.optimizers import build_optimizer, learning_rate
from maquette.engine.randomness import seed_step
from maquette.errors import MaquetteError
from maquette.parallelism import Parallelism

Objective = Callable[[nn.Module, Mapping[str, Any]], dict[str, Tensor]]


class StepEngine:
    """Owns the model, the optimizer and the averaged weights, and counts the steps.

    Args:
        model: on its device already.
        objective: ``objective(model, batch)`` gives a dict with the scalar ``loss`` and scalars to log.
        train: steps, accumulation, precision, clipping, averaging.
        optimizer: its kind, learning rate and schedule.
        seed: of every step's noise.
        parallelism: how processes share the step.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        train: TrainConfig,
        optimizer: OptimizerConfig,
        *,
        seed: int,
        parallelism: Parallelism,
    ) -> None:
        self.model, self.objective, self.train, self.optimizer_config = model, objective, train, optimizer
        self.seed, self.parallelism = seed, parallelism
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        if not self.parameters:
            raise MaquetteError("the model has no trainable parameters; nothing to train")
        self.optimizer = build_optimizer(model, optimizer)
        self.average = WeightAverage(model, train.ema_decay) if train.ema_decay > 0 else None
        self.micro_step = 0
        """Micro-batches done; the optimizer has stepped ``micro_step // accumulate`` times."""

    @property
    def step(self) -> int:
        """Optimizer steps done."""
        return self.micro_step // self.train.accumulate

    def run(self, batch: Mapping[str, Any], update: Callable[[], Any] | None = None) -> dict[str, Tensor]:
        """One micro-batch; on the last of an accumulation also the optimizer step.

        Args:
            batch: as the dataset collates it, on the model's device.
            update: what steps the optimizer, where somebody else counts its steps; by default its own ``step``.

        Returns:
            The objective's scalars, detached, and after an optimizer step also ``grad_norm``.

        Raises:
            MaquetteError: the loss or the gradient norm is not finite.
        """
        seed_step(self.seed, self.micro_step, self.parallelism.rank)
        with self.precision(batch):
            terms = self.objective(self.model, batch)
        (terms["loss"] / self.train.accumulate).backward()  # type: ignore[no-untyped-call]
        metrics = {name: value.detach() for name, value in terms.items()}
        if (self.micro_step + 1) % self.train.accumulate == 0:
            metrics["grad_norm"] = self._update(update or self.optimizer.step, metrics["loss"])
        self.micro_step += 1
        return metrics

    def _update(self, update: Callable[[], Any], loss: Tensor) -> Tensor:
        self.parallelism.reduce_gradients(self.parameters)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if not torch.isfinite(norm + loss):
            raise MaquetteError(
                f"step {self.step}: loss {loss.item():.4g} with gradient norm {norm.item():.4g} is not finite; "
                "the weights are untouched: lower optimizer.learning_rate or check the data"
            )
        if self.train.clip_norm > 0:
            nn.utils.clip_grads_with_norm_(self.parameters, self.train.clip_norm, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate
        update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average:
            self.average.update(self.model, self.step + 1)
        return norm

    @property
    def learning_rate(self) -> float:
        """Of the step that is under way."""
        return learning_rate(self.step, self.train.steps, self.optimizer_config)

    def precision(self, batch: Mapping[str, Any]) -> torch.autocast:
        """The context that forward passes run in."""
        device = next((v.device.type for v in batch.values() if isinstance(v, Tensor)), "cpu")
        return torch.autocast(device, torch.bfloat16, enabled=self.train.precision == "bf16")

    @torch.no_grad()
    def validate(self, batch: Mapping[str, Any], index: int) -> dict[str, Tensor]:
        """The objective's scalars on a validation batch, with the same noise at every validation."""
        seed_step(self.seed, -1 - index)
        with self.precision(batch):
            return self.objective(self.model, batch)

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Model, averaged weights and optimizer as flat tensors by name; references, not copies."""
        state = {"model": dict(self.model.state_dict()), "optimizer": self._optimizer_state()}
        if self.average:
            state["average"] = self.average.weights
        return state

    def load_state(self, state: Mapping[str, Mapping[str, Tensor]], micro_step: int) -> None:
        """Continue from what :meth:`state` gave at ``micro_step``."""
        self.model.load_state_dict(dict(state["model"]))
        if self.average and "average" in state:
            for name, tensor in self.average.weights.items():
                tensor.copy_(state["average"][name])
        names = self._names()
        flat = state["optimizer"]
        for parameter in self.parameters:
            prefix = f"{names[parameter]}/"
            # Not load_state_dict: that numbers parameters by position, which another layout would shuffle.
            slots = {key.removeprefix(prefix): value for key, value in flat.items() if key.startswith(prefix)}
            if slots:
                self.optimizer.state[parameter] = {k: _laid_out_like(parameter, v) for k, v in slots.items()}
        self.micro_step = micro_step

    def _names(self) -> dict[Tensor, str]:
        return {parameter: name for name, parameter in self.model.named_parameters()}

    def _optimizer_state(self) -> dict[str, Tensor]:
        names = self._names()
        return {
            f"{names[parameter]}/{slot}": value
            for parameter, slots in self.optimizer.state.items()
            for slot, value in slots.items()
        }


def _laid_out_like(parameter: Tensor, value: Tensor) -> Tensor:
    """A copy with the parameter's strides: fused optimizers walk parameter and state by memory, not by index."""
    if value.shape != parameter.shape:
        return value.clone()
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
