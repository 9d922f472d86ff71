"""From a request to a coloured mesh by way of token sets: structure, anchors, latents, fields, surface."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from omegaconf import MISSING
from torch import Tensor

from maquette import plugins
from maquette.engine.randomness import fold
from maquette.errors import MaquetteError
from maquette.inference_device import CPU, moved
from maquette.stepping import Call, Course, alone, together
from maquette.types import Asset, Request
from maquette_models.pipelines.flow_pipeline import FlowPipeline, without_adapter
from maquette_models.pipelines.flow_stage import FlowStageConfig, drawn, whole
from maquette_models.pipelines.two_stages import open_stages
from maquette_models.voxset.anchors import Anchors, choose_anchors
from maquette_models.voxset.structures import occupied_voxels

ATTEMPTS = 3
"""How often a request is sampled, each time from another noise, when the shape comes out empty."""


@dataclass
class VoxSetConfig:
    """`run` is the folder of a run that trained a flow on `voxset_latents`, `structure` that of one on `structures`.

    The autoencoder is found through the first one's config. `tokens` is how many anchors a shape has at most; 0 is as
    many as in training, and `options: {tokens: N}` of a request goes before. A request's guidance and steps are of
    the latents; `options: {structure_guidance: ..., structure_steps: ...}` are those of the structure. `resolution` is
    that of the distance grid a mesh is extracted from.
    """

    run: str = MISSING
    structure: str = MISSING
    tokens: int = 0
    resolution: int = 64
    latent_stage: FlowStageConfig = field(default_factory=FlowStageConfig)
    structure_stage: FlowStageConfig = field(default_factory=FlowStageConfig)
    decoder: dict[str, Any] = field(default_factory=lambda: {"name": "marching_cubes"})


@dataclass(frozen=True)
class Sampled:
    """One shape: latent float32 [N,C], not normalised, and the anchors [N,3] it belongs to."""

    latent: Tensor
    positions: Tensor


class VoxSet(FlowPipeline):
    """A request's asset depends on that request alone, not on what is asked for beside it."""

    flows = 2

    def __init__(self, config: VoxSetConfig) -> None:
        self.config = config
        stages = open_stages(config.run, config.latent_stage, config.structure, config.structure_stage)
        self.structure, self.latents, self.autoencoder, self.side, facts = stages
        self.model = self.latents.model
        self.tokens = config.tokens or int(facts["tokens"])
        self.decoder = plugins.build("decoders", config.decoder)

    def course(self, request: Request) -> Course[Asset]:
        """The way of one request.

        Raises:
            MaquetteError: what the models cannot be asked for; or the shape came out empty, also from the seeds that
                follow.
        """
        asset, _ = yield from self.course_with_field(request)
        return asset

    def course_with_field(self, request: Request) -> Course[tuple[Asset, Tensor]]:
        """As `course`, the asset with the distance grid [1,1,R,R,R] that it was extracted from."""
        request = self.dressed(request)
        for attempt in range(ATTEMPTS):
            sampled = yield from self.sampling(
                request, request.seed if attempt == 0 else fold("attempt", request.seed, attempt)
            )
            tsdf, color = yield from self.decoding(sampled)
            if bool((tsdf < 0).any()):
                mesh = yield Call(self.decoder, (tsdf[0, 0].float().numpy(), color[0].float().numpy()))
                return Asset(mesh, self._metadata(request, sampled, attempt + 1)), tsdf
        raise MaquetteError(
            f"'{request.prompt}', seed {request.seed}: the fields hold no surface; try another seed or train longer"
        )

    def batch_with_fields(self, requests: Sequence[Request]) -> list[tuple[Asset | MaquetteError, Tensor]]:
        """As `batch`, each asset with the distance grid [1,1,R,R,R] that it was extracted from; an empty one where
        there is none."""
        results = together([self.course_with_field(request) for request in requests])
        return [(result, torch.empty(0)) if isinstance(result, MaquetteError) else result for result in results]

    def sample(self, request: Request, seed: int) -> Sampled:
        """The shape of a request, from the noise of a seed."""
        return alone(self.sampling(request, seed))

    def sampling(self, request: Request, seed: int) -> Course[Sampled]:
        """The way to `sample`."""
        positions = yield from self.anchoring(request, seed)
        noise = drawn((1, len(positions), self.latents.channels), fold("latent", seed))
        latent = yield self.latents.flow(request, noise, {"positions": positions[None]})
        return Sampled(latent[0].float() * self.latents.std + self.latents.mean, positions)

    def anchors(self, request: Request, seed: int) -> Tensor:
        """Where the tokens of a shape are, [N,3]; see `anchoring`."""
        return alone(self.anchoring(request, seed))

    def anchoring(self, request: Request, seed: int) -> Course[Tensor]:
        """The way to anchors [N,3]: farthest points of the voxels that the structure of a shape has.

        Raises:
            MaquetteError: a number of tokens that is none.
        """
        count = request.options.get("tokens", self.tokens)
        if not isinstance(count, int) or count < 1:
            raise MaquetteError(f"pipeline 'voxset': options.tokens is {count!r}; give a whole number of at least 1")
        own = {key: request.options.get(f"structure_{key}") for key in ("guidance", "steps")}
        noise = drawn((1, self.structure.channels, *[self.side] * 3), fold("structure", seed))
        grid = yield self.structure.flow(replace(request, options=without_adapter(request), **own), noise)
        return choose_anchors([occupied_voxels(grid[0])], [count], [seed]).positions[0]

    def fields(self, sampled: Sampled) -> tuple[Tensor, Tensor]:
        """Distance [1,1,R,R,R] and colour [1,3,S,S,S] of one shape."""
        return alone(self.decoding(sampled))

    @torch.inference_mode()
    def decoding(self, sampled: Sampled) -> Course[tuple[Tensor, Tensor]]:
        """The way to `fields`, chunk by chunk of their grids, so that others' steps come between."""
        latent, positions = moved((sampled.latent[None], sampled.positions[None]), self.latents.device)
        anchors, resolution = (
            Anchors(positions, whole(len(sampled.positions), self.latents.device)),
            self.config.resolution,
        )
        (tsdf,) = self.autoencoder.tsdf_pieces(latent, anchors, resolution)
        (color,) = self.autoencoder.color_pieces(latent, anchors, resolution // 2)
        grids = []
        for pieces in (tsdf, color):
            grid = yield from pieces
            grids.append(grid[None].to(CPU))
        return grids[0], grids[1]

    def _metadata(self, request: Request, sampled: Sampled, attempts: int) -> dict[str, object]:
        return {
            **self.latents.told(request),
            "attempts": attempts,
            "tokens": len(sampled.positions),
            "latent_sha256": hashlib.sha256(sampled.latent.numpy().tobytes()).hexdigest(),
        }
