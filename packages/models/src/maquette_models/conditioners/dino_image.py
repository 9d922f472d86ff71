"""Condition tokens of a picture by a frozen DINOv2 (Oquab et al., 2023) or DINOv3 (Simeoni et al., 2025)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from maquette.engine.randomness import uniform
from maquette.errors import MaquetteError
from maquette.json_text import read_json
from maquette_models.conditioners.frozen_part import STORED, FrozenPart
from maquette_models.conditioners.pictures import framed, normalised, on_background
from maquette_models.conditioners.pretrained import Pretrained

KINDS = ("dinov2", "dinov2_with_registers", "dinov3_vit")
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, where the folder says nothing else


@dataclass
class DINOImageConfig:
    """`path` is a folder of weights; `size` the side of the pictures that the encoder sees, a multiple of its patch.
    `jitter` and the background are as of `image`, where the encoder runs in training."""

    path: str = ""
    size: int = 224
    width: int = 128
    drop: float = 0.1
    jitter: float = 0.0
    background: list[float] = field(default_factory=lambda: [1.0, 1.0, 1.0])


class DINOImage(FrozenPart):
    """Reads the first picture of `view_rgb`; tokens are the class token, registers and patches after the last norm."""

    reads: ClassVar[frozenset[str]] = frozenset({"images"})
    name = "dino_image"
    per_caption = False

    def __init__(self, config: DINOImageConfig) -> None:
        encoder = Pretrained(self.name, config.path, "AutoModel", KINDS)
        about = encoder.config
        patch, registers = int(about["patch_size"]), int(about.get("num_register_tokens", 0))
        if config.size % patch:
            raise MaquetteError(f"conditioner 'dino_image': size {config.size} is no multiple of the patch {patch}")
        super().__init__(
            config.width, config.drop, int(about["hidden_size"]), 1 + registers + (config.size // patch) ** 2
        )
        self.config, self.encoder = config, encoder
        self.picture_size, self.most_pictures = config.size, 1
        self.mean, self.std = _statistics(Path(config.path) / "preprocessor_config.json")

    @torch.no_grad()
    def embed(self, things: Sequence[str] | Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states [N,T,E] of pictures [N,4,S,S]; all count."""
        pictures = torch.as_tensor(things)
        premultiplied = framed(pictures, self.config.size, self._jitter(pictures))
        background = torch.tensor(self.config.background, device=pictures.device).expand(len(pictures), 3)
        seen = normalised(on_background(premultiplied, background), self.mean, self.std)
        device = self.lead.device
        with torch.autocast(device.type, enabled=False):  # as when embeddings are stored
            hidden = self.encoder.model.to(device)(pixel_values=seen.to(device)).last_hidden_state
        return hidden.to(STORED), torch.ones(hidden.shape[:2], dtype=torch.bool, device=device)

    def _jitter(self, pictures: Tensor) -> Tensor | None:
        if not (self.training and self.config.jitter):
            return None
        return (2 * uniform("picture", (len(pictures), 3)) - 1).to(pictures.device) * self.config.jitter


def _statistics(file: Path) -> tuple[Sequence[float], Sequence[float]]:
    """What the encoder's pictures were normalised with."""
    about = read_json(file) if file.is_file() else {}
    return about.get("image_mean", MEAN), about.get("image_std", STD)
