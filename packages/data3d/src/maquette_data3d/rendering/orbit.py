"""Sets of cameras around an object."""

from __future__ import annotations

import math

import numpy as np

from maquette.errors import MaquetteError
from maquette_data3d.rendering.camera import Camera

SCHEMES = ("fibonacci", "turntable", "random")
WHOLE = 0.78
"""Radius of the sphere around every normalised shape: half the diagonal of a cube of side 0.9."""
_GOLDEN = math.degrees(math.pi * (3.0 - math.sqrt(5.0)))


def orbit(
    count: int,
    seed: int | np.random.Generator = 0,
    *,
    fov: tuple[float, float] = (30.0, 30.0),
    scheme: str = "fibonacci",
    elevation: tuple[float, float] = (-90.0, 90.0),
    fit: float = WHOLE,
) -> tuple[Camera, ...]:
    """Cameras on spheres around the origin that see the whole of a normalised shape.

    Args:
        count: number of cameras.
        seed: draws the turn of the set, the fields of view and the random directions; a seed or a generator.
        fov: lowest and highest vertical field of view in degrees; the distance follows so that `fit` is seen.
        scheme: "fibonacci" spreads directions evenly over the sphere (spiral of Vogel 1979 on the sphere) with a
            turn drawn by the seed, "turntable" goes around at equal steps from the front at the middle of
            `elevation`, "random" draws directions uniformly.
        elevation: degrees above the horizon between which cameras stand.
        fit: radius around the origin that every camera sees.

    Raises:
        MaquetteError: no such scheme, a count below one, or a field of view outside (0, 180).
    """
    if scheme not in SCHEMES:
        raise MaquetteError(f"orbit has no scheme '{scheme}'; it has: {', '.join(SCHEMES)}")
    if count < 1 or not 0 < fov[0] <= fov[1] < 180:
        raise MaquetteError(f"orbit needs count >= 1 and 0 < fov < 180, got count {count}, fov {fov}")
    rng = seed if isinstance(seed, np.random.Generator) else np.random.default_rng(seed)
    turn, opening = rng.uniform(0, 360), rng.uniform(*fov, count)
    low, high = (math.sin(math.radians(angle)) for angle in elevation)
    if scheme == "random":
        azimuths, heights = rng.uniform(0, 360, count), rng.uniform(low, high, count)
    elif scheme == "fibonacci":
        azimuths = (turn + _GOLDEN * np.arange(count)) % 360
        heights = low + (high - low) * (np.arange(count) + 0.5) / count
    else:
        azimuths = np.arange(count) * (360.0 / count)
        heights = np.full(count, math.sin(math.radians(sum(elevation) / 2)))
    elevations = np.degrees(np.arcsin(np.clip(heights, -1, 1)))
    return tuple(
        Camera(float(azimuth), float(above), float(angle), fit=fit)
        for azimuth, above, angle in zip(azimuths, elevations, opening, strict=True)
    )
