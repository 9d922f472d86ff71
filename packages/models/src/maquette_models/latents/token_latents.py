"""Latents that are sets of tokens, as a dataset of padded batches that resumes at the exact sample."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from maquette_models.latents.latents import Latents
from maquette_models.latents.token_split import TokenSplit


class TokenLatents(Latents):
    """Batches of `latent` [B,N,C] (zero mean and unit variance by channel, 0 where there is no token), `positions`
    float32 [B,N,3] in cells of the latent grid, `token_mask` bool [B,N], and what `Latents` gives beside.

    A subclass reads them.
    """

    splits: dict[str, TokenSplit]

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel [C] over the training tokens."""
        latent = self.splits["train"].latent
        return latent.mean(dim=0), latent.std(dim=0).clamp(min=1e-6)

    def facts(self) -> dict[str, Any]:
        """What the shards say of themselves, the latents' channels, grid and statistics, and the most `tokens` that a
        training shape has."""
        train = self.splits["train"]
        return {
            **self.source_facts,
            "latent_channels": train.latent.shape[1],
            "tokens": int(train.counts.max()),
            "latent_mean": self.mean.tolist(),
            "latent_std": self.std.tolist(),
            **(self.condition.facts() if self.condition else {}),
        }

    def _batch(self, split: TokenSplit, rows: list[int], positions: Sequence[int]) -> dict[str, Any]:
        latent, voxels, mask = split.padded(rows, self._longest(split, rows, positions))
        return {
            "latent": (latent - self.mean) / self.std * mask[..., None],
            "positions": voxels.float(),
            "token_mask": mask,
            "class_id": split.class_id[rows],
            "caption": [split.caption[row] for row in rows],
            "id": [split.id[row] for row in rows],
            "position": torch.tensor(positions, dtype=torch.int64),
            **self._for_condition(split, rows, positions),
        }

    def _longest(self, split: TokenSplit, rows: list[int], positions: Sequence[int]) -> int:
        """Tokens of the largest shape, of all ranks' shares of a training batch, so that all are padded alike."""
        if split is self.splits["train"] and self.world > 1:
            first = positions[0] - self.rank * len(rows)
            rows = [self.row(position) for position in range(first, first + len(rows) * self.world)]
        return int(split.counts[rows].max())
