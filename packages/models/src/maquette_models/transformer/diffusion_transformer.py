"""The body of the diffusion transformers: adaLN-single, RMS-normed queries and keys, 3D rotary positions.

Peebles & Xie, "Scalable Diffusion Models with Transformers", 2023; adaLN-single after Chen et al.,
"PixArt-alpha", 2023.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from maquette import plugins
from maquette.errors import MaquetteError
from maquette_models.samplers.prediction import PREDICTIONS
from maquette_models.transformer.attention import AttentionCore, cast_for
from maquette_models.transformer.dit_block import MODULATIONS, DiTBlock, linear_flops, normalized
from maquette_models.transformer.mixture_of_experts import MLP, MixtureConfig, MixtureOfExperts
from maquette_models.transformer.rowwise import rowwise

TIME_FREQUENCIES = 64
GUIDANCE_RANGE = 16.0  # scales up to it are told apart by smooth features
HEAD_MODULATIONS = 2  # shift and scale before the head


@dataclass
class DiffusionTransformerConfig:
    """Sizes of the transformer; `conditioner` is a nested block, built through the hook of that kind.

    Every `cross_every`-th block attends to the condition's tokens; all see its pooled form. `mlp_hidden` 0 means four
    times the width. With `mlp` "moe" the last blocks have a mixture of experts, each `mlp_hidden` wide, as `moe` says.
    `prediction` is what the head gives, the velocity "v" or the data "x0". With `guidance_embedding` the condition may
    hold the scale of guidance, as `guidance` [B], and the model gives the guided velocity in one pass.
    """

    width: int = 128
    depth: int = 6
    heads: int = 2
    mlp: str = "dense"
    mlp_hidden: int = 0
    moe: MixtureConfig = field(default_factory=MixtureConfig)
    cross_every: int = 2
    prediction: str = "v"
    guidance_embedding: bool = False
    conditioner: dict[str, Any] = field(default_factory=lambda: {"name": "class_caption"})


class DiffusionTransformer(nn.Module):
    """Velocity of a stream of tokens at a time, given a condition; what the tokens are is the subclass's matter.

    Args:
        config: sizes.
        values: what a token is embedded from.
        velocities: what the head gives of a token.
        position: a learned position of each token, added to its embedding: its shape [N,W], or None.

    Raises:
        MaquetteError: sizes that do not divide each other.
    """

    def __init__(
        self, config: DiffusionTransformerConfig, values: int, velocities: int, position: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        check(config)
        self.config = config
        self.conditioner = plugins.build("conditioners", config.conditioner)
        width = config.width
        self.embed = nn.Linear(values, width)
        if position is not None:
            self.position = nn.Parameter(torch.randn(position) * 0.02)
        self.time = nn.Sequential(nn.Linear(2 * TIME_FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))
        if config.guidance_embedding:
            self.guidance = nn.Sequential(nn.Linear(2 * TIME_FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width))
            for parameter in self.guidance[-1].parameters():  # starts as the model without it
                nn.init.zeros_(parameter)
        self.context = nn.Linear(self.conditioner.config.width, width)
        self.pooled = nn.Linear(self.conditioner.config.width, width)
        self.modulation = nn.Linear(width, MODULATIONS * width)
        self.layers = nn.ModuleList(
            DiTBlock(width, width // config.heads, build_mlp(config, i), i % config.cross_every == 0)
            for i in range(config.depth)
        )
        self.head_table = nn.Parameter(torch.zeros(2, width))
        self.head_modulation = nn.Linear(width, 2 * width)
        self.head = nn.Linear(width, velocities)
        for layer in (self.modulation, self.head_modulation, self.head):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def encode_condition(self, prepared: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the conditioner once for a whole sampling run; `forward` takes the result as its condition
        too."""
        tokens, mask, pooled = self.conditioner(prepared)
        pooled = rowwise(self.pooled, cast_for(self.pooled, pooled), self.training)
        return {"tokens": self.context(cast_for(self.context, tokens)), "mask": mask, "pooled": pooled}

    def forward(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor]) -> Tensor:
        """The velocity at x [B,...] and t [B] in [0,1] (t=1 is noise), of the shape of x.

        `condition` is what `conditioner.prepare` made from a batch, or what `encode_condition` made of that.
        """
        h, *context = self.begin(x, t, condition)
        for layer in self.layers:
            h = layer(h, *context)
        return self.finish(h, *context)

    def begin(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """What the first block receives, from the arguments of `forward`.

        Returns:
            Residual stream [B,N,W]; modulations [B,11,W], nine for every block and two for the head; positions
            float32 [N,3] or [B,N,3]; condition tokens [B,T,W] and their mask, bool [B,T].
        """
        for mixture in self.mixtures():
            mixture.balance = None
        scale = condition.get("guidance", torch.ones_like(t))
        if "tokens" not in condition:
            condition = self.encode_condition(condition)
        embedding = rowwise(self.time, cast_for(self.time[0], time_features(t)), self.training) + condition["pooled"]
        if self.config.guidance_embedding:
            features = cast_for(self.guidance[0], time_features(scale / GUIDANCE_RANGE))
            embedding = embedding + rowwise(self.guidance, features, self.training)
        signal = cast_for(self.modulation, F.silu(embedding))
        shared = rearrange(rowwise(self.modulation, signal, self.training), "b (m w) -> b m w", m=MODULATIONS)
        ends = rearrange(rowwise(self.head_modulation, signal, self.training), "b (m w) -> b m w", m=HEAD_MODULATIONS)
        h, positions = self.stream(x, condition)
        tokens = cast_for(self.embed, condition["tokens"])
        return h, torch.cat([shared, ends], dim=1), positions, tokens, condition["mask"]

    def stream(self, x: Tensor, condition: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The embedded tokens [B,N,W] of x and their positions, float32 [N,3] or [B,N,3]."""
        raise NotImplementedError

    def velocities(self, h: Tensor, modulation: Tensor) -> Tensor:
        """What the head gives [B,N,V] of the stream that the last block gave."""
        shift, scale = (modulation[:, MODULATIONS:] + self.head_table).unbind(dim=1)
        return self.head(cast_for(self.head, normalized(h, scale, shift)))

    def blocks(self) -> list[nn.Module]:
        """The repeated blocks, in order."""
        return list(self.layers)

    def stream_flops(self, rows: int, tokens: int) -> int:
        """Twice the multiply-adds of the matrix products of a forward pass on [rows, tokens].

        A conditioner without `token_count` and `flops(rows)` counts as nothing.
        """
        words = getattr(self.conditioner, "token_count", 0)
        by_row = (self.time[0], self.time[2], self.pooled, self.modulation, self.head_modulation)
        ends = rows * (linear_flops(*by_row) + tokens * linear_flops(self.embed, self.head))
        encoding = self.conditioner.flops(rows) if hasattr(self.conditioner, "flops") else 0
        condition = encoding + rows * words * linear_flops(self.context)
        return ends + condition + sum(block.flops(rows, tokens, words) for block in self.blocks())

    def begin_parts(self) -> list[str]:
        """The children, parameters and buffers that `begin` uses; a subclass adds its own."""
        guidance = ["guidance"] if self.config.guidance_embedding else []
        return ["conditioner", "embed", "time", *guidance, "context", "pooled", "modulation", "head_modulation"]

    def new_weights(self) -> list[str]:
        """Weights that a run which starts from another one's may lack there: they keep their initial values."""
        return ["guidance."] if self.config.guidance_embedding else []

    def finish_parts(self) -> list[str]:
        """The children and parameters that `finish` uses."""
        return ["head_table", "head"]

    def attentions(self) -> list[nn.Module]:
        """The cores of self-attention, in order."""
        return [module for module in self.modules() if isinstance(module, AttentionCore)]

    def mixtures(self) -> list[MixtureOfExperts]:
        """The mixtures of experts, in order."""
        return [module for module in self.modules() if isinstance(module, MixtureOfExperts)]

    def expert_layers(self) -> list[nn.Module]:
        """The stacked experts: modules whose parameters have one entry an expert along their first axis."""
        return [mixture.experts for mixture in self.mixtures()]

    def token_means(self) -> list[nn.Module]:
        """The modules that average over a sample's tokens, [B,N,C] -> [B,C], inside blocks."""
        return [mixture.token_mean for mixture in self.mixtures()]

    def balance(self) -> Tensor | None:
        """How unevenly the last forward pass used the experts, a scalar that is 1 at best; None without experts."""
        values = [mixture.take_balance() for mixture in self.mixtures()]
        return torch.stack(values).mean() if values else None

    def tensor_parallel_plan(self) -> dict[str, str]:
        """How each branch of a block is split: it gathers its tokens, computes some of the heads or hidden channels
        with its column-split layers, and sums them up in its row-split one. What is not named is replicated."""
        plan = {}
        for attention in ("attention", "cross_attention"):
            plan |= {f"layers.*.{attention}": "gather", f"layers.*.{attention}.out": "rowwise"}
            plan |= {f"layers.*.{attention}.{name}": "colwise" for name in ("to_query", "to_key", "to_value")}
        for name, module in self.named_modules():
            if isinstance(module, MLP) and name.endswith(".mlp"):  # those of experts are replicated
                plan |= {name: "gather", f"{name}.up": "colwise", f"{name}.down": "rowwise"}
        return plan


def build_mlp(config: DiffusionTransformerConfig, block: int) -> nn.Module:
    """The MLP of a block, by its number."""
    hidden = config.mlp_hidden or 4 * config.width
    if config.mlp == "moe" and block >= config.depth - config.moe.last:
        return MixtureOfExperts(config.width, hidden, config.moe)
    return MLP(config.width, hidden)


def time_features(t: Tensor) -> Tensor:
    """Sines and cosines of 1000 t at geometric frequencies: [B] -> [B, 2 * TIME_FREQUENCIES]."""
    steps = torch.arange(TIME_FREQUENCIES, device=t.device, dtype=torch.float32)
    angles = 1000 * t.float()[:, None] * torch.exp(steps * (-math.log(1e4) / TIME_FREQUENCIES))
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


def check(config: DiffusionTransformerConfig) -> None:
    """Refuse sizes that do not divide each other."""
    if config.width % config.heads:
        raise MaquetteError(f"architecture 'dit': width {config.width} is no multiple of {config.heads} heads")
    if config.mlp not in ("dense", "moe"):
        raise MaquetteError(f"architecture 'dit': mlp '{config.mlp}'; use dense or moe")
    if config.prediction not in PREDICTIONS:
        raise MaquetteError(f"architecture 'dit': prediction '{config.prediction}'; use v or x0")
