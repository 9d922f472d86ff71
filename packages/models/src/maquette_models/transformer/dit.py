"""Diffusion transformer over latent grids, cut into patches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from maquette.errors import MaquetteError
from maquette_models.transformer.attention import cast_for
from maquette_models.transformer.condition_grid import ConditionGrid
from maquette_models.transformer.diffusion_transformer import DiffusionTransformer, DiffusionTransformerConfig


@dataclass
class DiTConfig(DiffusionTransformerConfig):
    """A grid [latent_channels, latent_resolution^3] is cut into patches of `patch`^3 cells, a token each.

    With `condition_grid` what the condition says is also laid into these tokens, by a perceptron of that many hidden
    channels: a picture tells the shape much sooner that way than by cross-attention alone. 0 is none.
    """

    latent_channels: int = 7
    latent_resolution: int = 8
    patch: int = 2
    condition_grid: int = 0


class DiT(DiffusionTransformer):
    """Velocity of a latent grid at a time, given a condition.

    Raises:
        MaquetteError: sizes that do not divide each other, or a condition grid of a conditioner whose number of tokens
            is not known.
    """

    config: DiTConfig

    def __init__(self, config: DiTConfig) -> None:
        if config.latent_resolution % config.patch:
            raise MaquetteError(
                f"architecture 'dit': side {config.latent_resolution} is no multiple of patch {config.patch}"
            )
        side = config.latent_resolution // config.patch
        values = config.latent_channels * config.patch**3
        super().__init__(config, values, values, (side**3, config.width))
        axis = torch.arange(side)
        positions = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).reshape(-1, 3)
        self.register_buffer("positions", positions.to(torch.float32), persistent=False)
        if config.condition_grid:
            tokens = getattr(self.conditioner, "token_count", 0)
            if not tokens:
                raise MaquetteError("architecture 'dit': condition_grid needs a conditioner with a 'token_count'")
            self.condition_grid = ConditionGrid(tokens, side**3, config.width, config.condition_grid)

    def encode_condition(self, prepared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the conditioner once for a whole sampling run, and lay what it gives into the grid."""
        encoded = super().encode_condition(prepared)
        if not self.config.condition_grid:
            return encoded
        return {**encoded, "grid": self.condition_grid(encoded["tokens"], encoded["mask"])}

    def stream(self, x: Tensor, condition: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The embedded patches [B,N,W] of x [B,C,L,L,L] and their places [N,3] in the grid of patches."""
        h = self.embed(cast_for(self.embed, self.tokens(x))) + self.position
        return h + condition["grid"] if self.config.condition_grid else h, self.positions

    def finish(self, h: Tensor, modulation: Tensor, positions: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """The velocity [B,C,L,L,L], from what the last block gave and what `begin` gave beside the stream."""
        return self.grid(self.velocities(h, modulation))

    def tokens(self, x: Tensor) -> Tensor:
        """[B,C,L,L,L] -> [B, (L/p)^3, C*p^3]."""
        p = self.config.patch
        return rearrange(x, "b c (x p) (y q) (z r) -> b (x y z) (c p q r)", p=p, q=p, r=p)

    def grid(self, tokens: Tensor) -> Tensor:
        """The inverse of `tokens`."""
        p = self.config.patch
        side = self.config.latent_resolution // p
        pattern = "b (x y z) (c p q r) -> b c (x p) (y q) (z r)"
        return rearrange(tokens, pattern, x=side, y=side, z=side, p=p, q=p, r=p)

    def flops(self, batch: Mapping[str, Any]) -> int:
        """Twice the multiply-adds of the matrix products of one forward pass on a batch."""
        laying = self.condition_grid.flops() if self.config.condition_grid else 0
        return self.stream_flops(len(batch["latent"]), len(self.positions)) + len(batch["latent"]) * laying

    def token_count(self, batch: Mapping[str, Any]) -> int:
        """How many tokens go through the blocks for a batch."""
        return len(batch["latent"]) * len(self.positions)

    def example_batch(self, rows: int) -> dict[str, Any]:
        """A batch of the right shapes, for planning."""
        side = self.config.latent_resolution
        latent = torch.zeros(rows, self.config.latent_channels, side, side, side)
        return {"latent": latent, **self.conditioner.example_batch(rows), "position": torch.arange(rows)}

    def begin_parts(self) -> list[str]:
        """The children, parameters and buffers that `begin` uses."""
        grid = ["condition_grid"] if self.config.condition_grid else []
        return [*super().begin_parts(), "position", "positions", *grid]

    def new_weights(self) -> list[str]:
        """Weights that a run which starts from another one's may lack there: they keep their initial values."""
        return [*super().new_weights(), *(["condition_grid."] if self.config.condition_grid else [])]

    def token_axes(self) -> tuple[int | None, ...]:
        """Of each of `begin`'s results, the axis that counts the stream's tokens."""
        return (1, None, 0, None, None)
