"""How well latents agree with a condition, by the flow's own errors with and without it.

After Li et al., "Your Diffusion Model is Secretly a Zero-Shot Classifier", 2023.
"""

from __future__ import annotations

import torch
from torch import Tensor

from maquette.engine.randomness import fold
from maquette_models.editing.inpainting import blend
from maquette_models.samplers.guidance import Guided
from maquette_models.samplers.prediction import takes_guidance

TIMES = 8
"""At which noise is tried, evenly in (0, 1), each with a noise of its own."""


def agreement(field: Guided, latent: Tensor, free: Tensor, seed: int) -> Tensor:
    """By how much the condition lowers the mean squared error of the velocity where cells are free, [B].

    Args:
        field: of B rows; its condition and the null one are compared, its guidance is not used.
        latent: data [B,C,L,L,L]; all meet the same noises, so that their figures can be compared.
        free: bool [1,1,L,L,L], the cells that count.
        seed: of the noises.
    """
    if takes_guidance(field.model):
        field = field.given(guidance=torch.ones(len(latent), device=latent.device))
    generator = torch.Generator().manual_seed(fold("agreement", seed))
    times = ((torch.arange(TIMES) + 0.5) / TIMES).to(latent.device)
    gain = torch.zeros(len(latent), device=latent.device)
    for t in times:
        noise = torch.randn(latent.shape[1:], generator=generator).to(latent.device)
        x, rows = blend(latent, noise, t), t.expand(len(latent))
        without, conditional = (
            ((field.velocity(x, rows, condition) - (noise - latent)).square() * free).flatten(1).sum(dim=1)
            for condition in (field.null, field.condition)
        )
        gain += without - conditional
    return gain / (TIMES * latent.shape[1] * free.sum())
