"""What a condition says, laid into the tokens of a grid before the first block."""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn

from maquette_models.transformer.attention import cast_for
from maquette_models.transformer.dit_block import linear_flops
from maquette_models.transformer.rowwise import rowwise

READ = 16  # channels that are read of a condition token
LAID = 32  # channels that a token of the grid gets


class ConditionGrid(nn.Module):
    """Condition tokens [B,T,W] with their mask [B,T] -> one vector for each of N tokens of a grid, [B,N,W].

    A perceptron over all condition tokens at once. The place of a picture's patch is then a column of its first layer,
    and the place in the grid a row of its last: nothing has to be found by attention, which learns where to look much
    later than a regression learns what is seen. The first step of the flow starts from what the picture alone tells.

    Args:
        tokens: T.
        cells: N.
        width: W.
        hidden: width of the perceptron's hidden layer.
    """

    def __init__(self, tokens: int, cells: int, width: int, hidden: int) -> None:
        super().__init__()
        self.read = nn.Linear(width, READ)
        self.mix = nn.Sequential(nn.Linear(tokens * READ, hidden), nn.GELU(), nn.Linear(hidden, cells * LAID))
        self.lay = nn.Linear(LAID, width)
        self.cells = cells

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        seen = self.read(cast_for(self.read, tokens)).masked_fill(~mask[..., None], 0.0)
        flat = rearrange(seen, "b t c -> b (t c)")
        laid = rowwise(self.mix, cast_for(self.mix[0], flat), self.training)
        return self.lay(rearrange(laid, "b (n c) -> b n c", n=self.cells))

    def flops(self) -> int:
        """Twice the multiply-adds of the matrix products for one sample."""
        tokens = self.mix[0].in_features // READ
        by_token = tokens * linear_flops(self.read) + self.cells * linear_flops(self.lay)
        return by_token + linear_flops(self.mix[0], self.mix[2])
