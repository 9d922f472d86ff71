"""Skeletons of shard folders as token sequences, beside points of the surfaces that they move."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from maquette_models.rigging.endless_shapes import EndlessShapes, EndlessShapesConfig, stacked
from maquette_models.rigging.file_rigs import is_repeated
from maquette_models.rigging.joint_grammar import JointGrammar
from maquette_models.rigging.joint_tokeniser import JointSequence, JointTokeniser
from maquette_models.rigging.joint_vocabulary import END, JointVocabulary
from maquette_models.rigging.rigged_shapes import RiggedShape
from maquette_models.rigging.skeleton_tree import KINDS


@dataclass
class SkeletonsConfig(EndlessShapesConfig):
    """As `EndlessShapesConfig`; joints lie on a grid of `levels` cells a side."""

    levels: int = 256


class Skeletons(EndlessShapes):
    """Batches of `tokens` int64 [B,N], `token_mask` bool [B,N], `places` int64, `positions` float32 [B,N,3] and `near`
    int64 [B,N,2] (see `JointSequence`; padded behind), `surface` and `normals` float32 [B,P,3].

    Shapes that cannot move say so: they teach what has no skeleton.
    """

    name = "skeletons"
    config: SkeletonsConfig

    def setup(self, stage: str | None = None) -> None:
        """See `EndlessShapes`."""
        super().setup(stage)
        self.tokeniser = JointTokeniser(grammar_of(self.config.levels, self.roles, self.config.joints))

    def keeps(self, shape: RiggedShape) -> bool:
        """See `EndlessShapes`; one joint alone is no skeleton."""
        return super().keeps(shape) and len(shape.tree) != 1

    def facts(self) -> dict[str, Any]:
        """What the model's vocabulary is made of, and how many points are drawn."""
        return {
            "joint_levels": self.config.levels,
            "joint_roles": self.roles,
            "joint_most": self.config.joints,
            "rig_points": self.config.points,
        }

    def batch_of(self, shapes: Sequence[RiggedShape]) -> dict[str, Any]:
        """See `EndlessShapes`."""
        sequences = [self.tokeniser.encode(shape.tree, shape.kind) for shape in shapes]
        return {
            **padded(sequences, self.config.levels),
            "surface": stacked([shape.surface for shape in shapes]),
            "normals": stacked([shape.normals for shape in shapes]),
        }


def grammar_of(levels: int, roles: Sequence[str], joints: int, kinds: Sequence[int] = ()) -> JointGrammar:
    """The grammar of skeletons with so many joints at most; only `kinds` may be chosen where there are some."""
    vocabulary = JointVocabulary(levels, len(KINDS), len(roles), joints)
    return JointGrammar(vocabulary, frozenset(i for i, role in enumerate(roles) if is_repeated(role)), kinds)


def padded(sequences: Sequence[JointSequence], levels: int) -> dict[str, Tensor]:
    """Sequences as one batch, END behind the shorter ones; see `Skeletons`."""
    rows, longest = len(sequences), max(len(sequence) for sequence in sequences)
    batch = {
        "tokens": torch.full((rows, longest), END),
        "token_mask": torch.zeros(rows, longest, dtype=torch.bool),
        "places": torch.full((rows, longest, 3), levels),
        "positions": torch.zeros(rows, longest, 3),
        "near": torch.tensor([END, END + 1]).expand(rows, longest, 2).clone(),
    }
    for row, sequence in enumerate(sequences):
        batch["token_mask"][row, : len(sequence)] = True
        for key in ("tokens", "places", "positions", "near"):
            batch[key][row, : len(sequence)] = torch.from_numpy(getattr(sequence, key))
    return batch
