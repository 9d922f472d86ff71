"""One vector a token, shared along the axes of the grid: two corners at one height have a part in common."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from maquette_models.mesh_tokens.quantise import decode_places
from maquette_models.mesh_tokens.vocabulary import SPECIAL, Vocabulary

KINDS = 4  # special, block, centre, offset


class TokenTable(nn.Module):
    """A matrix [V, W]: of each token its own vector, one of its kind, and one of each of its coordinates.

    With the last two a token is known in part before it is ever seen: there are thousands of offsets, and few of each
    in a small set of meshes. At the start what tokens have in common is of the size `std`, their own a fifth of it.
    """

    def __init__(self, vocabulary: Vocabulary, width: int, std: float) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.randn(vocabulary.size, width) * std / 5)
        self.kind = nn.Parameter(torch.randn(KINDS, width) * std)
        self.axis = nn.Parameter(torch.randn(3 + 3 * (vocabulary.blocks + vocabulary.offsets), width) * std)
        self.register_buffer("kinds", kinds(vocabulary), persistent=False)
        self.register_buffer("axes", axes(vocabulary), persistent=False)

    def forward(self) -> Tensor:
        """The matrix."""
        return self.own + self.kind[self.kinds] + self.axis[self.axes].sum(dim=1)


def kinds(vocabulary: Vocabulary) -> Tensor:
    """The kind [V] of each token."""
    counts = (SPECIAL, vocabulary.blocks**3, vocabulary.blocks**3, vocabulary.offsets**3)
    return torch.repeat_interleave(torch.arange(KINDS), torch.tensor(counts))


def axes(vocabulary: Vocabulary) -> Tensor:
    """Rows [V, 3] of the table of coordinates: x, y, z of special tokens (which have none), of blocks, of offsets."""
    rows = torch.arange(3).repeat(vocabulary.size, 1)
    for first, side, tokens in (
        (3, vocabulary.blocks, slice(vocabulary.block, vocabulary.centre)),
        (3, vocabulary.blocks, slice(vocabulary.centre, vocabulary.offset)),
        (3 + 3 * vocabulary.blocks, vocabulary.offsets, slice(vocabulary.offset, vocabulary.size)),
    ):
        places = torch.from_numpy(decode_places(np.arange(side**3), side))
        rows[tokens] = first + torch.arange(3) * side + places
    return rows
