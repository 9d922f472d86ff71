"""Condition tokens of a caption, by a small transformer over byte pairs that is trained with the generator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from maquette_models.conditioners.byte_pairs import PAD, BytePairs
from maquette_models.conditioners.condition import Part
from maquette_models.conditioners.encoder_block import EncoderBlock, block_flops


@dataclass
class TextConfig:
    """`merges` is the tokenizer and usually says `${facts:merges}`, which a dataset gives whose key
    `condition.tokenizer` is set. Longer captions are cut at `max_tokens`."""

    merges: list[str] = field(default_factory=list)
    width: int = 128
    depth: int = 2
    heads: int = 4
    max_tokens: int = 32
    drop: float = 0.1


class Text(Part):
    """Reads `caption`; an empty one is none."""

    reads: ClassVar[frozenset[str]] = frozenset({"prompt"})

    def __init__(self, config: TextConfig) -> None:
        super().__init__(config.width, config.heads, config.drop)
        self.config = config
        self.tokenizer = BytePairs(config.merges)
        self.embedding = nn.Embedding(self.tokenizer.size, config.width)
        self.position = nn.Parameter(torch.randn(config.max_tokens, config.width) * 0.1)
        self.blocks = nn.ModuleList(EncoderBlock(config.width, config.heads) for _ in range(config.depth))
        nn.init.normal_(self.embedding.weight, std=0.5)

    def read(self, batch: Mapping[str, Any], rows: int) -> dict[str, Tensor]:
        """`ids` int64 [B,max_tokens], padded."""
        length = self.config.max_tokens
        ids = torch.full((rows, length), PAD, dtype=torch.int64)
        for row, caption in zip(ids, batch.get("caption", ()), strict=False):
            found = self.tokenizer.ids(caption)[:length]
            row[: len(found)] = torch.tensor(found, dtype=torch.int64)
        return {"ids": ids, "known": (ids != PAD).any(dim=1)}

    def encode(self, prepared: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Tokens of byte pairs, and which are no padding."""
        mask = prepared["ids"] != PAD
        tokens = self.embedding(prepared["ids"]) + self.position
        for block in self.blocks:
            tokens = block(tokens, mask)
        return tokens, mask

    def example_batch(self, batch_size: int) -> dict[str, Any]:
        """Captions of any kind."""
        return {"caption": ["a shape"] * batch_size}

    @property
    def encoded_count(self) -> int:
        """Tokens of byte pairs."""
        return self.config.max_tokens

    def encoding_flops(self) -> int:
        """Of the transformer."""
        return len(self.blocks) * block_flops(self.config.max_tokens, self.config.width)
