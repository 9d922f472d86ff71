"""Condition tokens from a class and the words of a caption, each of which may be missing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maquette.engine.randomness import uniform
from maquette.errors import MaquetteError
from maquette_models.conditioners.condition import Condition
from maquette_models.conditioners.encoder_block import EncoderBlock, block_flops
from maquette_models.transformer.rowwise import rowwise

PAD, UNKNOWN = 0, 1
SPECIAL = ("<pad>", "<unk>")
WORD = re.compile(r"[a-z0-9]+")


@dataclass
class ClassCaptionConfig:
    """`classes` and `vocabulary` usually say `${facts:classes}` and `${facts:vocabulary}`."""

    classes: list[str] = field(default_factory=list)
    vocabulary: list[str] = field(default_factory=list)
    width: int = 128
    depth: int = 0
    heads: int = 4
    max_words: int = 24
    drop_class: float = 0.3
    drop_caption: float = 0.1
    drop_both: float = 0.1
    drop_word: float = 0.1


class Drop(NamedTuple):
    """What is hidden from the model: the class and the caption, bool [B] each, and words, bool [B, max_words]."""

    class_id: Tensor
    caption: Tensor
    words: Tensor


def words(text: str) -> list[str]:
    """The lower-case words and numbers of a text: "thick-legged" gives two."""
    return WORD.findall(text.lower())


class ClassCaption(nn.Module):
    """One class token followed by `max_words` caption tokens.

    In training each sample loses its class with probability `drop_class`, its caption with `drop_caption`,
    and both with `drop_both`, all three independently; the class rate is high because people write captions
    and give no class.
    """

    reads: ClassVar[frozenset[str]] = frozenset({"prompt", "class_name"})

    def __init__(self, config: ClassCaptionConfig) -> None:
        super().__init__()
        if config.width % config.heads:
            raise MaquetteError(
                f"conditioner 'class_caption': width {config.width} is no multiple of {config.heads} heads"
            )
        self.config = config
        self.class_index = {name: index for index, name in enumerate(config.classes)}
        self.word_index = {word: index for index, word in enumerate((*SPECIAL, *config.vocabulary))}
        self.null_class = len(config.classes)
        self.class_embedding = nn.Embedding(len(config.classes) + 1, config.width)
        self.word_embedding = nn.Embedding(len(self.word_index), config.width)
        self.position = nn.Parameter(torch.zeros(config.max_words, config.width))
        self.blocks = nn.ModuleList(EncoderBlock(config.width, config.heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.pool = nn.Linear(2 * config.width, config.width)
        for weight in (self.class_embedding.weight, self.word_embedding.weight, self.position):
            nn.init.normal_(weight, std=0.5)

    def prepare(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Ids from a batch's `class_id` [B] int64 and `caption` (B strings); either may be missing.

        In training some are hidden, sample by sample. Returns class_id [B] and words [B, max_words], int64; -1 or a
        missing key means no class, "" no caption.

        Raises:
            MaquetteError: neither is given, or a class id is out of range.
        """
        ids, captions = batch.get("class_id"), batch.get("caption")
        if ids is None and captions is None:
            raise MaquetteError("conditioner 'class_caption' needs 'class_id' or 'caption' in a batch; it has neither")
        size = len(ids) if ids is not None else len(captions or ())
        class_id = torch.full((size,), -1) if ids is None else torch.as_tensor(ids, dtype=torch.int64).cpu()
        if size and int(class_id.max()) >= self.null_class:
            raise MaquetteError(f"class_id {int(class_id.max())} but the conditioner has {self.null_class} classes")
        class_id = torch.where(class_id < 0, self.null_class, class_id)
        rows = [self._encode(text) for text in (captions if captions is not None else [""] * size)]
        prepared = {"class_id": class_id, "words": torch.tensor(rows, dtype=torch.int64).view(size, -1)}
        if self.training:
            prepared = self.hide(prepared, self.draw_drop(size))
        return {key: value.to(self.position.device) for key, value in prepared.items()}

    def null(self, batch_size: int) -> dict[str, Tensor]:
        """The prepared condition of nothing at all, for guidance."""
        return self.prepare({"class_id": [-1] * batch_size, "caption": [""] * batch_size})

    def unknown_words(self, text: str) -> list[str]:
        """The words of a text that the vocabulary lacks, in order, each once."""
        return list(dict.fromkeys(word for word in words(text) if word not in self.word_index))

    def class_of(self, text: str) -> int | None:
        """The id of the first class named in a text, or None."""
        return next((self.class_index[word] for word in words(text) if word in self.class_index), None)

    def draw_drop(self, batch_size: int) -> Drop:
        """Draw what to hide from each sample of the batch under way."""
        rates = torch.tensor([self.config.drop_class, self.config.drop_caption, self.config.drop_both])
        hidden = uniform("drop", (batch_size, 3)) < rates
        words = uniform("drop_word", (batch_size, self.config.max_words)) < self.config.drop_word
        return Drop(hidden[:, 0] | hidden[:, 2], hidden[:, 1] | hidden[:, 2], words)

    def hide(self, prepared: Mapping[str, Tensor], drop: Drop) -> dict[str, Tensor]:
        """What `prepare` made, without what is to be hidden."""
        class_id = torch.where(drop.class_id, self.null_class, prepared["class_id"])
        return {"class_id": class_id, "words": torch.where(drop.caption[:, None] | drop.words, PAD, prepared["words"])}

    def forward(self, prepared: Mapping[str, Tensor]) -> Condition:
        """Encode what `prepare` made."""
        class_id, ids = prepared["class_id"], prepared["words"]
        known = ids != PAD
        head = self.class_embedding(class_id)
        text = self.word_embedding(ids) + self.position
        mask = torch.cat([torch.ones_like(known[:, :1]), known], dim=1)
        tokens = torch.cat([head[:, None], text], dim=1)
        for block in self.blocks:
            tokens = block(tokens, mask)
        tokens = self.norm(tokens)
        share = mask.to(tokens.dtype) / mask.sum(dim=1, keepdim=True)
        mean = (tokens * share[..., None]).sum(dim=1)
        pooled = rowwise(self.pool, torch.cat([head.to(mean.dtype), mean], dim=-1), self.training)
        return Condition(tokens, mask, F.silu(pooled))

    def example_batch(self, batch_size: int) -> dict[str, Any]:
        """What `prepare` reads of a batch, in the right shapes."""
        return {"class_id": torch.full((batch_size,), -1), "caption": [""] * batch_size}

    @property
    def token_count(self) -> int:
        """Tokens a sample."""
        return 1 + self.config.max_words

    def flops(self, batch_size: int) -> int:
        """Twice the multiply-adds of the matrix products of one forward pass."""
        width, tokens = self.config.width, self.token_count
        return batch_size * (len(self.blocks) * block_flops(tokens, width) + 4 * width**2)

    def _encode(self, text: str) -> list[int]:
        ids: Sequence[int] = [self.word_index.get(word, UNKNOWN) for word in words(text)][: self.config.max_words]
        return [*ids, *[PAD] * (self.config.max_words - len(ids))]
