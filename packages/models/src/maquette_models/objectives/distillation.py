"""What distillation objectives share: a frozen teacher, its guided velocity, and scales drawn for the student."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from omegaconf import MISSING
from torch import Tensor, nn

from maquette.engine.randomness import uniform
from maquette.errors import MaquetteError
from maquette.runs import RunFolder, load_run
from maquette_models.objectives.flow_matching import prepare
from maquette_models.samplers.guidance import Guided
from maquette_models.samplers.prediction import prediction_of, takes_guidance, velocity_of


@dataclass
class DistillationConfig:
    """`teacher` is the folder of a run that trained a flow on the same latents.

    The student learns its velocity for scales of guidance within `guidance`; `interval`, `rescale` and `zero_star` are
    as in sampling and become part of what the student does. `balance_weight` is as in flow matching.
    """

    teacher: str = MISSING
    guidance: list[float] = field(default_factory=lambda: [1.0, 6.0])
    interval: list[float] = field(default_factory=lambda: [0.0, 1.0])
    rescale: float = 0.0
    zero_star: bool = False
    balance_weight: float = 0.01

    def __post_init__(self) -> None:
        if not RunFolder(Path(self.teacher)).config_file.is_file():
            raise MaquetteError(f"objective: teacher '{self.teacher}' is not a run; give the folder of a trained flow")
        if len(self.guidance) != 2 or not 0 <= self.guidance[0] <= self.guidance[1]:
            raise MaquetteError(f"objective: guidance {list(self.guidance)}; give the least and the largest scale")


class Distillation:
    """A student that takes the scale of guidance as an input, beside a teacher that is guided by two passes."""

    def __init__(self, config: DistillationConfig) -> None:
        self.config = config

    @cached_property
    def teacher(self) -> nn.Module:
        """The teacher's model with its averaged weights, frozen; loaded when first asked for."""
        return load_run(self.config.teacher).model.requires_grad_(False)

    def draw_scales(self, rows: int, device: torch.device) -> Tensor:
        """Scales of guidance, float32 [B], for the samples of the batch under way."""
        low, high = self.config.guidance
        return low + (high - low) * uniform("guidance", (rows,), device=device)

    def prepare(self, model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """The student's prepared condition, with parts hidden in training, what belongs to tokens, and `guidance`.

        Raises:
            MaquetteError: the student takes no guidance.
        """
        if not takes_guidance(model):
            raise MaquetteError(
                "the objective distils guidance into the model, which has no input for it; set "
                "model.guidance_embedding=true"
            )
        x0 = batch["latent"]
        return {**prepare(model, batch), "guidance": self.draw_scales(len(x0), x0.device)}

    def velocity(self, model: nn.Module, x: Tensor, t: Tensor, prepared: Mapping[str, Tensor]) -> Tensor:
        """The student's velocity [B,...] at x [B,...] and t [B], float32."""
        return velocity_of(prediction_of(model), model(x, t, prepared).float(), x, t)

    @torch.no_grad()
    def taught(self, x: Tensor, t: Tensor, prepared: Mapping[str, Tensor]) -> Tensor:
        """The teacher's velocity [B,...] at x [B,...] and t [B], guided by the scales in `prepared`, float32."""
        teacher = self.teacher.to(x.device)
        own = {key: value for key, value in prepared.items() if key != "guidance"}
        condition = teacher.encode_condition(own)
        nothing = teacher.encode_condition(teacher.conditioner.null(1))
        null = {key: nothing[key].expand(len(x), *nothing[key].shape[1:]) for key in nothing}
        null |= {key: condition[key] for key in condition if key not in nothing}
        start, end = self.config.interval
        field = Guided(
            teacher, condition, null, prepared["guidance"], (start, end), self.config.rescale, self.config.zero_star
        )
        return field(x, t).float()
