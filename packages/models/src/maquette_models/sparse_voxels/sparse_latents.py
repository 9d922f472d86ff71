"""Latents of voxel surfaces under a frozen autoencoder, as a dataset."""

from __future__ import annotations

from dataclasses import dataclass

from maquette_models.latents.latents import LatentsConfig
from maquette_models.latents.token_latents import TokenLatents
from maquette_models.latents.token_split import EncodedTokens
from maquette_models.sparse_voxels.sparse_latent_cache import encode_sparse


@dataclass
class SparseLatentsConfig(LatentsConfig):
    """As of `latents`; `autoencoder` is the folder of a `sparse_vae`'s run."""


class SparseLatents(TokenLatents):
    """The voxels of the latent grid that surfaces pass, a token each."""

    name = "sparse_latents"

    def read(self, shards: str) -> EncodedTokens:
        """Both splits and the facts of a shard folder."""
        return encode_sparse(shards, self.config.autoencoder, self.config.mirror, self.config.reader)
