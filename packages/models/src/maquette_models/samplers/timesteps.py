"""The times a sampler visits, from noise (1) to data (0), and how they are shifted for many tokens.

Esser et al., "Scaling Rectified Flow Transformers", 2024, equation 23.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

from maquette.errors import MaquetteError

Number = TypeVar("Number", float, Tensor)


def timesteps(steps: int, shift: float = 1.0) -> Tensor:
    """`steps + 1` falling times from 1 to 0, float32; a shift above 1 spends more of them near the noise.

    Raises:
        MaquetteError: no steps, or a shift that is not positive.
    """
    if steps < 1:
        raise MaquetteError(f"a sampler needs at least 1 step, got {steps}")
    if shift <= 0:
        raise MaquetteError(f"a sampler's shift must be positive, got {shift}")
    return shifted(torch.linspace(1, 0, steps + 1, dtype=torch.float64), shift).to(torch.float32)


def shifted(t: Tensor, shift: float | Tensor) -> Tensor:
    """Times in [0,1], moved towards the noise by a shift above 1."""
    return shift * t / (1 + (shift - 1) * t)


def resolution_shift(tokens: Number, reference: int, shift: float = 1.0) -> Number:
    """The shift of a sample of so many tokens, where one of `reference` tokens has `shift`: by the root of the
    ratio."""
    return shift * (tokens / reference) ** 0.5
