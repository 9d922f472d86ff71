"""Pictures of surfaces' colours and materials from around, as a dataset of tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from maquette.errors import MaquetteError
from maquette_models.latents.latents import LatentsConfig
from maquette_models.latents.token_latents import TokenLatents
from maquette_models.latents.token_split import EncodedTokens, TokenSplit, joined
from maquette_models.shards import open_shards, read_shards
from maquette_models.texturing.view_tokens import ATTRIBUTES, SHAPE, attribute_patches, view_tokens

FIELDS = ("view_position", "view_normal", "view_albedo", "view_material")
SPLITS = ("train", "val")


@dataclass
class ViewTexturesConfig(LatentsConfig):
    """`shards` have the feature `views` with normal, position, albedo and material; there is no autoencoder.

    `patch` is a token's side in pixels, `resolution` the voxels a side that tokens' places are rounded to. The rest is
    as of the dataset `latents`; nothing is mirrored.
    """

    autoencoder: str = ""
    mirror: bool = False
    patch: int = 8
    resolution: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.patch < 1 or self.resolution < 1 or self.mirror:
            raise ValueError("'patch' and 'resolution' must be at least 1, and 'mirror' false")


class ViewTextures(TokenLatents):
    """Batches of `latent` [B,N,P*P*5] (base colour, metallic and roughness of a patch's pixels, zero mean and unit
    variance a channel), `given` [B,N,P*P*6] (their normals and places), and what `TokenLatents` gives beside.

    A split holds the two side by side, in half precision.
    """

    name = "view_textures"
    config: ViewTexturesConfig

    def read(self, shards: str) -> EncodedTokens:
        """Both splits, and the shards' facts.

        Raises:
            MaquetteError: pictures that do not divide into patches.
        """
        facts = dict(open_shards(shards, self.config.reader, FIELDS, points=0).facts())
        first = next(read_shards(shards, "train", self.config.reader, fields=FIELDS, points=0))
        views, size = (int(first["view_position"].shape[axis]) for axis in (1, 4))
        if size % self.config.patch:
            raise MaquetteError(
                f"dataset '{self.name}': '{shards}' has pictures of {size} pixels, patches have {self.config.patch}; "
                "build the feature 'views' at a multiple of it"
            )
        splits = {split: self.read_split(shards, split) for split in SPLITS}
        return EncodedTokens(splits, {**facts, "views": views, "view_size": size})

    def read_split(self, shards: str, split: str) -> TokenSplit:
        """The tokens of one split."""
        batches = read_shards(shards, split, self.config.reader, fields=FIELDS, points=0)
        return joined([self.tokens_of(batch) for batch in batches])

    def tokens_of(self, batch: Mapping[str, Any]) -> TokenSplit:
        """The tokens of a batch of shapes."""
        config, rows, places = self.config, [], []
        for position, normal, albedo, material in zip(*(batch[name] for name in FIELDS), strict=True):
            tokens = view_tokens(position, normal, (normal != 0).any(dim=1), config.patch, config.resolution)
            seen = torch.cat([unit(albedo), unit(material)], dim=1)
            rows.append(torch.cat([attribute_patches(seen, tokens, config.patch), tokens.given], dim=1).half())
            places.append(tokens.positions.short())
        counts = torch.tensor([len(row) for row in rows])
        offsets = F.pad(counts.cumsum(0), (1, 0))
        return TokenSplit(
            torch.cat(rows), torch.cat(places), offsets, batch["class_id"], list(batch["caption"]), list(batch["id"])
        )

    @property
    def channels(self) -> int:
        """Of a token's attributes."""
        return self.config.patch**2 * ATTRIBUTES

    def statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each of a token's channels: those of the attribute that it is, over all pixels."""
        values = self.splits["train"].latent[:, : self.channels].float().unflatten(1, (-1, ATTRIBUTES))
        pixels = self.config.patch**2
        return values.mean(dim=(0, 1)).repeat(pixels), values.std(dim=(0, 1)).clamp(min=1e-3).repeat(pixels)

    def facts(self) -> dict[str, Any]:
        """As of `TokenLatents`, and how views become tokens."""
        config = self.config
        return {
            **super().facts(),
            "latent_channels": self.channels,
            "given_channels": config.patch**2 * SHAPE,
            "latent_resolution": config.resolution,
            "view_patch": config.patch,
        }

    def _batch(self, split: TokenSplit, rows: list[int], positions: Sequence[int]) -> dict[str, Any]:
        values, voxels, mask = split.padded(rows, self._longest(split, rows, positions))
        latent, given = values.float().split([self.channels, values.shape[-1] - self.channels], dim=-1)
        return {
            "latent": (latent - self.mean) / self.std * mask[..., None],
            "given": given,
            "positions": voxels.float(),
            "token_mask": mask,
            "class_id": split.class_id[rows],
            "caption": [split.caption[row] for row in rows],
            "id": [split.id[row] for row in rows],
            "position": torch.tensor(positions, dtype=torch.int64),
            **self._for_condition(split, rows, positions),
        }


def unit(values: Tensor) -> Tensor:
    """Bytes, or what a reader made of them, in [0,1]."""
    return values.float() / 255 if values.dtype == torch.uint8 else values.float()
