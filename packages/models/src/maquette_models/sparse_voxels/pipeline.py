"""From a request to a coloured mesh by way of sparse voxels: structure, latents, subdivision, dual grid."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace

import torch
from omegaconf import MISSING

from maquette.engine.randomness import fold
from maquette.errors import MaquetteError
from maquette.inference_device import CPU, moved
from maquette.stepping import Course, alone
from maquette.types import Asset, Request
from maquette_kernels.sparse.tensor import SparseTensor
from maquette_models.pipelines.flow_pipeline import FlowPipeline, without_adapter
from maquette_models.pipelines.flow_stage import FlowStageConfig, drawn
from maquette_models.pipelines.two_stages import open_stages
from maquette_models.sparse_voxels.dual_grid_decoder import DualGrid, DualGridConfig
from maquette_models.sparse_voxels.voxel_surface import VoxelSurface
from maquette_models.voxset.structures import occupied_voxels

ATTEMPTS = 3
"""How often a request is sampled, each time from another noise, when the shape comes out empty."""


@dataclass
class SparseVoxelsConfig:
    """`run` is the folder of a run that trained a flow on `sparse_latents`, `structure` that of one on `structures`.

    The autoencoder is found through the first one's config. A request's guidance and steps are those of the shape;
    `options: {structure_guidance: ..., structure_steps: ...}` are those of the structure.
    """

    run: str = MISSING
    structure: str = MISSING
    shape_stage: FlowStageConfig = field(default_factory=FlowStageConfig)
    structure_stage: FlowStageConfig = field(default_factory=FlowStageConfig)


class SparseVoxels(FlowPipeline):
    """A request's asset depends on that request alone, not on what is asked for beside it."""

    flows = 2

    def __init__(self, config: SparseVoxelsConfig) -> None:
        self.config = config
        stages = open_stages(config.run, config.shape_stage, config.structure, config.structure_stage)
        self.structure, self.shape, self.autoencoder, self.side, _ = stages
        self.model = self.shape.model
        self.decoder = DualGrid(DualGridConfig())

    def course(self, request: Request) -> Course[Asset]:
        """The way of one request.

        Raises:
            MaquetteError: an unknown class; or the shape came out empty, also from the seeds that follow.
        """
        request = self.dressed(request)
        for attempt in range(ATTEMPTS):
            latent = yield from self.sampling(
                request, request.seed if attempt == 0 else fold("attempt", request.seed, attempt)
            )
            surface = self.surface(latent)
            yield None
            mesh = self.decoder.mesh_or_none(surface)
            if mesh is not None:
                return Asset(mesh, self._metadata(request, latent, surface, attempt + 1))
        raise MaquetteError(
            f"'{request.prompt}', seed {request.seed}: the voxels hold no surface; try another seed or train longer"
        )

    def sample(self, request: Request, seed: int) -> SparseTensor:
        """The latent [N,C] of a request, from the noise of a seed."""
        return alone(self.sampling(request, seed))

    def sampling(self, request: Request, seed: int) -> Course[SparseTensor]:
        """The way to `sample`: the voxels of the latent grid that the shape passes, sorted, and then their latents."""
        own = {key: request.options.get(f"structure_{key}") for key in ("guidance", "steps")}
        noise = drawn((1, self.structure.channels, *[self.side] * 3), fold("structure", seed))
        grid = yield self.structure.flow(replace(request, options=without_adapter(request), **own), noise)
        voxels = occupied_voxels(grid[0])
        noise = drawn((1, len(voxels), self.shape.channels), fold("latent", seed))
        latent = yield self.shape.flow(request, noise, {"positions": voxels[None].float()})
        coords = torch.cat([torch.zeros_like(voxels[:, :1]), voxels], dim=1).int()
        stride = self.autoencoder.config.resolution // self.side
        return SparseTensor(latent[0] * self.shape.std + self.shape.mean, coords, batch_size=1, stride=stride)

    @torch.inference_mode()
    def surface(self, latent: SparseTensor) -> VoxelSurface:
        """The surface of one shape's latent."""
        return moved(self.autoencoder.decode(moved(latent, self.shape.device))[0], CPU)

    def _metadata(
        self, request: Request, latent: SparseTensor, surface: VoxelSurface, attempts: int
    ) -> dict[str, object]:
        return {
            **self.shape.told(request),
            "attempts": attempts,
            "tokens": len(latent.coords),
            "voxels": len(surface),
            "latent_sha256": hashlib.sha256(latent.features.float().numpy().tobytes()).hexdigest(),
        }
