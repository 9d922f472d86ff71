"""The loss of a model that writes a mesh one token after another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F


@dataclass
class NextMeshTokenConfig:
    """`smoothing` is the share of the target that all tokens have in common."""

    smoothing: float = 0.0


class NextMeshToken:
    """Cross-entropy of each token given those before it.

    It is averaged over the tokens of each mesh first and over the meshes then, so that it does not depend on how a
    batch is shared by processes.
    """

    def __init__(self, config: NextMeshTokenConfig) -> None:
        self.config = config

    def __call__(self, model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Any]:
        """loss; `accuracy`, the share of tokens that are the likeliest; `per_sample`, the loss [B] detached.

        `batch` has `tokens` int64 [B,N], `token_mask` bool [B,N], `places` int64 and `positions` float32 [B,N,3], and
        what the model's conditioner reads.
        """
        return self.loss(model(*self.inputs(model, batch)), self.target(batch))

    def inputs(self, model: nn.Module, batch: Mapping[str, Any]) -> tuple[Any, ...]:
        """The model's arguments: all tokens but the last, and the prepared condition."""
        own = (batch[key][:, :-1] for key in ("tokens", "places", "positions"))
        return (*own, model.conditioner.prepare(batch))

    def target(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """The token after each, int64 [B,N-1], and whether it counts."""
        return {"tokens": batch["tokens"][:, 1:], "mask": batch["token_mask"][:, 1:]}

    def loss(self, output: Tensor, target: Mapping[str, Tensor]) -> dict[str, Any]:
        """The terms, from logits [B,N-1,V]."""
        mask = target["mask"]
        logits, wanted = output[mask].float(), target["tokens"][mask]
        by_token = F.cross_entropy(logits, wanted, reduction="none", label_smoothing=self.config.smoothing)
        spread = by_token.new_zeros(mask.shape).masked_scatter(mask, by_token)
        by_mesh = spread.sum(dim=1) / mask.sum(dim=1)
        right = (logits.detach().argmax(dim=-1) == wanted).float().mean()
        return {"loss": by_mesh.mean(), "accuracy": right, "per_sample": {"loss": by_mesh.detach()}}
