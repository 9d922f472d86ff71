"""Small pictures for indexes and reports."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from maquette.types import Mesh
from maquette_data3d.rendering.camera import Camera
from maquette_data3d.rendering.surfaces import Surface
from maquette_data3d.rendering.views import render_views


def thumbnail(surface: Mesh | Surface, size: int = 96) -> bytes:
    """A WebP file of a three-quarter view on a transparent ground, the same bytes for the same surface.

    Args:
        surface: in the unit cube.
        size: height and width in pixels.
    """
    rgba = render_views(surface, [Camera(fit=0.68)], size).rgb[0]
    rgba[rgba[..., 3] == 0] = 0
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(rgba)).save(file, "WEBP", quality=82, method=4, exact=True)
    return file.getvalue()
