"""A transformer of a few thousand weights with the whole model protocol: what strategies are tested on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maquette.engine import randomness


class TinyAttention(nn.Module):
    """The core of self-attention, without parameters: q, k, v [B, N, H, D] -> [B, N, H, D]."""

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)


class TinyAttentionLayer(nn.Module):
    """Projections around the core, with a rotation by position and a learned scale of the queries."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.head_dim = width // heads
        self.to_query = nn.Linear(width, width)
        self.to_key = nn.Linear(width, width)
        self.to_value = nn.Linear(width, width)
        self.query_weight = nn.Parameter(torch.ones(width // heads))
        self.core = TinyAttention()
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (-1, self.head_dim)) for f in (self.to_query, self.to_key, self.to_value))
        angle = positions[None, :, None, None].to(q.dtype) * 0.1
        q = F.rms_norm(q, (self.head_dim,), self.query_weight.to(q.dtype)) * torch.cos(angle)
        k = k * torch.cos(angle)
        return self.out(self.core(q, k, v).flatten(-2))  # type: ignore[no-any-return]


class TinyMLP(nn.Module):
    """Two linear layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(x)))  # type: ignore[no-any-return]


class TinyBlock(nn.Module):
    """Attention and MLP on a stream [B, N, W], shifted by a modulation [B, W]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = TinyAttentionLayer(width, heads)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = TinyMLP(width)
        self.table = nn.Parameter(torch.zeros(width))

    def forward(self, h: Tensor, modulation: Tensor, positions: Tensor) -> Tensor:
        shift = (modulation + self.table)[:, None]
        h = h + self.attention(self.norm(h) + shift, positions)
        return h + self.mlp(self.mlp_norm(h) * (1 + shift))


class TinyTransformer(nn.Module):
    """Predicts [B, N, values] from the same, given a time [B]."""

    def __init__(self, width: int = 16, depth: int = 4, heads: int = 4, tokens: int = 8, values: int = 6) -> None:
        super().__init__()
        self.embed = nn.Linear(values, width)
        self.time = nn.Linear(1, width)
        self.layers = nn.ModuleList(TinyBlock(width, heads) for _ in range(depth))
        self.head = nn.Linear(width, values)
        self.register_buffer("positions", torch.arange(tokens), persistent=False)

    def begin(self, x: Tensor, t: Tensor) -> tuple[Tensor, ...]:
        """The stream, the modulation and the positions."""
        weight = self.embed.weight
        modulation = torch.sin(self.time(t[:, None].to(weight.dtype)))
        positions: Any = self.positions
        return self.embed(x.to(weight.dtype)), modulation, positions[: x.shape[1]]

    def finish(self, h: Tensor, modulation: Tensor, positions: Tensor) -> Tensor:
        """The prediction."""
        return self.head(h * (1 + modulation[:, None]))  # type: ignore[no-any-return]

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h, *context = self.begin(x, t)
        for layer in self.layers:
            h = layer(h, *context)
        return self.finish(h, *context)

    def blocks(self) -> list[nn.Module]:
        """The repeated blocks, in order."""
        return list(self.layers)

    def token_axes(self) -> tuple[int | None, ...]:
        """Stream, modulation, positions."""
        return (1, None, 0)

    def attentions(self) -> list[nn.Module]:
        """The cores of self-attention."""
        layers: Any = self.layers
        return [layer.attention.core for layer in layers]

    def begin_parts(self) -> list[str]:
        """What `begin` uses alone."""
        return ["embed", "time", "positions"]

    def finish_parts(self) -> list[str]:
        """What `finish` uses alone."""
        return ["head"]

    def tensor_parallel_plan(self) -> dict[str, str]:
        """How layers are split."""
        plan = {f"layers.*.attention.to_{name}": "colwise" for name in ("query", "key", "value")}
        gathers = {"layers.*.attention": "gather", "layers.*.mlp": "gather"}
        return (
            gathers
            | plan
            | {"layers.*.attention.out": "rowwise", "layers.*.mlp.up": "colwise"}
            | {"layers.*.mlp.down": "rowwise"}
        )


class TinyObjective:
    """Denoising, in both spellings that the protocol knows."""

    def _noisy(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        x = batch["x"]
        noise = randomness.normal("noise", x.shape, device=x.device)
        t = randomness.uniform("time", (len(x),), device=x.device)
        spread = t[:, None, None]
        return (1 - spread) * x + spread * noise, t, noise - x

    def inputs(self, model: nn.Module, batch: Mapping[str, Any]) -> tuple[Tensor, ...]:
        """What the model is called with."""
        noisy, t, _ = self._noisy(batch)
        return noisy, t

    def target(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """What its output is compared with."""
        _, t, velocity = self._noisy(batch)
        return {"velocity": velocity, "t": t}

    def loss(self, output: Tensor, target: Mapping[str, Tensor]) -> dict[str, Any]:
        """Mean squared error."""
        each = (output.float() - target["velocity"]).square().mean(dim=(1, 2))
        return {"loss": each.mean(), "per_sample": {"loss": each.detach(), "t": target["t"]}}

    def __call__(self, model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Any]:
        return self.loss(model(*self.inputs(model, batch)), self.target(batch))


def tiny_batch(rows: int, tokens: int = 8, values: int = 6, first: int = 0) -> dict[str, Tensor]:
    """Samples ``first`` and following of an endless sequence: ``x`` [rows, tokens, values] and ``position`` [rows]."""
    x = [torch.randn(tokens, values, generator=torch.Generator().manual_seed(first + i)) for i in range(rows)]
    return {"x": torch.stack(x), "position": torch.arange(first, first + rows)}
