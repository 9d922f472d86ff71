"""Condition tokens of one picture: of several that a batch may hold, the first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor

from maquette_models.conditioners.views import Views, ViewsConfig


@dataclass
class ImageConfig:
    """As of `views`, for one view from an unknown side."""

    size: int = 64
    patch: int = 8
    width: int = 128
    depth: int = 4
    heads: int = 4
    drop: float = 0.1
    jitter: float = 0.05
    opaque: float = 0.2
    background: list[float] = field(default_factory=lambda: [0.5, 0.5, 0.5])


class Image(Views):
    """Reads the first picture of `view_rgb`."""

    def __init__(self, config: ImageConfig) -> None:
        super().__init__(ViewsConfig(max_views=1, **asdict(config)))

    def read(self, batch: Mapping[str, Any], rows: int) -> dict[str, Tensor]:
        """`pictures` [B,1,4,size,size] and `shown` bool [B,1]."""
        if "view_rgb" in batch:
            batch = {**batch, "view_rgb": batch["view_rgb"][:, :1]}
        return super().read(batch, rows)
