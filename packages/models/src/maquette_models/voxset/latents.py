"""Latents of shapes as token sets under a frozen VoxSet autoencoder, as a dataset."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maquette.engine.randomness import fold
from maquette.inference_device import CPU, device_of, inference_device, moved
from maquette.progress import track
from maquette.runs import load_run
from maquette_models.latents.latent_cache import SPLITS, weights_hash
from maquette_models.latents.latents import LatentsConfig
from maquette_models.latents.token_latents import TokenLatents
from maquette_models.latents.token_split import EncodedTokens, TokenSplit, joined, read_splits, write_splits
from maquette_models.shards import read_shards, shard_facts, shards_fingerprint

FORMAT = 1  # raise it when what is stored changes
MIRRORED = ("surface", "normals", "sharp", "sharp_normals")


@dataclass
class VoxSetLatentsConfig(LatentsConfig):
    """As of `latents`; `autoencoder` is the folder of a `voxset_vae`'s run.

    A shape is encoded on at most `tokens` anchors, farthest points of its voxels from one that a seed picks; `variants`
    times, each time from another one.
    """

    tokens: int = 192
    variants: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tokens < 1 or self.variants < 1:
            raise ValueError(f"tokens {self.tokens} and variants {self.variants} must be at least 1")


class VoxSetLatents(TokenLatents):
    """The anchors of shapes, a token each; an epoch holds all variants, the held-out shapes are encoded once."""

    name = "voxset_latents"
    config: VoxSetLatentsConfig

    def read(self, shards: str) -> EncodedTokens:
        """Both splits and the facts of a shard folder, encoded, or read back where that was done before.

        The cache is `<autoencoder>/voxset-latents-<key>.safetensors`; its key covers the autoencoder's weights, the
        shards' index and these settings, so that a stale cache is never read.
        """
        config = self.config
        model = load_run(config.autoencoder, inference_device()).model.requires_grad_(False)
        facts = {**shard_facts(shards, config.reader), "latent_resolution": model.config.anchor_resolution}
        settings = f"{FORMAT} {config.mirror} {config.tokens} {config.variants} {config.reader}"
        key = hashlib.sha256(f"{settings} {weights_hash(model)} {shards_fingerprint(shards)}".encode())
        path = Path(config.autoencoder) / f"voxset-latents-{key.hexdigest()[:16]}.safetensors"
        splits = read_splits(path)
        if splits is None:
            splits = {name: self.encode_split(model, shards, name) for name in SPLITS}
            write_splits(path, splits)
        return EncodedTokens(splits, facts)

    def encode_split(self, model: nn.Module, shards: str, split: str) -> TokenSplit:
        """One split; the variants of the originals, then those of the mirrored twins (left to right, along x)."""
        training = split == "train"
        variants = range(self.config.variants if training else 1)
        turns = [
            (mirror, variant)
            for mirror in (False, True)[: 1 + (training and self.config.mirror)]
            for variant in variants
        ]
        parts: dict[tuple[bool, int], list[TokenSplit]] = {turn: [] for turn in turns}
        fields = list(model.reconstruction_fields())
        found: Iterable[dict[str, Any]] = read_shards(shards, split, self.config.reader, fields=fields, points=0)
        for batch in track(found, "Encoding batches of shapes"):
            for mirror, variant in turns:
                parts[mirror, variant].append(self.encode(model, mirrored(batch) if mirror else batch, variant))
        return joined([part for turn in turns for part in parts[turn]])

    @torch.inference_mode()
    def encode(self, model: nn.Module, batch: Mapping[str, Any], variant: int) -> TokenSplit:
        """A batch's tokens, each shape's anchors by its id and the variant."""
        seeds = [fold("variant", name, variant) for name in batch["id"]]
        anchors = model.anchors_of(batch["surface"], self.config.tokens, seeds)
        latent = model.encode(*moved((dict(batch), anchors), device_of(model))).float().to(CPU)
        return TokenSplit(
            latent[anchors.mask].clone(),
            anchors.positions[anchors.mask].short(),
            F.pad(anchors.mask.sum(dim=1).cumsum(0), (1, 0)),
            batch["class_id"],
            list(batch["caption"]),
            list(batch["id"]),
        )


def mirrored(batch: Mapping[str, Any]) -> dict[str, Any]:
    """The batch's shapes left to right, along x."""
    sign = torch.tensor([-1.0, 1.0, 1.0])

    def flipped(name: str, value: Any) -> Any:
        return value * sign if name in MIRRORED and isinstance(value, Tensor) else value

    return {
        **{name: flipped(name, value) for name, value in batch.items()},
        "id": [f"{name}-mirrored" for name in batch["id"]],
    }
