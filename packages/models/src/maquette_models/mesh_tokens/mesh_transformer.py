"""A transformer over mesh tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

from maquette.errors import MaquetteError
from maquette_models.mesh_tokens.token_table import TokenTable
from maquette_models.mesh_tokens.vocabulary import Vocabulary
from maquette_models.transformer.causal_transformer import CausalTransformer


@dataclass
class MeshTransformerConfig:
    """`blocks` and `offsets` are those of the dataset's tokens (`${facts:mesh_blocks}`, `${facts:mesh_offsets}`).

    `mlp_hidden` 0 means 8/3 of the width, in multiples of 32. `tokens` is how long a sequence is where a plan is made
    without data; the model takes any length.
    """

    blocks: int = 8
    offsets: int = 16
    width: int = 128
    depth: int = 6
    heads: int = 4
    mlp_hidden: int = 0
    tokens: int = 512
    conditioner: dict[str, Any] = field(default_factory=lambda: {"name": "shape"})

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width // self.heads % 2:
            raise MaquetteError(
                f"architecture 'mesh_transformer': width {self.width} must give {self.heads} heads of an even width"
            )
        if self.blocks < 1 or self.offsets < 1:
            raise MaquetteError("architecture 'mesh_transformer': blocks and offsets must be at least 1")


class MeshTransformer(CausalTransformer):
    """Logits of the next mesh token. `places` are the corners that offsets complete, `positions` the place in the
    sequence, the number of the fan and the place in it."""

    def __init__(self, config: MeshTransformerConfig) -> None:
        vocabulary = Vocabulary(config.blocks, config.offsets)
        super().__init__(config, vocabulary, partial(TokenTable, vocabulary, config.width))
