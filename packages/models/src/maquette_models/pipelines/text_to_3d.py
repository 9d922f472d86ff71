"""From a request to a coloured mesh: condition, sampled latent, decoded fields, extracted surface.

The condition is whatever the run's conditioner reads: a prompt, a class, pictures, a mesh.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from omegaconf import MISSING
from torch import Tensor

from maquette import plugins
from maquette.engine.randomness import fold
from maquette.errors import MaquetteError
from maquette.runs import load_run, relative_run
from maquette.types import Asset, Request
from maquette_models.adapters.hot_swap import HotSwap
from maquette_models.conditioners.request_batch import batch_of, class_named
from maquette_models.samplers.guidance import Guided

ATTEMPTS = 3
"""How often a request is sampled, each time from another noise, when the shape comes out empty."""


@dataclass
class TextTo3DConfig:
    """`run` is the folder of a run that trained a flow on latents; the autoencoder is found through its
    config."""

    run: str = MISSING
    sampler: dict[str, Any] = field(default_factory=lambda: {"name": "euler", "steps": 20})
    decoder: dict[str, Any] = field(default_factory=lambda: {"name": "marching_cubes"})
    guidance: float = 3.0
    interval: list[float] = field(default_factory=lambda: [0.0, 1.0])
    rescale: float = 0.0
    zero_star: bool = False
    max_batch: int = 16


@dataclass(frozen=True)
class Order:
    """A request with its defaults filled in; `condition` is a batch of one row, for the conditioner."""

    request: Request
    condition: Mapping[str, Any]
    class_name: str | None
    steps: int
    guidance: float
    unknown_words: list[str]
    attempt: int = 0

    @property
    def noise_seed(self) -> int:
        """The request's own seed, or what follows from it when the shape before came out empty."""
        seed = self.request.seed
        return seed if self.attempt == 0 else fold("attempt", seed, self.attempt)


class TextTo3D(HotSwap):
    """A request's asset depends on that request alone, not on what is asked for beside it."""

    def __init__(self, config: TextTo3DConfig) -> None:
        self.config = config
        run = load_run(config.run)
        if "autoencoder" not in run.config.data or "latent_mean" not in run.facts:
            raise MaquetteError(
                f"'{config.run}' was not trained on latents; give a run whose data is of kind 'latents'"
            )
        self.model = run.model.requires_grad_(False)
        autoencoder = relative_run(run.config.data.autoencoder, run.folder)
        self.autoencoder = load_run(autoencoder).model.requires_grad_(False)
        statistics = (run.facts["latent_mean"], run.facts["latent_std"])
        self.mean, self.std = (torch.tensor(values).view(1, -1, 1, 1, 1) for values in statistics)
        side = run.facts["latent_resolution"]
        self.latent_shape = (1, run.facts["latent_channels"], side, side, side)
        self.sampler = plugins.build("samplers", config.sampler)
        self.decoder = plugins.build("decoders", config.decoder)

    def __call__(self, request: Request) -> Asset:
        """The asset of one request.

        Raises:
            MaquetteError: the request holds what the model was not trained on, or an unknown class; or the shape came
                out empty, also from the seeds that follow.
        """
        asset = self.batch([request])[0]
        if isinstance(asset, MaquetteError):
            raise asset
        return asset

    def batch(self, requests: Sequence[Request]) -> list[Asset | MaquetteError]:
        """The assets of several requests, in order; forward passes are shared where the number of steps
        agrees."""
        return [asset for asset, _ in self.batch_with_fields(requests)]

    def batch_with_fields(self, requests: Sequence[Request]) -> list[tuple[Asset | MaquetteError, Tensor]]:
        """As `batch`, each asset with the distance grid [1,1,R,R,R] that it was extracted from; an empty one for a
        request that the model cannot use."""
        orders: dict[int, Order] = {}
        assets: dict[int, tuple[Asset | MaquetteError, Tensor]] = {}
        for i, request in enumerate(requests):
            try:
                orders[i] = self._order(request)
            except MaquetteError as error:
                assets[i] = error, torch.empty(0)
        for steps in sorted({order.steps for order in orders.values()}):
            rows = [i for i, order in orders.items() if order.steps == steps]
            for start in range(0, len(rows), self.config.max_batch):
                chunk = rows[start : start + self.config.max_batch]
                latents = self.sample([orders[i] for i in chunk], steps)
                for i, latent in zip(chunk, latents, strict=True):
                    assets[i] = self._asset(orders[i], latent[None])
        return [assets[i] for i in range(len(requests))]

    @torch.inference_mode()
    def sample(self, orders: Sequence[Order], steps: int) -> Tensor:
        """Normalised latents [B,C,L,L,L] of orders of one number of steps, each from its own seed's noise."""
        noise = [
            torch.randn(self.latent_shape, generator=torch.Generator().manual_seed(order.noise_seed))
            for order in orders
        ]
        return self.sampler.sample(self.velocity(orders), torch.cat(noise), steps)

    @torch.inference_mode()
    def velocity(self, orders: Sequence[Order]) -> Guided:
        """The guided velocity field of orders, a row each."""
        # Conditions are encoded one by one: what a row's encoding is must not depend on the rows beside it.
        conditioner = self.model.conditioner
        conditions = [self.model.encode_condition(conditioner.prepare(order.condition)) for order in orders]
        null = self.model.encode_condition(conditioner.null(1))
        return Guided(
            self.model,
            {key: torch.cat([condition[key] for condition in conditions]) for key in null},
            {key: value.expand(len(orders), *value.shape[1:]) for key, value in null.items()},
            torch.tensor([order.guidance for order in orders]),
            (self.config.interval[0], self.config.interval[1]),
            self.config.rescale,
            self.config.zero_star,
        )

    @torch.inference_mode()
    def fields(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Distance [1,1,R,R,R] and colour [1,3,S,S,S] of a normalised latent [1,C,L,L,L]."""
        return self.autoencoder.decode(latent * self.std + self.mean)

    def _order(self, request: Request) -> Order:
        conditioner = self.model.conditioner
        unknown = getattr(conditioner, "unknown_words", None)
        return Order(
            request=request,
            condition=batch_of(conditioner, request),
            class_name=class_named(conditioner, request),
            steps=self.sampler.config.steps if request.steps is None else request.steps,
            guidance=self.config.guidance if request.guidance is None else request.guidance,
            unknown_words=unknown(request.prompt) if unknown else [],
        )

    def _asset(self, order: Order, latent: Tensor) -> tuple[Asset | MaquetteError, Tensor]:
        tsdf, color = self.fields(latent)
        while not bool((tsdf < 0).any()) and order.attempt < ATTEMPTS - 1:
            order = replace(order, attempt=order.attempt + 1)
            latent = self.sample([order], order.steps)
            tsdf, color = self.fields(latent)
        metadata = {
            "prompt": order.request.prompt,
            "class_name": order.class_name,
            "seed": order.request.seed,
            "attempts": order.attempt + 1,
            "steps": order.steps,
            "guidance": order.guidance,
            "latent_sha256": hashlib.sha256(latent.float().numpy().tobytes()).hexdigest(),
            "unknown_words": order.unknown_words,
            **({"images": len(order.request.images)} if order.request.images else {}),
        }
        try:
            return Asset(self.decoder(tsdf[0, 0], color[0]), metadata), tsdf
        except MaquetteError as error:
            return MaquetteError(f"'{order.request.prompt}', seed {order.request.seed}: {error}"), tsdf
