"""One flow of several that requests go through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from maquette import plugins
from maquette.runs import Run
from maquette.types import Request
from maquette_models.conditioners.request_batch import batch_of, class_named
from maquette_models.samplers.guidance import Guided


@dataclass
class FlowStageConfig:
    """How a stage is sampled; `guidance` and the sampler's steps give way to those of a request."""

    sampler: dict[str, Any] = field(default_factory=lambda: {"name": "euler", "steps": 20})
    guidance: float = 3.0
    interval: list[float] = field(default_factory=lambda: [0.0, 1.0])


class FlowStage:
    """Samples of a run that trained a flow.

    A row is computed by itself, so nothing beside it can change its bits: products of a few tokens add up in another
    order when there are more rows.
    """

    def __init__(self, run: Run, config: FlowStageConfig) -> None:
        self.config = config
        self.model = run.model.requires_grad_(False)
        self.mean, self.std = (torch.tensor(run.facts[key]) for key in ("latent_mean", "latent_std"))
        self.channels = int(run.facts["latent_channels"])
        self.sampler = plugins.build("samplers", config.sampler)

    def complete(self, request: Request) -> Request:
        """A request with the stage's guidance and steps, and with the class that its prompt names, where it has none.

        Raises:
            MaquetteError: an unknown class, or something that the run cannot be conditioned on.
        """
        conditioner = self.model.conditioner
        batch_of(conditioner, request)
        return replace(
            request,
            guidance=self.config.guidance if request.guidance is None else request.guidance,
            steps=int(self.sampler.config.steps if request.steps is None else request.steps),
            class_name=class_named(conditioner, request),
        )

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
        conditioner, tokens, request = self.model.conditioner, tokens or {}, self.complete(request)
        velocity = Guided(
            self.model,
            self.model.encode_condition({**conditioner.prepare(batch_of(conditioner, request)), **tokens}),
            self.model.encode_condition({**conditioner.null(1), **tokens}),
            torch.tensor([request.guidance]),
            (self.config.interval[0], self.config.interval[1]),
        )
        return self.sampler.sample(velocity, noise, request.steps)

    def unknown_words(self, text: str) -> list[str]:
        """The words of a text that the conditioner does not know."""
        conditioner = self.model.conditioner
        return list(conditioner.unknown_words(text)) if hasattr(conditioner, "unknown_words") else []


def drawn(shape: tuple[int, ...], seed: int) -> Tensor:
    """Standard normal numbers from a seed alone."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
