"""Latents of shapes as sets of tokens, each at its place in a grid, and the file that keeps them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from maquette.durable import whole_file
from maquette_models.latents.latent_cache import SPLITS


@dataclass(frozen=True)
class TokenSplit:
    """The latents of N shapes, end to end.

    Attributes:
        latent: float32 [T,C], a row a token, as encoded.
        voxels: int16 [T,3], the cell of the latent grid that each is at.
        offsets: int64 [N+1], where each shape begins.
        class_id: int64 [N]; and N captions and ids.
    """

    latent: Tensor
    voxels: Tensor
    offsets: Tensor
    class_id: Tensor
    caption: list[str]
    id: list[str]

    def __len__(self) -> int:
        return len(self.class_id)

    def followed_by(self, other: TokenSplit) -> TokenSplit:
        """The samples of both."""
        return joined([self, other])

    @property
    def counts(self) -> Tensor:
        """How many tokens each shape has, int64 [N]."""
        return self.offsets.diff()

    def padded(self, rows: Sequence[int], length: int) -> tuple[Tensor, Tensor, Tensor]:
        """Latents float32 [B,M,C], voxels int16 [B,M,3], and a mask bool [B,M] of those that are some; 0 elsewhere.

        Args:
            rows: which shapes, B of them.
            length: M, at least as many as any of them has.
        """
        latent = self.latent.new_zeros(len(rows), length, self.latent.shape[1])
        voxels = self.voxels.new_zeros(len(rows), length, 3)
        mask = torch.arange(length) < self.counts[list(rows)][:, None]
        own = torch.cat([torch.arange(int(self.offsets[row]), int(self.offsets[row + 1])) for row in rows])
        latent[mask], voxels[mask] = self.latent[own], self.voxels[own]
        return latent, voxels, mask


@dataclass(frozen=True)
class EncodedTokens:
    """The splits "train" (with mirrored twins behind, if asked for) and "val", and the shards' facts, with
    `latent_resolution`, the cells a side of the latent grid."""

    splits: dict[str, TokenSplit]
    facts: dict[str, Any]


def joined(parts: Sequence[TokenSplit]) -> TokenSplit:
    """The samples of several splits, one after another."""
    if not parts:
        none = torch.empty(0, dtype=torch.int64)
        return TokenSplit(torch.empty(0, 1), torch.empty(0, 3, dtype=torch.int16), torch.zeros(1).long(), none, [], [])
    counts = torch.cat([part.counts for part in parts])
    return TokenSplit(
        torch.cat([part.latent for part in parts]),
        torch.cat([part.voxels for part in parts]),
        F.pad(counts.cumsum(0), (1, 0)),
        torch.cat([part.class_id for part in parts]),
        [caption for part in parts for caption in part.caption],
        [name for part in parts for name in part.id],
    )


def read_splits(path: Path) -> dict[str, TokenSplit] | None:
    """What `write_splits` wrote, or None where there is nothing whole."""
    if not path.is_file():
        return None
    names = ("latent", "voxels", "offsets", "class_id")
    try:
        with safe_open(str(path), framework="pt") as file:
            texts = json.loads(file.metadata()["texts"])
            return {
                split: TokenSplit(
                    *(file.get_tensor(f"{split}.{name}") for name in names), texts[split]["caption"], texts[split]["id"]
                )
                for split in SPLITS
            }
    except (SafetensorError, KeyError, ValueError):
        return None  # a damaged cache is made anew


def write_splits(path: Path, splits: dict[str, TokenSplit]) -> None:
    """Write the cache atomically."""
    tensors = {
        f"{split}.{name}": getattr(own, name).contiguous()
        for split, own in splits.items()
        for name in ("latent", "voxels", "offsets", "class_id")
    }
    texts = {name: {"caption": split.caption, "id": split.id} for name, split in splits.items()}
    with whole_file(path) as temporary:
        save_file(tensors, temporary, {"texts": json.dumps(texts)})
