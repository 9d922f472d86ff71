"""Recolouring: a region takes a colour, a metallic and a roughness, and keeps its detail."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from maquette_models.texturing.edit_words import Look
from maquette_models.texturing.view_attributes import to_linear

LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # of linear sRGB (IEC 61966-2-1)
DARKEST = 1e-3
"""Mean luminance below which a region has no detail to keep."""
BRIGHTEST = 4.0
"""The most a texel may be brighter than its region's mean."""


def recolored(linear: NDArray[np.float64], look: Look) -> NDArray[np.float64]:
    """Linear colours [P,3] whose mean is the look's colour, each as much brighter or darker than that as it was."""
    if look.color is None:
        return linear
    luminance = linear @ LUMINANCE
    mean = float(luminance.mean())
    ratio = np.ones(len(linear)) if mean < DARKEST else (luminance / mean).clip(0, BRIGHTEST)
    return (to_linear(np.array(look.color)) * ratio[:, None]).clip(0, 1)


def refinished(values: NDArray[np.float64], look: Look) -> NDArray[np.float64]:
    """Metallic and roughness [P,2]: metallic is the look's, roughness has its mean and keeps its differences."""
    made = values.copy()
    if look.metallic is not None:
        made[:, 0] = look.metallic
    if look.roughness is not None:
        made[:, 1] = (values[:, 1] - values[:, 1].mean() + look.roughness).clip(0, 1)
    return made
