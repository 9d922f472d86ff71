"""Diffusion transformer over sets of tokens at given places: latents of anchors or of sparse voxels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from maquette.errors import MaquetteError
from maquette_models.transformer.attention import cast_for
from maquette_models.transformer.diffusion_transformer import DiffusionTransformer, DiffusionTransformerConfig
from maquette_models.transformer.dit_block import linear_flops

FIELDS = ("positions", "token_mask", "given")
"""What a batch of tokens has beside `latent`, and the condition takes along."""


@dataclass
class TokenDiTConfig(DiffusionTransformerConfig):
    """Tokens of `latent_channels` channels at positions in a grid of `resolution` cells a side.

    `given_channels` more are known of each token and are not generated. `position_frequencies` octaves of each
    coordinate tell a token its place in the grid; rotary positions tell it its place among the others. `tokens` is how
    many a sample has where a plan is made without data; the model takes any number.
    """

    latent_channels: int = 8
    given_channels: int = 0
    resolution: int = 16
    position_frequencies: int = 5
    tokens: int = 256


class TokenDiT(DiffusionTransformer):
    """Velocity of tokens [B,N,C] at a time, given where they are and a condition.

    The condition holds, beside the conditioner's tensors, `positions` float32 [B,N,3] in cells of the grid (a cell's
    centre is its index), `token_mask` bool [B,N] (absent: all count) and, with `given_channels`, `given` [B,N,G].
    No token sees one that does not count.
    """

    config: TokenDiTConfig

    def __init__(self, config: TokenDiTConfig) -> None:
        super().__init__(config, config.latent_channels + config.given_channels, config.latent_channels)
        self.place = nn.Linear(3 + 6 * config.position_frequencies, config.width)

    def encode_condition(self, prepared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the conditioner once for a whole sampling run; what belongs to the tokens is passed on."""
        own = {key: prepared[key] for key in FIELDS if key in prepared}
        return {**super().encode_condition(prepared), **own}

    def begin(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """What the first block receives: as of any diffusion transformer, and the tokens' mask, bool [B,N].

        Raises:
            MaquetteError: a condition without the tokens' positions.
        """
        if "positions" not in condition:
            raise MaquetteError(
                "architecture 'token_dit': the condition has no 'positions'; train on a dataset whose batches have them"
            )
        mask = condition.get("token_mask")
        if mask is None:
            mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        return (*super().begin(x, t, condition), mask)

    def stream(self, x: Tensor, condition: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The embedded tokens [B,N,W] of x [B,N,C], and their positions [B,N,3]."""
        values = x if not self.config.given_channels else torch.cat([x, condition["given"].to(x.dtype)], dim=-1)
        features = self.place_features(condition["positions"])
        h = self.embed(cast_for(self.embed, values)) + self.place(cast_for(self.place, features))
        return h.to(self.embed.weight.dtype), condition["positions"]

    def place_features(self, positions: Tensor) -> Tensor:
        """Coordinates in [-1,1], their sines and their cosines by octave: [B,N,3] -> [B,N,3+6F]."""
        centred = (positions + 0.5) * (2 / self.config.resolution) - 1
        octaves = torch.exp2(torch.arange(self.config.position_frequencies, device=positions.device)) * (math.pi / 2)
        angles = (centred[..., None] * octaves).flatten(-2)
        return torch.cat([centred, angles.sin(), angles.cos()], dim=-1)

    def finish(self, h: Tensor, modulation: Tensor, *_: Tensor) -> Tensor:
        """The velocity [B,N,C], from what the last block gave and what `begin` gave beside the stream."""
        return self.velocities(h, modulation)

    def flops(self, batch: Mapping[str, Any]) -> int:
        """Twice the multiply-adds of the matrix products of one forward pass on a batch, padding included."""
        rows, tokens = batch["latent"].shape[:2]
        return self.stream_flops(rows, tokens) + rows * tokens * linear_flops(self.place)

    def token_count(self, batch: Mapping[str, Any]) -> int:
        """How many tokens go through the blocks for a batch, padding included."""
        rows, tokens = batch["latent"].shape[:2]
        return int(rows * tokens)

    def example_batch(self, rows: int) -> dict[str, Any]:
        """A batch of the right shapes, for planning."""
        shape = (rows, self.config.tokens)
        given = {"given": torch.zeros(*shape, self.config.given_channels)} if self.config.given_channels else {}
        return {
            "latent": torch.zeros(*shape, self.config.latent_channels),
            "positions": torch.zeros(*shape, 3),
            "token_mask": torch.ones(shape, dtype=torch.bool),
            **given,
            **self.conditioner.example_batch(rows),
            "position": torch.arange(rows),
        }

    def begin_parts(self) -> list[str]:
        """The children that `begin` uses."""
        return [*super().begin_parts(), "place"]

    def token_axes(self) -> tuple[int | None, ...]:
        """Of each of `begin`'s results, the axis that counts the stream's tokens; keys are masked whole."""
        return (1, None, 1, None, None, None)
