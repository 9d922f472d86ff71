"""A transformer that writes a skeleton joint by joint, looking at points of the surface.

After Zhang et al., "One Model to Rig Them All: Diverse Skeleton Rigging with UniRig", 2025.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from maquette.errors import MaquetteError
from maquette_models.rigging.joint_vocabulary import JointVocabulary
from maquette_models.rigging.skeleton_tree import KINDS
from maquette_models.transformer.causal_transformer import CausalTransformer


@dataclass
class SkeletonTransformerConfig:
    """`levels`, `roles` and `joints` are those of the dataset's tokens (`${facts:joint_levels}`,
    `${facts:joint_roles}`, `${facts:joint_most}`).

    `mlp_hidden` 0 means 8/3 of the width, in multiples of 32. `tokens` is how long a sequence is where a plan is made
    without data; the model takes any length.
    """

    levels: int = 256
    roles: list[str] = field(default_factory=lambda: ["other"])
    joints: int = 48
    width: int = 128
    depth: int = 4
    heads: int = 4
    mlp_hidden: int = 0
    tokens: int = 80
    conditioner: dict[str, Any] = field(default_factory=lambda: {"name": "shape"})

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width // self.heads % 2:
            raise MaquetteError(
                f"architecture 'skeleton_transformer': width {self.width} must give {self.heads} heads of an even width"
            )


class SkeletonTransformer(CausalTransformer):
    """Logits of the next joint token. `places` and `positions` are those of `JointSequence`."""

    def __init__(self, config: SkeletonTransformerConfig) -> None:
        vocabulary = JointVocabulary(config.levels, len(KINDS), len(config.roles), config.joints)
        super().__init__(config, vocabulary, partial(JointTable, vocabulary, config.width))


class JointTable(nn.Module):
    """A matrix [V, W]: of each token its own vector, and of coordinates waves of each axis, which neighbours share.

    At the start waves are of the size `std`, and so are the own vectors of other tokens; those of coordinates are a
    fifth of it.
    """

    def __init__(self, vocabulary: JointVocabulary, width: int, std: float) -> None:
        super().__init__()
        first = vocabulary.coordinate
        own = torch.randn(vocabulary.size, width) * std
        own[first:] /= 5
        self.own = nn.Parameter(own)
        octaves = math.ceil(math.log2(vocabulary.levels)) - 1
        self.waves = nn.Parameter(torch.randn(3, 1 + 2 * octaves, width) * std)
        centres = (torch.arange(vocabulary.levels) + 0.5) / vocabulary.levels
        angles = centres[:, None] * torch.exp2(torch.arange(octaves)) * math.pi
        basis = torch.cat([2 * centres[:, None] - 1, angles.sin(), angles.cos()], dim=1)
        self.register_buffer("basis", basis, persistent=False)

    def forward(self) -> Tensor:
        """The matrix."""
        coordinates = torch.einsum("lf,afw->alw", self.basis.to(self.waves.dtype), self.waves).flatten(0, 1)
        return torch.cat([self.own[: -len(coordinates)], self.own[-len(coordinates) :] + coordinates])
