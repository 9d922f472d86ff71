"""Skeletons written by a model for the surface that it looks at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maquette.engine.randomness import fold
from maquette.inference_device import CPU, device_of, moved
from maquette_models.rigging.joint_grammar import JointGrammar, JointWriting
from maquette_models.rigging.joint_vocabulary import END, START
from maquette_models.rigging.skeleton_transformer import SkeletonTransformer
from maquette_models.rigging.skeleton_tree import Tree
from maquette_models.transformer.writing_sequences import Author, write_sequences


@dataclass(frozen=True)
class Written:
    """A tree, the place of its kind in `KINDS`, and the tokens int64 [N] that say so."""

    tree: Tree
    kind: int
    tokens: NDArray[np.int64]


@torch.inference_mode()
def look_at(model: SkeletonTransformer, surface: Tensor, normals: Tensor) -> dict[str, Tensor]:
    """The encoded condition of one surface, points and normals float32 [P, 3] in the unit cube."""
    return model.encode_condition(model.conditioner.prepare({"surface": surface[None], "normals": normals[None]}))


@torch.inference_mode()
def kind_probabilities(model: SkeletonTransformer, condition: Mapping[str, Tensor]) -> NDArray[np.float64]:
    """How likely each kind of body is, [K], for one encoded condition."""
    levels, vocabulary = model.vocabulary.levels, model.vocabulary
    tokens, places = torch.full((1, 1), START), torch.full((1, 1, 3), levels)
    first = moved((tokens, places, torch.zeros(1, 1, 3)), device_of(model))
    logits = model(*first, condition)[0, 0].to(CPU).double()
    return logits[vocabulary.kind : vocabulary.role].softmax(dim=0).numpy()


def write_skeleton(
    model: SkeletonTransformer,
    condition: Mapping[str, Tensor],
    grammar: JointGrammar,
    choice: Callable[[NDArray[np.float32], NDArray[np.bool_], float], int],
    seed: int,
) -> Written:
    """The skeleton for one encoded condition, by `choice` of the tokens that the grammar allows."""
    author: Author[JointWriting] = Author(grammar.start(), choice, fold("skeleton_writing", seed), first=START, end=END)
    write_sequences(model, condition, [author], grammar.vocabulary.longest)
    return Written(author.writing.tree(), author.writing.kind, np.array(author.tokens))
