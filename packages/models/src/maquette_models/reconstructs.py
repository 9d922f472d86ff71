"""What an autoencoder offers so that `maquette eval` can measure its reconstructions, whatever its latents are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from torch import Tensor

from maquette.types import Mesh


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """One shape that went through an autoencoder and back.

    Attributes:
        mesh: its surface, None where nothing is left of the shape; with `colors` where the model knows them.
        tsdf: float32 [1,R,R,R], negative inside, cell-centred, in units of the truncation distance; None where the
            model has no inside. R need not be that of the shards.
        positions: how many tokens or voxels the latent had; 0 where that is a constant of the model.
    """

    mesh: Mesh | None
    tsdf: Tensor | None = None
    positions: int = 0


@runtime_checkable
class Reconstructs(Protocol):
    """An architecture with these two methods gets all figures of reconstruction."""

    def reconstruction_fields(self) -> tuple[str, ...]:
        """The fields of a shard's samples that `reconstruct` reads, e.g. ("surface", "normals")."""

    def reconstruct(self, batch: Mapping[str, Any]) -> list[Reconstruction]:
        """A batch through the latent (its mean, no noise) and back to meshes, one a row, in order.

        Args:
            batch: the fields asked for, [B, ...]. Fields of points hold all the points that are stored, in random
                order: the first so many are a sample of the surface.
        """
