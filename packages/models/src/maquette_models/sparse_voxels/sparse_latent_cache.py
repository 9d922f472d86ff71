"""Encodes the surfaces of a shard folder once with a frozen sparse autoencoder and keeps the latents beside its run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from maquette.inference_device import CPU, device_of, inference_device, moved
from maquette.progress import track
from maquette.runs import load_run
from maquette_models.latents.latent_cache import SPLITS, weights_hash
from maquette_models.latents.token_split import EncodedTokens, TokenSplit, joined, read_splits, write_splits
from maquette_models.shards import read_shards, shard_facts, shards_fingerprint
from maquette_models.sparse_voxels.surface_features import FIELDS
from maquette_models.sparse_voxels.voxel_surface import VoxelSurface

FORMAT = 1  # raise it when what is stored changes


def encode_sparse(shards: str, autoencoder: str, mirror: bool, reader: str) -> EncodedTokens:
    """Encode both splits of a shard folder, or read them back where that was done before.

    The cache is `<autoencoder>/sparse-latents-<key>.safetensors`; its key covers the autoencoder's weights, the shards'
    index and `mirror`, so that a stale cache is never read.
    """
    model = load_run(autoencoder, inference_device()).model.requires_grad_(False)
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
    return EncodedTokens(splits, facts)


@torch.inference_mode()
def encode_split(model: nn.Module, batches: Iterable[dict[str, Any]], mirror: bool) -> TokenSplit:
    """Encode the batches of one split; mirrored twins (left to right, along x) follow behind all originals."""
    plain, twins = [], []
    for batch in track(batches, "Encoding batches of shapes"):
        surfaces = model.surfaces(batch)
        plain.append(encode_batch(model, surfaces, batch))
        if mirror:
            ids = [f"{name}-mirrored" for name in batch["id"]]
            twins.append(encode_batch(model, [surface.mirrored() for surface in surfaces], {**batch, "id": ids}))
    return joined(plain + twins)


def encode_batch(model: nn.Module, surfaces: list[VoxelSurface], batch: dict[str, Any]) -> TokenSplit:
    """The latents of surfaces, with class, caption and id from the batch."""
    encoded = model.encode(moved(surfaces, device_of(model)))
    features, coords = moved((encoded.features, encoded.coords), CPU)
    counts = coords[:, 0].bincount(minlength=len(surfaces))
    return TokenSplit(
        features.float().clone(),
        coords[:, 1:].short(),
        F.pad(counts.cumsum(0), (1, 0)),
        batch["class_id"],
        list(batch["caption"]),
        list(batch["id"]),
    )
