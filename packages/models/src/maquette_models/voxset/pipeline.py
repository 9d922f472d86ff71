"""From a request to a coloured mesh by way of token sets: structure, anchors, latents, fields, surface."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from omegaconf import MISSING
from torch import Tensor
from torch.nn import functional as F

from maquette import plugins
from maquette.engine.randomness import fold
from maquette.errors import MaquetteError
from maquette.runs import load_run, relative_run
from maquette.types import Asset, Request
from maquette_models.adapters.hot_swap import HotSwap
from maquette_models.pipelines.flow_stage import FlowStage, FlowStageConfig, drawn
from maquette_models.voxset.anchors import Anchors, choose_anchors
from maquette_models.voxset.structures import occupied_voxels

ATTEMPTS = 3
"""How often a request is sampled, each time from another noise, when the shape comes out empty."""


@dataclass
class VoxSetConfig:
    """`run` is the folder of a run that trained a flow on `voxset_latents`, `structure` that of one on `structures`.

    The autoencoder is found through the first one's config. `tokens` is how many anchors a shape has at most; 0 is as
    many as in training, and `options: {tokens: N}` of a request goes before. A request's guidance and steps are those of
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
    max_batch: int = 16


@dataclass(frozen=True)
class Order:
    """A request with its defaults filled in."""

    request: Request
    structure: Request
    tokens: int
    attempt: int = 0

    @property
    def seed(self) -> int:
        """The request's own seed, or what follows from it when the shape before came out empty."""
        seed = self.request.seed
        return seed if self.attempt == 0 else fold("attempt", seed, self.attempt)


@dataclass(frozen=True)
class Sampled:
    """One shape: latent float32 [N,C], not normalised, and the anchors [N,3] it belongs to."""

    latent: Tensor
    positions: Tensor


class VoxSet(HotSwap):
    """A request's asset depends on that request alone, not on what is asked for beside it."""

    def __init__(self, config: VoxSetConfig) -> None:
        self.config = config
        run = load_run(config.run)
        if "autoencoder" not in run.config.data or "latent_mean" not in run.facts:
            raise MaquetteError(
                f"'{config.run}' was not trained on latents; give a run whose data are 'voxset_latents'"
            )
        self.latents = FlowStage(run, config.latent_stage)
        self.model = self.latents.model
        structure = load_run(relative_run(config.structure, run.folder))
        self.structure = FlowStage(structure, config.structure_stage)
        self.autoencoder = load_run(relative_run(run.config.data.autoencoder, run.folder)).model.requires_grad_(False)
        self.tokens = config.tokens or int(run.facts["tokens"])
        self.side = int(structure.facts["latent_resolution"])
        if self.side != self.autoencoder.config.anchor_resolution:
            raise MaquetteError(
                f"'{config.structure}' makes structures of {self.side} cells a side, but the anchors of '{config.run}' "
                f"have {self.autoencoder.config.anchor_resolution}; train the structure with that data.resolution"
            )
        self.decoder = plugins.build("decoders", config.decoder)

    def __call__(self, request: Request) -> Asset:
        """The asset of one request.

        Raises:
            MaquetteError: an unknown class; or the shape came out empty, also from the seeds that follow.
        """
        asset = self.batch([request])[0]
        if isinstance(asset, MaquetteError):
            raise asset
        return asset

    def batch(self, requests: Sequence[Request]) -> list[Asset | MaquetteError]:
        """The assets of several requests, in order; forward passes are shared where steps and tokens agree."""
        return [asset for asset, _ in self.batch_with_fields(requests)]

    def batch_with_fields(self, requests: Sequence[Request]) -> list[tuple[Asset | MaquetteError, Tensor]]:
        """As `batch`, each asset with the distance grid [1,1,R,R,R] that it was extracted from; an empty one for a
        request that the models cannot use."""
        orders: dict[int, Order] = {}
        assets: dict[int, tuple[Asset | MaquetteError, Tensor]] = {}
        for i, request in enumerate(requests):
            try:
                orders[i] = self.order(request)
            except MaquetteError as error:
                assets[i] = error, torch.empty(0)
        for group in groups(orders, self.config.max_batch):
            sampled = self.sample([orders[i] for i in group])
            for i, one in zip(group, sampled, strict=True):
                assets[i] = self._asset(orders[i], one)
        return [assets[i] for i in range(len(requests))]

    def order(self, request: Request) -> Order:
        """A request with its defaults filled in.

        Raises:
            MaquetteError: what the models cannot be asked for, or a number of tokens that is none.
        """
        options = request.options
        tokens = options.get("tokens", self.tokens)
        if not isinstance(tokens, int) or tokens < 1:
            raise MaquetteError(f"pipeline 'voxset': options.tokens is {tokens!r}; give a whole number of at least 1")
        own = {key: options.get(f"structure_{key}") for key in ("guidance", "steps")}
        return Order(self.latents.complete(request), self.structure.complete(replace(request, **own)), tokens)

    def sample(self, orders: Sequence[Order]) -> list[Sampled]:
        """The shapes of orders of one number of steps and of tokens, each from its own seed's noise."""
        anchors = self.anchors(orders)
        count = orders[0].tokens
        noise = torch.cat([drawn((1, count, self.latents.channels), fold("latent", order.seed)) for order in orders])
        tokens = {"positions": anchors.positions, "token_mask": anchors.mask}
        latent = self.latents.sample_rows([order.request for order in orders], noise, tokens)
        latent = latent.float() * self.latents.std + self.latents.mean
        each = zip(latent, *anchors, strict=True)
        return [Sampled(row[mask].clone(), positions[mask]) for row, positions, mask in each]

    def anchors(self, orders: Sequence[Order]) -> Anchors:
        """Where the tokens of shapes are, [B,N,3], padded to the number of tokens that was asked for."""
        shape = (1, self.structure.channels, *[self.side] * 3)
        noise = torch.cat([drawn(shape, fold("structure", order.seed)) for order in orders])
        grids = self.structure.sample_rows([order.structure for order in orders], noise)
        voxels = [occupied_voxels(grid) for grid in grids]
        found = choose_anchors(voxels, [order.tokens for order in orders], [order.seed for order in orders])
        missing = orders[0].tokens - found.positions.shape[1]
        return Anchors(F.pad(found.positions, (0, 0, 0, missing)), F.pad(found.mask, (0, missing)))

    @torch.inference_mode()
    def fields(self, sampled: Sampled) -> tuple[Tensor, Tensor]:
        """Distance [1,1,R,R,R] and colour [1,3,S,S,S] of one shape."""
        latent, positions = sampled.latent[None], sampled.positions[None]
        mask = torch.ones(latent.shape[:2], dtype=torch.bool)
        resolution = self.config.resolution
        tsdf = self.autoencoder.tsdf_grid(latent, positions, mask, resolution)
        return tsdf, self.autoencoder.color_grid(latent, positions, mask, resolution // 2)

    def _asset(self, order: Order, sampled: Sampled) -> tuple[Asset | MaquetteError, Tensor]:
        tsdf, color = self.fields(sampled)
        while not bool((tsdf < 0).any()) and order.attempt < ATTEMPTS - 1:
            order = replace(order, attempt=order.attempt + 1)
            sampled = self.sample([order])[0]
            tsdf, color = self.fields(sampled)
        request = order.request
        metadata = {
            "prompt": request.prompt,
            "class_name": request.class_name,
            "seed": request.seed,
            "attempts": order.attempt + 1,
            "steps": request.steps,
            "guidance": request.guidance,
            "tokens": len(sampled.positions),
            "latent_sha256": hashlib.sha256(sampled.latent.numpy().tobytes()).hexdigest(),
            "unknown_words": self.latents.unknown_words(request.prompt),
        }
        try:
            return Asset(self.decoder(tsdf[0, 0], color[0]), metadata), tsdf
        except MaquetteError as error:
            return MaquetteError(f"'{request.prompt}', seed {request.seed}: {error}"), tsdf


def groups(orders: dict[int, Order], most: int) -> list[list[int]]:
    """The numbers of orders that can be sampled together, at most so many in a group."""
    alike: dict[tuple[Any, ...], list[int]] = {}
    for i, order in orders.items():
        alike.setdefault((order.request.steps, order.structure.steps, order.tokens), []).append(i)
    return [rows[start : start + most] for rows in alike.values() for start in range(0, len(rows), most)]
