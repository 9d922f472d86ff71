"""Condition tokens of a caption by a frozen text encoder of CLIP (Radford et al., 2021) or T5 (Raffel et al., 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from maquette_models.conditioners.frozen_part import STORED, FrozenPart
from maquette_models.conditioners.pretrained import Pretrained


@dataclass
class CLIPTextConfig:
    """`path` is a folder of weights and tokenizer, e.g. of CLIP ViT-L/14 (the text part is used)."""

    path: str = ""
    max_tokens: int = 77
    width: int = 128
    drop: float = 0.1


@dataclass
class T5TextConfig:
    """`path` is a folder of weights and tokenizer, e.g. of T5 v1.1 (the encoder is used)."""

    path: str = ""
    max_tokens: int = 77
    width: int = 128
    drop: float = 0.1


class PretrainedText(FrozenPart):
    """Reads `caption`; tokens are the encoder's last hidden states."""

    reads: ClassVar[frozenset[str]] = frozenset({"prompt"})
    per_caption = True

    def __init__(self, config: CLIPTextConfig | T5TextConfig, encoder: Pretrained, embedding_width: int) -> None:
        super().__init__(config.width, config.drop, embedding_width, config.max_tokens)
        self.config, self.encoder = config, encoder

    @torch.no_grad()
    def embed(self, things: Sequence[str] | Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states [N,T,E] and which are no padding [N,T]; longer captions are cut."""
        text = self.encoder.tokenizer(
            list(things), padding="max_length", truncation=True, max_length=self.config.max_tokens, return_tensors="pt"
        )
        device = self.lead.device
        ids, mask = text["input_ids"].to(device), text["attention_mask"].to(device)
        with torch.autocast(device.type, enabled=False):  # as when embeddings are stored
            hidden = self.encoder.model.to(device)(input_ids=ids, attention_mask=mask).last_hidden_state
        return hidden.to(STORED), mask.bool()


class CLIPText(PretrainedText):
    """By CLIP's text encoder."""

    name = "clip_text"

    def __init__(self, config: CLIPTextConfig) -> None:
        encoder = Pretrained(self.name, config.path, "CLIPTextModel", ("clip", "clip_text_model"))
        text = encoder.config.get("text_config") or encoder.config
        super().__init__(config, encoder, int(text.get("hidden_size", 512)))


class T5Text(PretrainedText):
    """By T5's encoder."""

    name = "t5_text"

    def __init__(self, config: T5TextConfig) -> None:
        encoder = Pretrained(self.name, config.path, "T5EncoderModel", ("t5",))
        super().__init__(config, encoder, int(encoder.config["d_model"]))
