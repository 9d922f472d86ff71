"""One flow of several that a request goes through, sampled for that request alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from maquette import plugins
from maquette.runs import Run
from maquette.types import Request
from maquette_models.conditioners.request_batch import batch_of
from maquette_models.samplers.guidance import Guided


@dataclass
class FlowStageConfig:
    """How a stage is sampled; `guidance` and the sampler's steps give way to those of a request."""

    sampler: dict[str, Any] = field(default_factory=lambda: {"name": "euler", "steps": 20})
    guidance: float = 3.0
    interval: list[float] = field(default_factory=lambda: [0.0, 1.0])


class FlowStage:
    """Samples of a run that trained a flow. A row is computed by itself, so nothing beside it can change its bits."""

    def __init__(self, run: Run, config: FlowStageConfig) -> None:
        self.config = config
        self.model = run.model.requires_grad_(False)
        self.mean, self.std = (torch.tensor(run.facts[key]) for key in ("latent_mean", "latent_std"))
        self.channels = int(run.facts["latent_channels"])
        self.sampler = plugins.build("samplers", config.sampler)

    def class_of(self, request: Request) -> str | None:
        """The class that a request asks for, or names in its prompt; None where it does neither."""
        conditioner = self.model.conditioner
        if request.class_name is not None or not hasattr(conditioner, "class_of"):
            return request.class_name
        found = conditioner.class_of(request.prompt)
        return None if found is None else str(conditioner.config.classes[found])

    @torch.inference_mode()
    def sample(self, request: Request, noise: Tensor, tokens: Mapping[str, Tensor] | None = None) -> Tensor:
        """What a noise [1,...] flows to under a request, normalised as the run's data was.

        Args:
            request: its prompt, class, pictures or mesh are the condition, whichever the run was trained on.
            noise: standard normal.
            tokens: what belongs to the tokens, such as `positions`; the same with and without the condition.

        Raises:
            MaquetteError: an unknown class, or something that the run cannot be conditioned on.
        """
        conditioner, tokens = self.model.conditioner, tokens or {}
        asked = conditioner.prepare(batch_of(conditioner, request, self.class_of(request)))
        velocity = Guided(
            self.model,
            self.model.encode_condition({**asked, **tokens}),
            self.model.encode_condition({**conditioner.null(1), **tokens}),
            torch.tensor([self.guidance_of(request)]),
            (self.config.interval[0], self.config.interval[1]),
        )
        return self.sampler.sample(velocity, noise, request.steps)

    def guidance_of(self, request: Request) -> float:
        """The request's guidance, or the stage's own."""
        return self.config.guidance if request.guidance is None else request.guidance

    def steps_of(self, request: Request) -> int:
        """The request's number of steps, or the sampler's own."""
        return int(self.sampler.config.steps if request.steps is None else request.steps)

    def unknown_words(self, text: str) -> list[str]:
        """The words of a text that the conditioner does not know."""
        conditioner = self.model.conditioner
        return list(conditioner.unknown_words(text)) if hasattr(conditioner, "unknown_words") else []
