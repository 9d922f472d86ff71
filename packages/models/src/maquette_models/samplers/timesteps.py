"""The times a sampler visits, from noise (1) to data (0)."""

from __future__ import annotations

import torch
from torch import Tensor

from maquette.errors import MaquetteError


def timesteps(steps: int, shift: float = 1.0) -> Tensor:
    """`steps + 1` falling times from 1 to 0, float32; a shift above 1 spends more of them near the noise.

    The shift is that of Esser et al., "Scaling Rectified Flow Transformers", 2024, equation 23.

    Raises:
        MaquetteError: no steps, or a shift that is not positive.
    """
    if steps < 1:
        raise MaquetteError(f"a sampler needs at least 1 step, got {steps}")
    if shift <= 0:
        raise MaquetteError(f"a sampler's shift must be positive, got {shift}")
    t = torch.linspace(1, 0, steps + 1, dtype=torch.float64)
    return (shift * t / (1 + (shift - 1) * t)).to(torch.float32)
