"""Losses of the autoencoder of voxel surfaces: structure, edges, points, paint, a small KL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maquette.engine.randomness import normal
from maquette_kernels.sparse.tensor import SparseTensor
from maquette_models.sparse_voxels.sparse_vae import SparseVAEOutput
from maquette_models.sparse_voxels.surface_features import parts_of, sparse_surfaces


@dataclass
class SparseVAEObjectiveConfig:
    """The weight of each term.

    Cross entropies: `subdivision` (which children a voxel has), `edges` (which are crossed), `signs` (which way, where
    they are). Mean absolute errors on a scale of 0 to 1: `points` (of a voxel's edge), `color`, `material`.
    """

    subdivision: float = 1.0
    edges: float = 1.0
    signs: float = 0.3
    points: float = 2.0
    color: float = 4.0
    material: float = 1.0
    kl: float = 2e-3


class SparseVAEObjective:
    """Weighted sum over voxels; the decoder is led along the true structure (teacher forcing)."""

    def __init__(self, config: SparseVAEObjectiveConfig) -> None:
        self.config = config

    def __call__(self, model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """loss and its terms, scalars each, on a batch as `surface_features.batch_surfaces` takes it."""
        x, noise = self.arguments(model, batch)
        return self.terms(model(x, noise), x)

    def arguments(self, model: nn.Module, batch: Mapping[str, Any]) -> tuple[SparseTensor, Tensor | None]:
        """The model's arguments; noise for its latent in training alone."""
        x = sparse_surfaces(model.surfaces(batch))
        noise = normal("latent", model.noise_shape(x.batch_size), device=x.features.device) if model.training else None
        return x, noise

    def terms(self, output: SparseVAEOutput, x: SparseTensor) -> dict[str, Tensor]:
        """loss and its terms, from what the model makes of x."""
        found, true = parts_of(output.features.float()), parts_of(x.features)
        crossed = true["edges"] > 0
        terms = {
            "subdivision": subdivision_loss(output),
            "edges": F.binary_cross_entropy_with_logits(found["edges"], crossed.float()),
            "signs": F.binary_cross_entropy_with_logits(found["signs"][crossed], (true["signs"] > 0).float()[crossed]),
            **{name: 0.5 * F.l1_loss(found[name], true[name]) for name in ("points", "color", "material")},
            "kl": 0.5 * (output.mean.square() + output.logvar.exp() - output.logvar - 1).mean(),
        }
        loss = sum(getattr(self.config, name) * term for name, term in terms.items())
        return {"loss": torch.as_tensor(loss), **terms}


def subdivision_loss(output: SparseVAEOutput) -> Tensor:
    """Mean cross entropy of which children there are, over levels."""
    pairs = zip(output.subdivision, output.present, strict=True)
    losses = [F.binary_cross_entropy_with_logits(logits.float(), there.float()) for logits, there in pairs]
    return torch.stack(losses).mean()
