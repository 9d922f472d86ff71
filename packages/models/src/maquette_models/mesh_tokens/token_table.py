"""One vector a token, shared along the axes of the grid: two corners at one height have a part in common."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from maquette_models.mesh_tokens.vocabulary import SPECIAL, Vocabulary


class TokenTable(nn.Module):
    """A matrix [V, W]: of each token its own vector, and of blocks, centres and offsets one of each coordinate.

    So a token is known in part before it is ever seen: there are thousands of offsets, and few of each in a small set
    of meshes. At the start the vectors of coordinates are of the size `std`, the tokens' own a fifth of it.
    """

    def __init__(self, vocabulary: Vocabulary, width: int, std: float) -> None:
        super().__init__()
        self.own = nn.Parameter(torch.randn(vocabulary.size, width) * std / 5)
        self.block = nn.Parameter(torch.randn(3, vocabulary.blocks, width) * std)
        self.centre = nn.Parameter(torch.randn(3, vocabulary.blocks, width) * std)
        self.offset = nn.Parameter(torch.randn(3, vocabulary.offsets, width) * std)

    def forward(self) -> Tensor:
        """The matrix."""
        special = torch.zeros_like(self.own[:SPECIAL])
        return self.own + torch.cat([special, *(by_number(axes) for axes in (self.block, self.centre, self.offset))])


def by_number(axes: Tensor) -> Tensor:
    """Sums [S^3, W] of vectors [3, S, W] of x, y and z, in the order in which places are numbered: by y, z, x."""
    x, y, z = axes
    sums = rearrange(y, "y w -> y 1 1 w") + rearrange(z, "z w -> z 1 w") + x
    return rearrange(sums, "y z x w -> (y z x) w")
