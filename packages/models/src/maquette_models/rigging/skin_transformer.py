"""A transformer from points of a surface and joints to the weights that bind them.

Bone-point attention after Zhang et al., "One Model to Rig Them All: Diverse Skeleton Rigging with UniRig", 2025.
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

from maquette.errors import MaquetteError
from maquette_models.rigging.pair_features import DEPTH, PAIR_FEATURES
from maquette_models.transformer.attention import attend, cast_for, join_heads, split_heads
from maquette_models.transformer.mixture_of_experts import MLP

OCTAVES = 4
PULL = -2.0  # what a limb's pull falls by with distance before anything is learnt, in units of `NEAR`


@dataclass
class SkinTransformerConfig:
    """`roles` are those of the dataset (`${facts:joint_roles}`). `pair` is the width of what is told of a pair."""

    roles: list[str] = field(default_factory=lambda: ["other"])
    width: int = 64
    depth: int = 2
    heads: int = 4
    pair: int = 48

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise MaquetteError(f"architecture 'skin_transformer': width {self.width} must give {self.heads} heads")


class PairAttention(nn.Module):
    """Attention of points [B,P,W] to joints [B,J,W], whose scores also see the pairs [B,P,J,C]."""

    def __init__(self, width: int, heads: int, pair: int) -> None:
        super().__init__()
        self.head_dim = width // heads
        self.to_query = nn.Linear(width, width)
        self.to_key_value = nn.Linear(width, 2 * width)
        self.bias = nn.Linear(pair, heads)
        self.out = nn.Linear(width, width)

    def forward(self, points: Tensor, joints: Tensor, pairs: Tensor, mask: Tensor) -> Tensor:
        query = split_heads(self.to_query(points), self.head_dim)
        key, value = (split_heads(x, self.head_dim) for x in self.to_key_value(joints).chunk(2, dim=-1))
        scores = torch.einsum("bphd,bjhd->bhpj", query, key) * self.head_dim**-0.5
        scores = scores + rearrange(self.bias(pairs), "b p j h -> b h p j")
        scores = scores.masked_fill(~mask[:, None, None], torch.finfo(scores.dtype).min)
        return self.out(join_heads(torch.einsum("bhpj,bjhd->bphd", scores.softmax(dim=-1), value)))


class PointBlock(nn.Module):
    """What each point learns of the joints, by the pairs."""

    def __init__(self, width: int, heads: int, pair: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = PairAttention(width, heads, pair)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = MLP(width, 2 * width)

    def forward(self, points: Tensor, joints: Tensor, pairs: Tensor, mask: Tensor) -> Tensor:
        points = points + self.attention(self.norm(points), joints, pairs, mask)
        return points + self.mlp(self.mlp_norm(points))


class JointBlock(nn.Module):
    """Self-attention of joints [B,J,W] that count, and an MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.head_dim = width // heads
        self.norm = nn.LayerNorm(width)
        self.to_query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.mlp = MLP(width, 2 * width)

    def forward(self, joints: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (split_heads(x, self.head_dim) for x in self.to_query_key_value(self.norm(joints)).chunk(3, dim=-1))
        joints = joints + self.out(join_heads(attend(q, k, v, mask)))
        return joints + self.mlp(self.mlp_norm(joints))


class SkinTransformer(nn.Module):
    """Logarithms of weights, from what a batch of `Skins` holds beside the weights."""

    def __init__(self, config: SkinTransformerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.role = nn.Embedding(len(config.roles), width)
        self.joint = nn.Linear(6 + 12 * OCTAVES, width)
        self.joint_blocks = nn.ModuleList(JointBlock(width, config.heads) for _ in range(config.depth))
        self.point = nn.Linear(6 + 6 * OCTAVES, width)
        self.pair = nn.Sequential(nn.Linear(PAIR_FEATURES, config.pair), nn.SiLU(), nn.Linear(config.pair, config.pair))
        self.layers = nn.ModuleList(PointBlock(width, config.heads, config.pair) for _ in range(config.depth))
        self.by_point = nn.Linear(width, config.pair)
        self.by_joint = nn.Linear(width, config.pair)
        self.prior = nn.Linear(PAIR_FEATURES, 1, bias=False)
        with torch.no_grad():
            self.prior.weight.zero_()[0, DEPTH] = PULL
        self.score = nn.Sequential(nn.SiLU(), nn.Linear(config.pair, config.pair), nn.SiLU(), nn.Linear(config.pair, 1))

    def forward(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Logarithms [B,P,J] of weights that sum to 1 over the joints; minus infinity, almost, for padded joints."""
        mask = batch["joint_mask"]
        joints = self.encode_joints(batch)
        points = torch.cat([batch["points"], batch["normals"], waves(batch["points"])], dim=-1)
        points = self.point(cast_for(self.point, points))
        pairs = self.pair(cast_for(self.pair[0], batch["pairs"]))
        for layer in self.layers:
            points = layer(points, joints, pairs, mask)
        seen = pairs + self.by_point(points)[:, :, None] + self.by_joint(joints)[:, None]
        prior = self.prior(cast_for(self.prior, batch["pairs"]))
        logits = (self.score(seen) + prior)[..., 0].float()
        return F.log_softmax(logits.masked_fill(~mask[:, None], torch.finfo(logits.dtype).min), dim=-1)

    def encode_joints(self, batch: Mapping[str, Tensor]) -> Tensor:
        """What the joints [B,J,W] know of each other."""
        places = batch["joints"]
        above = torch.take_along_dim(places, batch["parents"].clamp(min=0)[..., None], dim=1)
        features = torch.cat([places, above, waves(places), waves(above)], dim=-1)
        joints = self.role(batch["roles"]) + self.joint(cast_for(self.joint, features))
        for block in self.joint_blocks:
            joints = block(joints, batch["joint_mask"])
        return joints

    def blocks(self) -> list[nn.Module]:
        """The repeated blocks, in order."""
        return [*self.joint_blocks, *self.layers]

    def flops(self, batch: Mapping[str, Any]) -> int:
        """Twice the multiply-adds of the layers on pairs, which are almost all of a forward pass."""
        rows, points, joints, _ = batch["pairs"].shape
        layers = [self.pair[0], self.pair[2], self.score[1], self.score[3], *(x.attention.bias for x in self.layers)]
        return 2 * rows * points * joints * sum(layer.weight.numel() for layer in layers)

    def example_batch(self, rows: int) -> dict[str, Tensor]:
        """A batch of the right shapes, for planning."""
        points, joints = 64, 8
        return {
            "pairs": torch.zeros(rows, points, joints, PAIR_FEATURES),
            "points": torch.zeros(rows, points, 3),
            "normals": torch.zeros(rows, points, 3),
            "weights": torch.full((rows, points, joints), 1 / joints),
            "joints": torch.zeros(rows, joints, 3),
            "parents": (torch.arange(joints) - 1).expand(rows, joints),
            "roles": torch.zeros(rows, joints, dtype=torch.int64),
            "joint_mask": torch.ones(rows, joints, dtype=torch.bool),
            "position": torch.arange(rows),
        }


def waves(places: Tensor) -> Tensor:
    """Sines and cosines of places [...,3] by octave, [...,6*OCTAVES]."""
    angles = (places[..., None] * torch.exp2(torch.arange(OCTAVES, device=places.device)) * math.pi).flatten(-2)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
