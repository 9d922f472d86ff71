"""A condition token of a class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from maquette.errors import MaquetteError
from maquette_models.conditioners.condition import Part


@dataclass
class ClassLabelConfig:
    """`classes` usually says `${facts:classes}`."""

    classes: list[str] = field(default_factory=list)
    width: int = 128
    drop: float = 0.1


class ClassLabel(Part):
    """Reads `class_id`; -1 is none."""

    reads: ClassVar[frozenset[str]] = frozenset({"class_name"})

    def __init__(self, config: ClassLabelConfig) -> None:
        super().__init__(config.width, 1, config.drop)
        self.config = config
        self.class_index = {name: index for index, name in enumerate(config.classes)}
        self.embedding = nn.Embedding(max(len(config.classes), 1), config.width)
        nn.init.normal_(self.embedding.weight, std=0.5)

    def read(self, batch: Mapping[str, Any], rows: int) -> dict[str, Tensor]:
        """`class_id` int64 [B].

        Raises:
            MaquetteError: an id that is no class's.
        """
        ids = torch.as_tensor(batch.get("class_id", [-1] * rows), dtype=torch.int64)
        if rows and int(ids.max()) >= len(self.class_index):
            raise MaquetteError(f"class_id {int(ids.max())} but the conditioner has {len(self.class_index)} classes")
        return {"class_id": ids.clamp(min=0), "known": ids >= 0}

    def encode(self, prepared: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """One token."""
        return self.embedding(prepared["class_id"])[:, None], torch.ones_like(prepared["known"][:, None])

    def example_batch(self, batch_size: int) -> dict[str, Any]:
        """No class."""
        return {"class_id": torch.full((batch_size,), -1)}

    @property
    def encoded_count(self) -> int:
        """One."""
        return 1

    def encoding_flops(self) -> int:
        """None: it is looked up."""
        return 0
