"""The loss of a model that writes a skeleton token by token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from maquette.errors import MaquetteError
from maquette_models.mesh_tokens.next_mesh_token import NextMeshToken, NextMeshTokenConfig


@dataclass
class NextJointTokenConfig:
    """`blur` is the standard deviation, in cells, of what is asked for in place of one coordinate."""

    blur: float = 0.0

    def __post_init__(self) -> None:
        if self.blur < 0:
            raise MaquetteError(f"objective 'next_joint_token': blur {self.blur} must not be negative")


class NextJointToken(NextMeshToken):
    """Cross-entropy of each token given those before it, averaged over the tokens of a skeleton, then over skeletons.

    With `blur` a coordinate's target is spread over its neighbours, so that a near miss costs less than a far one.
    """

    def __init__(self, config: NextJointTokenConfig) -> None:
        super().__init__(NextMeshTokenConfig())
        self.blur = config.blur

    def target(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """The token after each, int64 [B,N-1], whether it counts, and which tokens [B,N-1,2] are near to it."""
        return {**super().target(batch), "near": batch["near"][:, 1:]}

    def loss(self, output: Tensor, target: Mapping[str, Tensor]) -> dict[str, Any]:
        """The terms, from logits [B,N-1,V]; see `NextMeshToken`."""
        if not self.blur:
            return super().loss(output, target)
        mask = target["mask"]
        logits, wanted, near = output[mask].float(), target["tokens"][mask], target["near"][mask]
        by_token = blurred_cross_entropy(logits, wanted, near, self.blur)
        spread = by_token.new_zeros(mask.shape).masked_scatter(mask, by_token)
        by_skeleton = spread.sum(dim=1) / mask.sum(dim=1)
        right = (logits.detach().argmax(dim=-1) == wanted).float().mean()
        return {"loss": by_skeleton.mean(), "accuracy": right, "per_sample": {"loss": by_skeleton.detach()}}


def blurred_cross_entropy(logits: Tensor, wanted: Tensor, near: Tensor, blur: float) -> Tensor:
    """Cross-entropy [M] of logits [M,V] and a normal distribution around the wanted tokens [M], cut off at three
    deviations and at the range [M,2] of tokens that are near."""
    reach = int(3 * blur)
    offsets = torch.arange(-reach, reach + 1, device=logits.device)
    tokens = wanted[:, None] + offsets
    inside = (tokens >= near[:, :1]) & (tokens < near[:, 1:])
    weights = torch.where(inside, torch.exp(-0.5 * (offsets / blur) ** 2), 0.0)
    found = F.log_softmax(logits, dim=-1).gather(1, tokens.clamp(0, logits.shape[1] - 1))
    return -(weights * found).sum(dim=1) / weights.sum(dim=1)
