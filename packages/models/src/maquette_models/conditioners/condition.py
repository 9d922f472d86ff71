"""What a conditioner gives, and what one part of a condition is: text, a picture, a class, a shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maquette.engine.randomness import uniform
from maquette.errors import MaquetteError
from maquette_models.transformer.rowwise import rowwise


class Condition(NamedTuple):
    """tokens [B,T,W]; mask [B,T] bool, True where a token counts; pooled [B,W]."""

    tokens: Tensor
    mask: Tensor
    pooled: Tensor


class Part(nn.Module):
    """A conditioner of one thing, which each sample either has or has not.

    A subclass gives `read`, `encode`, `example_batch`, `encoded_count` and `encoding_flops`, and names in `reads` the
    fields of a request that it can use. The first token says whether the thing is there, so that there is always
    something to attend to; what was encoded follows it and counts only where the thing is there.

    Args:
        width: W of the tokens.
        heads: of the encoder's attention.
        drop: how often a sample's condition is hidden in training; guidance needs some.
    """

    reads: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, width: int, heads: int, drop: float) -> None:
        super().__init__()
        if width % heads:
            raise MaquetteError(f"a conditioner's width {width} is no multiple of its {heads} heads")
        if not 0 <= drop <= 1:
            raise MaquetteError(f"a conditioner's drop is {drop}; it must be a share, e.g. 0.1")
        self.drop = drop
        self.lead = nn.Parameter(torch.randn(2, width) * 0.5)
        self.norm = nn.LayerNorm(width)
        self.pool = nn.Linear(width, width)

    def read(self, batch: Mapping[str, Any], rows: int) -> dict[str, Tensor]:
        """A batch's things as tensors [B,...], ready to be encoded; `known`, bool [B], says which samples have one.

        What the batch lacks is not known in any sample. In training things are augmented here.
        """
        raise NotImplementedError

    def encode(self, prepared: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Tokens [B,T,W] of what `read` gave, and which of them count, bool [B,T]."""
        raise NotImplementedError

    def example_batch(self, batch_size: int) -> dict[str, Any]:
        """What `prepare` reads of a batch, in the right shapes."""
        raise NotImplementedError

    @property
    def encoded_count(self) -> int:
        """How many tokens `encode` gives a sample."""
        raise NotImplementedError

    def encoding_flops(self) -> int:
        """Twice the multiply-adds of the matrix products of encoding one sample."""
        raise NotImplementedError

    def prepare(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """The condition of a batch, ready for `forward`; in training hidden from some samples."""
        rows = count_rows(batch)
        prepared = self.read(batch, rows)
        if self.training:
            prepared = self.hide(prepared, uniform("drop_condition", (rows, 1))[:, 0] < self.drop)
        return {key: value.to(self.lead.device) for key, value in prepared.items()}

    def null(self, batch_size: int) -> dict[str, Tensor]:
        """The prepared condition of nothing at all, for guidance."""
        return {key: value.to(self.lead.device) for key, value in self.read({}, batch_size).items()}

    def hide(self, prepared: Mapping[str, Tensor], hidden: Tensor) -> dict[str, Tensor]:
        """What `prepare` made, without the samples where `hidden` [B] is True."""
        return {**prepared, "known": prepared["known"] & ~hidden.to(prepared["known"].device)}

    def forward(self, prepared: Mapping[str, Tensor]) -> Condition:
        """Encode what `prepare` made."""
        tokens, mask = self.tokens(prepared)
        return Condition(tokens, mask, F.silu(self.pooled(tokens, mask)))

    def tokens(self, prepared: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """All tokens [B,1+T,W] and which of them count, bool [B,1+T]."""
        known = prepared["known"]
        encoded, counts = self.encode(prepared)
        lead = self.lead[known.long()].to(encoded.dtype)
        tokens = self.norm(torch.cat([lead[:, None], encoded], dim=1))
        return tokens, torch.cat([torch.ones_like(known[:, None]), counts & known[:, None]], dim=1)

    def pooled(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """One vector [B,W] a sample, before its nonlinearity: of the mean of the tokens that count."""
        share = mask.to(tokens.dtype) / mask.sum(dim=1, keepdim=True)
        # Masked tokens are cut out, not multiplied by zero: what nobody gave need not be finite.
        mean = (tokens.masked_fill(~mask[..., None], 0.0) * share[..., None]).sum(dim=1)
        return rowwise(self.pool, mean.to(self.pool.weight.dtype), self.training)

    @property
    def token_count(self) -> int:
        """Tokens a sample."""
        return 1 + self.encoded_count

    def flops(self, batch_size: int) -> int:
        """Twice the multiply-adds of the matrix products of one forward pass."""
        return batch_size * (self.encoding_flops() + 2 * self.pool.weight.numel())


def count_rows(batch: Mapping[str, Any]) -> int:
    """How many samples a batch has.

    Raises:
        MaquetteError: it is empty.
    """
    for value in batch.values():
        return len(value)
    raise MaquetteError("a conditioner was given an empty batch; for the condition of nothing call null(rows)")
