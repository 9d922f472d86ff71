"""Paint of shapes under a frozen autoencoder, as a dataset: a token at each coarse cell, and what is known of the shape
there."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from maquette.inference_device import CPU, device_of, inference_device, moved
from maquette.progress import track
from maquette.runs import load_run
from maquette_models.latents.latent_cache import SPLITS, weights_hash
from maquette_models.latents.latents import LatentsConfig
from maquette_models.latents.token_latents import TokenLatents
from maquette_models.latents.token_split import EncodedTokens, TokenSplit, joined, read_splits, write_splits
from maquette_models.shards import open_shards, read_shards, shards_fingerprint
from maquette_models.texturing.paint_vae import PaintVAE
from maquette_models.texturing.painted_points import FIELDS, PaintedPoints

FORMAT = 1  # raise it when what is stored changes


@dataclass
class PaintLatentsConfig(LatentsConfig):
    """As of `latents`; `autoencoder` is the folder of a `paint_vae`'s run, and a shape is encoded from its first
    `points` points, 0 being all."""

    points: int = 4096


class PaintLatents(TokenLatents):
    """Batches as of `TokenLatents`, and `given` float32 [B,N,S], what is known of the shape in each cell, normalised.

    Splits hold both, the channels of paint first.
    """

    name = "paint_latents"

    def read(self, shards: str) -> EncodedTokens:
        """Both splits and the facts of a shard folder, encoded, or read back where that was done before.

        The cache is `<autoencoder>/paint-latents-<key>.safetensors`; its key covers the autoencoder's weights, the
        shards' index and these settings, so that a stale cache is never read.
        """
        config = self.config
        model = load_run(config.autoencoder, inference_device()).model.requires_grad_(False)
        facts = {
            **open_shards(shards, config.reader, FIELDS).facts(),
            "latent_resolution": model.latent_resolution,
            "latent_channels": model.channels,
            "given_channels": model.config.shape_channels,
        }
        settings = f"{FORMAT} {config.mirror} {config.points} {config.reader}"
        key = hashlib.sha256(f"{settings} {weights_hash(model)} {shards_fingerprint(shards)}".encode())
        path = Path(config.autoencoder) / f"paint-latents-{key.hexdigest()[:16]}.safetensors"
        splits = read_splits(path)
        if splits is None:
            splits = {name: self.encode_split(model, shards, name) for name in SPLITS}
            write_splits(path, splits)
        return EncodedTokens(splits, facts)

    def encode_split(self, model: PaintVAE, shards: str, split: str) -> TokenSplit:
        """One split; mirrored twins (left to right, along x) follow behind all originals."""
        plain, twins = [], []
        found: Iterable[dict[str, Any]] = read_shards(shards, split, self.config.reader, fields=FIELDS, points=0)
        for batch in track(found, "Encoding batches of shapes"):
            points = PaintedPoints.of_batch(batch).window(0, self.config.points or None)
            plain.append(encode(model, points, batch, batch["id"]))
            if self.config.mirror and split == "train":
                twins.append(encode(model, points.mirrored(), batch, [f"{name}-mirrored" for name in batch["id"]]))
        return joined(plain + twins)

    def facts(self) -> dict[str, Any]:
        """As of `TokenLatents`; `latent_mean` and `latent_std` are those of paint, `given_mean` and `given_std` of
        the shape."""
        paint = int(self.source_facts["latent_channels"])
        parts = {"latent": slice(None, paint), "given": slice(paint, None)}
        moments = {"mean": self.mean, "std": self.std}
        return {
            **super().facts(),
            "latent_channels": paint,
            **{f"{part}_{name}": value[own].tolist() for part, own in parts.items() for name, value in moments.items()},
        }

    def _keep_to(self, facts: Mapping[str, Any]) -> None:
        super()._keep_to(facts)
        self.mean, self.std = (
            torch.tensor([*facts[f"latent_{name}"], *facts[f"given_{name}"]]) for name in ("mean", "std")
        )

    def _batch(self, split: TokenSplit, rows: list[int], positions: Sequence[int]) -> dict[str, Any]:
        batch = super()._batch(split, rows, positions)
        paint = int(self.source_facts["latent_channels"])
        latent: Tensor = batch["latent"]
        return {**batch, "latent": latent[..., :paint], "given": latent[..., paint:]}


@torch.inference_mode()
def encode(model: PaintVAE, points: PaintedPoints, batch: Mapping[str, Any], ids: Sequence[str]) -> TokenSplit:
    """The cells of a batch's shapes: mean of the paint's latent, then what is known of the shape."""
    points = moved(points, device_of(model))
    cells, shape = model.shape(points.places, points.normals)
    cells, shape, paint = moved((cells, shape, model.moments(points, cells, shape)[0]), CPU)
    return TokenSplit(
        torch.cat([paint, shape], dim=-1).float().clone(),
        cells.coords[:, 1:].short(),
        F.pad(cells.counts.cumsum(0), (1, 0)),
        batch["class_id"],
        list(batch["caption"]),
        list(ids),
    )
