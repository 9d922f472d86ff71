"""A condition by a frozen encoder, which runs in training or, once for all, ahead of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from maquette_models.conditioners.condition import Part

STORED = torch.float16
"""Embeddings are of this precision, whether they were stored or are made on the spot, so that both train alike."""


class FrozenPart(Part):
    """A part whose tokens are a linear map of what a frozen encoder gives; the map alone is trained.

    A batch may hold the encoder's output, `<name>_embedding` [B,K,T,E] and `<name>_mask` [B,K,T], which `maquette
    precompute` stores and the latents' key `condition.embeddings` reads: K=1 caption, or K pictures. Otherwise the
    encoder runs. A subclass gives `name`, `per_caption` (or else its things are pictures) and `embed`.
    """

    name: str
    per_caption: bool

    def __init__(self, width: int, drop: float, embedding_width: int, tokens: int) -> None:
        super().__init__(width, 1, drop)
        self.embedding_width, self.embedded_tokens = embedding_width, tokens
        self.project = nn.Sequential(nn.LayerNorm(embedding_width), nn.Linear(embedding_width, width))

    def embed(self, things: Sequence[str] | Tensor) -> tuple[Tensor, Tensor]:
        """What the encoder gives of captions, or of pictures [N,4,S,S]: float16 [N,T,E], and what counts [N,T]."""
        raise NotImplementedError

    def read(self, batch: Mapping[str, Any], rows: int) -> dict[str, Tensor]:
        """`embedding` float16 [B,T,E] and `counts` bool [B,T]."""
        found = self._stored_or_made(batch)
        if found is None:
            shape = (rows, self.embedded_tokens)
            nothing = torch.zeros(rows, dtype=torch.bool)
            return {
                "embedding": torch.zeros(*shape, self.embedding_width, dtype=STORED),
                "counts": torch.zeros(shape, dtype=torch.bool),
                "known": nothing,
            }
        embedding, counts = found
        known = counts.any(dim=1)
        if self.per_caption and "caption" in batch:
            known = known & torch.tensor([bool(text.strip()) for text in batch["caption"]], device=known.device)
        return {"embedding": embedding, "counts": counts, "known": known}

    def _stored_or_made(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor] | None:
        """Of each sample's caption or first picture; None where the batch has neither."""
        if f"{self.name}_embedding" in batch:
            return batch[f"{self.name}_embedding"][:, 0].to(STORED), batch[f"{self.name}_mask"][:, 0]
        source = "caption" if self.per_caption else "view_rgb"
        if source not in batch:
            return None
        return self.embed(batch[source] if self.per_caption else batch[source][:, 0].float())

    def encode(self, prepared: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The mapped embedding."""
        return self.project(prepared["embedding"].to(self.lead.dtype)), prepared["counts"]

    def example_batch(self, batch_size: int) -> dict[str, Any]:
        """An embedding, which needs no encoder."""
        shape = (batch_size, 1, self.embedded_tokens)
        return {
            f"{self.name}_embedding": torch.zeros(*shape, self.embedding_width, dtype=STORED),
            f"{self.name}_mask": torch.ones(shape, dtype=torch.bool),
        }

    @property
    def encoded_count(self) -> int:
        """As the encoder gives them."""
        return self.embedded_tokens

    def encoding_flops(self) -> int:
        """Of the map: the frozen encoder is no part of the trained model."""
        return self.embedded_tokens * 2 * self.project[1].weight.numel()
