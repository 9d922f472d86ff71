"""A decoder-only transformer over tokens that tell of places, which looks at the tokens of a condition."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from maquette import plugins
from maquette_models.transformer.attention import cast_for, compute_dtype
from maquette_models.transformer.causal_block import CausalBlock, Memory
from maquette_models.transformer.dit_block import rms_norm


class TokenCounts(Protocol):
    """What the transformer knows of a vocabulary."""

    @property
    def size(self) -> int:
        """Number of tokens."""

    @property
    def levels(self) -> int:
        """Cells a side of the grid."""


class SequenceConfig(Protocol):
    """The keys that every such architecture has."""

    width: int
    depth: int
    heads: int
    mlp_hidden: int
    tokens: int
    conditioner: dict[str, Any]


@dataclass(frozen=True)
class Reading:
    """What `step` keeps from token to token: a memory a block, and the tables of tokens, which stay as they are."""

    memories: list[Memory]
    embed: Tensor
    head: Tensor


class CausalTransformer(nn.Module):
    """Logits of the next token, from the tokens so far and a condition.

    Args:
        config: `width`, `depth`, `heads`, `mlp_hidden` (0 means 8/3 of the width, in multiples of 32), `tokens` (how
            long a sequence is where a plan is made without data) and the block `conditioner`.
        vocabulary: its `size` and the `levels` of the grid that places are on.
        table: makes the vectors of tokens from the standard deviation they start with: a module that gives [V, W].
    """

    def __init__(self, config: SequenceConfig, vocabulary: TokenCounts, table: Callable[[float], nn.Module]) -> None:
        super().__init__()
        self.config, self.vocabulary = config, vocabulary
        self.conditioner = plugins.build("conditioners", config.conditioner)
        width = config.width
        self.octaves = math.ceil(math.log2(vocabulary.levels))
        self.embed = table(0.1)
        self.place = nn.Linear(3 + 6 * self.octaves, width)
        self.context = nn.Linear(self.conditioner.config.width, width)
        hidden = config.mlp_hidden or 32 * math.ceil(width * 8 / 3 / 32)
        self.layers = nn.ModuleList(CausalBlock(width, width // config.heads, hidden) for _ in range(config.depth))
        for layer in self.layers:
            for out in (layer.attention.out, layer.condition_attention.out, layer.mlp.down):
                nn.init.normal_(out.weight, std=(2 * width * config.depth) ** -0.5)
        self.head_norm = nn.Parameter(torch.ones(width))
        self.head = table(0.01)

    def encode_condition(self, prepared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the conditioner once for a whole sampling run; `forward` takes the result as its condition too."""
        tokens, mask, _ = self.conditioner(prepared)
        return {"tokens": self.context(cast_for(self.context, tokens)), "mask": mask}

    def forward(self, tokens: Tensor, places: Tensor, positions: Tensor, condition: Mapping[str, Tensor]) -> Tensor:
        """Logits [B,N,V] of the token after each.

        Args:
            tokens: int64 [B,N].
            places: int64 [B,N,3], the place on the grid that a token tells of; `levels` for coordinates that are none.
            positions: float32 [B,N,3]: in the sequence, and of what groups its tokens.
            condition: what `conditioner.prepare` made from a batch, or what `encode_condition` made of that.
        """
        h, *context = self.begin(tokens, places, positions, condition)
        for layer in self.layers:
            h = layer(h, *context)
        return self.finish(h, *context)

    def reading(self, rows: int, most: int) -> Reading:
        """What `step` begins with, for sequences of up to `most` tokens."""
        like = self.head_norm.new_empty(1, 1, self.config.heads, self.config.width // self.config.heads)
        return Reading([Memory(rows, most, like) for _ in self.layers], self.embed(), self.head())

    def step(
        self,
        tokens: Tensor,
        places: Tensor,
        positions: Tensor,
        condition: Mapping[str, Tensor],
        reading: Reading,
    ) -> Tensor:
        """As `forward`, for the tokens that follow on those read, and reads them too.

        `condition` is what `encode_condition` gave, the same in all steps.
        """
        h, *context = self.begin(tokens, places, positions, condition, reading.embed)
        for layer, memory in zip(self.layers, reading.memories, strict=True):
            h = layer(h, *context, memory)
        return self.finish(h, table=reading.head)

    def begin(
        self,
        tokens: Tensor,
        places: Tensor,
        positions: Tensor,
        condition: Mapping[str, Tensor],
        table: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """What the first block receives: residual stream [B,N,W], positions, condition tokens [B,T,W], mask [B,T].

        `table` is what `embed()` gave, where that is known already.
        """
        if "tokens" not in condition:
            condition = self.encode_condition(condition)
        features = self.place_features(places)
        table = self.embed() if table is None else table
        h = table[tokens] + self.place(cast_for(self.place, features))
        return h, positions, condition["tokens"], condition["mask"]

    def finish(self, h: Tensor, *_: Tensor, table: Tensor | None = None) -> Tensor:
        """The logits, from what the last block gave; `table` is what `head()` gave, where that is known already."""
        table, dtype = self.head() if table is None else table, compute_dtype(self.head_norm)
        return rms_norm(h, self.head_norm).to(dtype) @ table.to(dtype).T

    def place_features(self, places: Tensor) -> Tensor:
        """Coordinates in [-1,1], their sines and cosines by octave [B,N,3+6F]; zero for coordinates that are none."""
        levels = self.vocabulary.levels
        centred = (places.float() + 0.5) * (2 / levels) - 1
        octaves = torch.exp2(torch.arange(self.octaves, device=places.device)) * math.pi
        angles = (centred[..., None] * octaves).flatten(-2)
        features = torch.cat([centred, angles.sin(), angles.cos()], dim=-1)
        nowhere = places == levels
        by_octave = nowhere.repeat_interleave(self.octaves, dim=-1)
        return features.masked_fill(torch.cat([nowhere, by_octave, by_octave], dim=-1), 0.0)

    def blocks(self) -> list[nn.Module]:
        """The repeated blocks, in order."""
        return list(self.layers)

    def begin_parts(self) -> list[str]:
        """The children that `begin` uses."""
        return ["conditioner", "embed", "place", "context"]

    def finish_parts(self) -> list[str]:
        """The children and parameters that `finish` uses."""
        return ["head_norm", "head"]

    def tensor_parallel_plan(self) -> dict[str, str]:
        """Nothing to split: the vocabulary's tables weigh as much as the blocks."""
        return {}

    def token_count(self, batch: Mapping[str, Any]) -> int:
        """How many tokens go through the blocks for a batch, padding included."""
        rows, tokens = batch["tokens"].shape
        return int(rows * (tokens - 1))

    def flops(self, batch: Mapping[str, Any]) -> int:
        """Twice the multiply-adds of the matrix products of one forward pass on a batch, padding included."""
        rows, tokens = batch["tokens"].shape[0], batch["tokens"].shape[1] - 1
        words, width = self.conditioner.token_count, self.config.width
        ends = 2 * rows * tokens * (self.place.weight.numel() + width * self.vocabulary.size)
        condition = self.conditioner.flops(rows) + 2 * rows * words * self.context.weight.numel()
        return ends + condition + sum(block.flops(rows, tokens, words) for block in self.layers)

    def example_batch(self, rows: int) -> dict[str, Any]:
        """A batch of the right shapes, for planning."""
        shape = (rows, self.config.tokens)
        return {
            "tokens": torch.zeros(shape, dtype=torch.int64),
            "token_mask": torch.ones(shape, dtype=torch.bool),
            "places": torch.zeros(*shape, 3, dtype=torch.int64),
            "positions": torch.zeros(*shape, 3),
            **self.conditioner.example_batch(rows),
            "position": torch.arange(rows),
        }
