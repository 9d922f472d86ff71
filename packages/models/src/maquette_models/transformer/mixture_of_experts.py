"""The MLPs of a transformer block: one for all tokens, or a router that sends each token to a few of many.

Mixture without token dropping, after Dai et al., "DeepSeekMoE", 2024 (shared experts, balance loss by sequence); the
figures of the defaults are those of Hunyuan3D 2.1 (Tencent, 2025), whose last 6 blocks have 8 experts, 2 a token.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maquette.errors import MaquetteError
from maquette_models.transformer.attention import cast_for, compute_dtype
from maquette_models.transformer.grouped_product import grouped_product


@dataclass
class MixtureConfig:
    """Experts, and how many of them each token sees; `shared` more see all tokens. The `last` blocks have them."""

    experts: int = 8
    top_k: int = 2
    shared: int = 1
    last: int = 6

    def __post_init__(self) -> None:
        if not 1 <= self.top_k <= self.experts:
            raise MaquetteError(f"architecture 'dit': moe.top_k {self.top_k} of {self.experts} experts")


class MLP(nn.Module):
    """Two linear layers with a GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(cast_for(self.up, x)), approximate="tanh"))

    def flops(self, tokens: int) -> int:
        """Twice the multiply-adds of a forward pass."""
        return 4 * tokens * self.up.in_features * self.up.out_features


class Experts(nn.Module):
    """MLPs without biases whose weights are stacked, `up` [E,W,H] and `down` [E,H,W], so that a process can hold some
    of them."""

    def __init__(self, experts: int, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.empty(experts, width, hidden).uniform_(-(width**-0.5), width**-0.5))
        self.down = nn.Parameter(torch.empty(experts, hidden, width).uniform_(-(hidden**-0.5), hidden**-0.5))

    def forward(self, rows: Tensor, experts: Tensor) -> Tensor:
        """[R,W] -> [R,W], each row by the expert it is for, int64 [R]."""
        order = experts.argsort(stable=True)
        counts = experts.new_zeros(len(self.up)).scatter_add_(0, experts, torch.ones_like(experts))
        return self.compute(rows[order], counts, *self.parameters())[order.argsort()]

    @staticmethod
    def compute(rows: Tensor, counts: Tensor, up: Tensor, down: Tensor) -> Tensor:
        """[R,W] -> [R,W] with given weights; the first `counts[0]` rows are the first expert's, and so on; int64 [E]"""
        dtype = compute_dtype(up)
        ends = counts.cumsum(0).to(torch.int32)
        hidden = F.gelu(grouped_product(rows.to(dtype), up.to(dtype), ends), approximate="tanh")
        return grouped_product(hidden, down.to(dtype), ends)


class TokenMean(nn.Module):
    """Mean over the tokens of each sample, [B,N,C] -> [B,C]; a module, since tokens may lie on several processes."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=1)


class MixtureOfExperts(nn.Module):
    """Tokens [B,N,W] -> [B,N,W]: each token's `top_k` experts, weighted by the router, plus the shared ones.

    `balance` [B] is the last forward pass's balance loss, 1 where all experts of a sample see as much, until
    `take_balance` is called; it is not part of the output because a block has one output.
    """

    def __init__(self, width: int, hidden: int, config: MixtureConfig) -> None:
        super().__init__()
        self.top_k = config.top_k
        self.router = nn.Linear(width, config.experts, bias=False)
        self.experts = Experts(config.experts, width, hidden)
        self.shared = MLP(width, config.shared * hidden) if config.shared else None
        self.token_mean = TokenMean()
        self.balance: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        probabilities = self.route(x)
        gates, chosen = probabilities.topk(self.top_k, dim=-1)
        picked = torch.zeros_like(probabilities).scatter_(-1, chosen, 1 / self.top_k)
        balance = balance_loss(*self.token_mean(torch.cat([picked, probabilities], dim=-1)).chunk(2, dim=-1))
        if self.balance is None:
            # Recomputing a block for its backward pass must not put a second graph here, which nobody would free.
            self.balance = balance
        mixed = self.dispatch(x.flatten(0, 1), gates.flatten(0, 1), chosen.flatten(0, 1)).view(x.shape)
        return mixed if self.shared is None else mixed + self.shared(x)

    def route(self, x: Tensor) -> Tensor:
        """Probability of each expert for each token, float32 [B,N,E]: in bfloat16 the choice itself would be noisy."""
        with torch.autocast(x.device.type, enabled=False):
            return F.linear(x.float(), self.router.weight.float()).softmax(dim=-1)

    def dispatch(self, tokens: Tensor, gates: Tensor, chosen: Tensor) -> Tensor:
        """Show each of tokens [T,W] to its experts [T,K] and add up what they say, weighted: [T,W]."""
        tokens = tokens.to(compute_dtype(self.router.weight))
        copies = tokens[:, None].expand(-1, self.top_k, -1).flatten(0, 1)
        seen = self.experts(copies, chosen.flatten()).view(*gates.shape, -1)
        return (seen * gates.to(seen.dtype)[..., None]).sum(dim=1)

    def take_balance(self) -> Tensor:
        """The last forward pass's balance loss [B], once with its graph.

        Raises:
            MaquetteError: there was no forward pass.
        """
        if self.balance is None:
            raise MaquetteError("the experts' balance was asked for before a forward pass")
        balance, self.balance = self.balance, self.balance.detach()
        return balance

    def flops(self, tokens: int) -> int:
        """Twice the multiply-adds of a forward pass; which experts the tokens go to does not matter."""
        width, hidden = self.experts.up.shape[-2:]
        router = 2 * tokens * width * self.router.out_features
        shared = self.shared.flops(tokens) if self.shared is not None else 0
        return router + shared + 4 * tokens * self.top_k * width * hidden


def balance_loss(shares: Tensor, probabilities: Tensor) -> Tensor:
    """E * sum_e(share of the choices that fall on e * mean probability of e) of each sample: [B,E] twice -> [B].

    By sample and not by batch, so that it does not depend on how a batch is shared out.
    """
    return shares.shape[-1] * (shares * probabilities).sum(dim=-1)
