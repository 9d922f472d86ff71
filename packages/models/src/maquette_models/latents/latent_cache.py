"""Encodes a shard folder once with a frozen autoencoder and keeps the latents beside the autoencoder's
run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from maquette.durable import whole_file
from maquette.inference_device import CPU, device_of, inference_device, moved
from maquette.progress import track
from maquette.runs import load_run
from maquette_models.shards import read_shards, shard_facts, shards_fingerprint

SPLITS = ("train", "val")
FORMAT = 1  # raise it when what is stored changes


@dataclass(frozen=True)
class EncodedSplit:
    """latent float32 [N,C,L,L,L] as encoded, class_id int64 [N], and N captions and ids."""

    latent: Tensor
    class_id: Tensor
    caption: list[str]
    id: list[str]

    def __len__(self) -> int:
        return len(self.class_id)

    def followed_by(self, other: EncodedSplit) -> EncodedSplit:
        """The samples of both."""
        return EncodedSplit(
            torch.cat([self.latent, other.latent]),
            torch.cat([self.class_id, other.class_id]),
            [*self.caption, *other.caption],
            [*self.id, *other.id],
        )


@dataclass(frozen=True)
class EncodedShards:
    """The splits "train" (with mirrored twins behind, if asked for) and "val", and the shards' facts."""

    splits: dict[str, EncodedSplit]
    facts: dict[str, Any]


def encode_shards(shards: str, autoencoder: str, mirror: bool, reader: str) -> EncodedShards:
    """Encode both splits of a shard folder, or read them back where that was done before.

    The cache is `<autoencoder>/latents-<key>.safetensors`; its key covers the autoencoder's weights, the
    shards' index and `mirror`, so that a stale cache is never read.
    """
    model = load_run(autoencoder, inference_device()).model.requires_grad_(False)
    facts = shard_facts(shards, reader)
    key = hashlib.sha256()
    key.update(f"{FORMAT} {mirror} {weights_hash(model)} {shards_fingerprint(shards)}".encode())
    path = Path(autoencoder) / f"latents-{key.hexdigest()[:16]}.safetensors"
    splits = read_splits(path)
    if splits is None:
        splits = {
            split: encode_split(model, read_shards(shards, split, reader), mirror and split == "train")
            for split in SPLITS
        }
        write_splits(path, splits)
    return EncodedShards(splits, facts)


@torch.inference_mode()
def encode_split(model: nn.Module, batches: Iterable[dict[str, Any]], mirror: bool) -> EncodedSplit:
    """Encode the batches of one split; mirrored twins (left to right, along x) follow behind all
    originals."""
    latents: list[list[Tensor]] = [[], []]
    labels, captions, ids = [], [], []
    device = device_of(model)
    for batch in track(batches, "Encoding batches of shapes"):
        tsdf, color = moved((batch["tsdf"], batch["color"]), device)
        latents[0].append(model.encode(tsdf, color).float().to(CPU))
        if mirror:
            latents[1].append(model.encode(tsdf.flip(2), color.flip(2)).float().to(CPU))
        labels.append(batch["class_id"])
        captions += batch["caption"]
        ids += batch["id"]
    if not labels:
        return EncodedSplit(torch.empty(0, 1, 1, 1, 1), torch.empty(0, dtype=torch.int64), [], [])
    copies = 2 if mirror else 1
    mirrored_ids = [f"{name}-mirrored" for name in ids] if mirror else []
    return EncodedSplit(
        torch.cat(latents[0] + latents[1]).clone(),
        torch.cat(labels).repeat(copies),
        captions * copies,
        ids + mirrored_ids,
    )


def weights_hash(model: nn.Module) -> str:
    """A digest of a model's names and weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_splits(path: Path) -> dict[str, EncodedSplit] | None:
    """What `write_splits` wrote, or None where there is nothing whole."""
    if not path.is_file():
        return None
    try:
        with safe_open(str(path), framework="pt") as file:
            texts = json.loads(file.metadata()["texts"])
            return {
                split: EncodedSplit(
                    file.get_tensor(f"{split}.latent"),
                    file.get_tensor(f"{split}.class_id"),
                    texts[split]["caption"],
                    texts[split]["id"],
                )
                for split in SPLITS
            }
    except (SafetensorError, KeyError, ValueError):
        return None  # a damaged cache is made anew


def write_splits(path: Path, splits: dict[str, EncodedSplit]) -> None:
    """Write the cache atomically."""
    tensors = {f"{name}.latent": split.latent.contiguous() for name, split in splits.items()}
    tensors |= {f"{name}.class_id": split.class_id for name, split in splits.items()}
    texts = {name: {"caption": split.caption, "id": split.id} for name, split in splits.items()}
    with whole_file(path) as temporary:
        save_file(tensors, temporary, {"texts": json.dumps(texts)})
