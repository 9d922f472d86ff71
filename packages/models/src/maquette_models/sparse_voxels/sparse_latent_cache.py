"""Encodes the surfaces of a shard folder once with a frozen sparse autoencoder and keeps the latents beside its run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from maquette.durable import whole_file
from maquette.progress import track
from maquette.runs import load_run
from maquette_models.latents.latent_cache import SPLITS, weights_hash
from maquette_models.shards import read_shards, shard_facts, shards_fingerprint
from maquette_models.sparse_voxels.surface_features import FIELDS
from maquette_models.sparse_voxels.voxel_surface import VoxelSurface

FORMAT = 1  # raise it when what is stored changes


@dataclass(frozen=True)
class SparseSplit:
    """The latents of N shapes, end to end.

    Attributes:
        latent: float32 [T,C], a row a voxel of the latent grid, as encoded.
        voxels: int16 [T,3].
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

    def followed_by(self, other: SparseSplit) -> SparseSplit:
        """The samples of both."""
        return joined([self, other])

    def padded(self, rows: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Latents float32 [B,M,C], voxels int16 [B,M,3], and a mask bool [B,M] of those that are some; 0 elsewhere."""
        spans = [(int(self.offsets[row]), int(self.offsets[row + 1])) for row in rows]
        longest = max(end - start for start, end in spans)
        latent = self.latent.new_zeros(len(rows), longest, self.latent.shape[1])
        voxels = self.voxels.new_zeros(len(rows), longest, 3)
        mask = torch.zeros(len(rows), longest, dtype=torch.bool)
        for row, (start, end) in enumerate(spans):
            latent[row, : end - start], voxels[row, : end - start] = self.latent[start:end], self.voxels[start:end]
            mask[row, : end - start] = True
        return latent, voxels, mask


@dataclass(frozen=True)
class SparseEncoded:
    """The splits "train" (with mirrored twins behind, if asked for) and "val", and the shards' facts, with
    `latent_resolution`, the cells a side of the latent grid."""

    splits: dict[str, SparseSplit]
    facts: dict[str, Any]


def encode_sparse(shards: str, autoencoder: str, mirror: bool, reader: str) -> SparseEncoded:
    """Encode both splits of a shard folder, or read them back where that was done before.

    The cache is `<autoencoder>/sparse-latents-<key>.safetensors`; its key covers the autoencoder's weights, the shards'
    index and `mirror`, so that a stale cache is never read.
    """
    model = load_run(autoencoder).model.requires_grad_(False)
    facts = {**shard_facts(shards, reader), "latent_resolution": model.latent_resolution}
    key = hashlib.sha256(f"{FORMAT} {mirror} {weights_hash(model)} {shards_fingerprint(shards)}".encode())
    path = Path(autoencoder) / f"sparse-latents-{key.hexdigest()[:16]}.safetensors"
    splits = read_splits(path)
    if splits is None:
        splits = {
            name: encode_split(
                model, read_shards(shards, name, reader, fields=FIELDS, points=0), mirror and name == "train"
            )
            for name in SPLITS
        }
        write_splits(path, splits)
    return SparseEncoded(splits, facts)


@torch.inference_mode()
def encode_split(model: nn.Module, batches: Iterable[dict[str, Any]], mirror: bool) -> SparseSplit:
    """Encode the batches of one split; mirrored twins (left to right, along x) follow behind all originals."""
    plain, twins = [], []
    for batch in track(batches, "Encoding batches of shapes"):
        surfaces = model.surfaces(batch)
        plain.append(encode_batch(model, surfaces, batch))
        if mirror:
            ids = [f"{name}-mirrored" for name in batch["id"]]
            twins.append(encode_batch(model, [surface.mirrored() for surface in surfaces], {**batch, "id": ids}))
    return joined(plain + twins)


def encode_batch(model: nn.Module, surfaces: list[VoxelSurface], batch: dict[str, Any]) -> SparseSplit:
    """The latents of surfaces, with class, caption and id from the batch."""
    encoded = model.encode(surfaces)
    counts = encoded.coords[:, 0].bincount(minlength=len(surfaces))
    return SparseSplit(
        encoded.features.float().clone(),
        encoded.coords[:, 1:].short(),
        F.pad(counts.cumsum(0), (1, 0)),
        batch["class_id"],
        list(batch["caption"]),
        list(batch["id"]),
    )


def joined(parts: Sequence[SparseSplit]) -> SparseSplit:
    """The samples of several splits, one after another."""
    if not parts:
        none = torch.empty(0, dtype=torch.int64)
        return SparseSplit(torch.empty(0, 1), torch.empty(0, 3, dtype=torch.int16), torch.zeros(1).long(), none, [], [])
    counts = torch.cat([part.offsets.diff() for part in parts])
    return SparseSplit(
        torch.cat([part.latent for part in parts]),
        torch.cat([part.voxels for part in parts]),
        F.pad(counts.cumsum(0), (1, 0)),
        torch.cat([part.class_id for part in parts]),
        [caption for part in parts for caption in part.caption],
        [name for part in parts for name in part.id],
    )


def read_splits(path: Path) -> dict[str, SparseSplit] | None:
    """What `write_splits` wrote, or None where there is nothing whole."""
    if not path.is_file():
        return None
    names = ("latent", "voxels", "offsets", "class_id")
    try:
        with safe_open(str(path), framework="pt") as file:
            texts = json.loads(file.metadata()["texts"])
            return {
                split: SparseSplit(
                    *(file.get_tensor(f"{split}.{name}") for name in names), texts[split]["caption"], texts[split]["id"]
                )
                for split in SPLITS
            }
    except (SafetensorError, KeyError, ValueError):
        return None  # a damaged cache is made anew


def write_splits(path: Path, splits: dict[str, SparseSplit]) -> None:
    """Write the cache atomically."""
    tensors = {
        f"{split}.{name}": getattr(own, name).contiguous()
        for split, own in splits.items()
        for name in ("latent", "voxels", "offsets", "class_id")
    }
    texts = {name: {"caption": split.caption, "id": split.id} for name, split in splits.items()}
    with whole_file(path) as temporary:
        save_file(tensors, temporary, {"texts": json.dumps(texts)})
