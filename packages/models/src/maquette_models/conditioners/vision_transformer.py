"""A small vision transformer that is trained with the generator (Dosovitskiy et al., 2021)."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from maquette.errors import MaquetteError
from maquette_models.conditioners.encoder_block import EncoderBlock, block_flops


class VisionTransformer(nn.Module):
    """Pictures [N,4,S,S], colours and alpha, to tokens [N,(S/p)^2,W], row by row.

    Raises:
        MaquetteError: a side that is no multiple of the patch.
    """

    def __init__(self, size: int, patch: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        if size % patch:
            raise MaquetteError(f"a picture's side {size} is no multiple of the patch {patch}")
        self.patch, self.count = patch, (size // patch) ** 2
        self.embed = nn.Linear(4 * patch**2, width)
        self.position = nn.Parameter(torch.randn(self.count, width) * 0.1)
        self.blocks = nn.ModuleList(EncoderBlock(width, heads) for _ in range(depth))

    def forward(self, pictures: Tensor) -> Tensor:
        patches = rearrange(pictures, "n c (y p) (x q) -> n (y x) (c p q)", p=self.patch, q=self.patch)
        tokens = self.embed(patches) + self.position
        for block in self.blocks:
            tokens = block(tokens)
        return tokens

    def flops(self) -> int:
        """Twice the multiply-adds of the matrix products for one picture."""
        width = self.position.shape[1]
        return self.count * 2 * self.embed.weight.numel() + len(self.blocks) * block_flops(self.count, width)
