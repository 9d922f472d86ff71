"""From a request to a coloured mesh: condition, sampled latent, decoded fields, extracted surface.

The condition is whatever the run's conditioner reads: a prompt, a class, pictures, a mesh.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from omegaconf import MISSING
from torch import Tensor

from maquette import plugins
from maquette.engine.randomness import fold
from maquette.errors import MaquetteError
from maquette.inference_device import CPU, inference_device, moved
from maquette.runs import load_run, relative_run
from maquette.stepping import Call, Course, together
from maquette.types import Asset, Request
from maquette_models.pipelines.flow_pipeline import FlowPipeline
from maquette_models.pipelines.flow_stage import FlowStage, FlowStageConfig, SampledFlow, drawn
from maquette_models.samplers.guidance import Guided

ATTEMPTS = 3
"""How often a request is sampled, each time from another noise, when the shape comes out empty."""


@dataclass
class TextTo3DConfig:
    """`run` is the folder of a run that trained a flow on latents; the autoencoder is found through its config.

    `sampler`, `guidance`, `interval`, `rescale`, `zero_star`, `max_batch` and `precision` are those of
    `FlowStageConfig`.
    """

    run: str = MISSING
    sampler: dict[str, Any] = field(default_factory=lambda: {"name": "euler", "steps": 20})
    decoder: dict[str, Any] = field(default_factory=lambda: {"name": "marching_cubes"})
    guidance: float = 3.0
    interval: list[float] = field(default_factory=lambda: [0.0, 1.0])
    rescale: float = 0.0
    zero_star: bool = False
    max_batch: int = 16
    precision: str = "fp32"


class TextTo3D(FlowPipeline):
    """A request's asset depends on that request alone, not on what is asked for beside it."""

    def __init__(self, config: TextTo3DConfig) -> None:
        self.config = config
        device = inference_device()
        run = load_run(config.run, device)
        if "autoencoder" not in run.config.data or "latent_mean" not in run.facts:
            raise MaquetteError(
                f"'{config.run}' was not trained on latents; give a run whose data is of kind 'latents'"
            )
        autoencoder = relative_run(run.config.data.autoencoder, run.folder)
        self.autoencoder = load_run(autoencoder, device).model.requires_grad_(False)
        side = int(run.facts["latent_resolution"])
        shared = {key: getattr(config, key) for key in FlowStageConfig.__dataclass_fields__}
        self.stage = FlowStage(run, FlowStageConfig(**shared))
        self.model = self.stage.model
        self.mean, self.std = (values.view(1, -1, 1, 1, 1) for values in (self.stage.mean, self.stage.std))
        self.latent_shape = (1, self.stage.channels, side, side, side)
        self.decoder = plugins.build("decoders", config.decoder)

    def course(self, request: Request) -> Course[Asset]:
        """The way of one request.

        Raises:
            MaquetteError: the request holds what the model was not trained on, or an unknown class; or the shape came
                out empty, also from the seeds that follow.
        """
        asset, _ = yield from self.course_with_field(request)
        return asset

    def course_with_field(self, request: Request) -> Course[tuple[Asset, Tensor]]:
        """As `course`, the asset with the distance grid [1,1,R,R,R] that it was extracted from."""
        request = self.dressed(request)
        for attempt in range(ATTEMPTS):
            latent = yield self.flow(request, attempt)
            tsdf, color = self.fields(latent)
            yield None
            if bool((tsdf < 0).any()) or attempt == ATTEMPTS - 1:
                break
        try:
            mesh = yield Call(self.decoder, (tsdf[0, 0].float().numpy(), color[0].float().numpy()))
        except MaquetteError as error:
            raise MaquetteError(f"'{request.prompt}', seed {request.seed}: {error}") from error
        return Asset(mesh, self._metadata(request, latent, attempt + 1)), tsdf

    def batch_with_fields(self, requests: Sequence[Request]) -> list[tuple[Asset | MaquetteError, Tensor]]:
        """As `batch`, each asset with the distance grid [1,1,R,R,R] that it was extracted from; an empty one where
        there is none."""
        results = together([self.course_with_field(request) for request in requests])
        return [(result, torch.empty(0)) if isinstance(result, MaquetteError) else result for result in results]

    def flow(self, request: Request, attempt: int = 0) -> SampledFlow:
        """The sampling of a request, from its own seed's noise or from what follows from it at later attempts."""
        seed = request.seed if attempt == 0 else fold("attempt", request.seed, attempt)
        return self.stage.flow(request, drawn(self.latent_shape, seed))

    def velocity(self, requests: Sequence[Request]) -> Guided:
        """The guided velocity field of requests, a row each."""
        return self.stage.guided([self.flow(request) for request in requests])

    @torch.inference_mode()
    def fields(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Distance [1,1,R,R,R] and colour [1,3,S,S,S] of a normalised latent [1,C,L,L,L]."""
        latent = latent * self.std + self.mean
        return moved(self.autoencoder.decode(latent.to(self.stage.device)), CPU)

    def _metadata(self, request: Request, latent: Tensor, attempts: int) -> dict[str, Any]:
        return {
            **self.stage.told(request),
            "attempts": attempts,
            "latent_sha256": hashlib.sha256(latent.float().numpy().tobytes()).hexdigest(),
            **({"images": len(request.images)} if request.images else {}),
        }
