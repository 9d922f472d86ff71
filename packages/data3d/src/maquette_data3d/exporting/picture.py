"""PNG: what an asset looks like, for lists and previews."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maquette.durable import whole_file
from maquette.errors import MaquetteError
from maquette.placement import in_unit_cube
from maquette.types import Asset

FAST = 2
"""Of zlib's levels: half the time of the usual one, for a quarter more bytes."""


@dataclass
class PictureConfig:
    """
    Args:
        size: height and width in pixels.
        lights: "studio", "sun" or "flat".
    """

    size: int = 512
    lights: str = "studio"

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 4096:
            raise MaquetteError(f"size is {self.size}; a picture is of 1 to 4096 pixels a side")


class PictureExporter:
    """A three-quarter view on a transparent ground."""

    suffix = ".png"

    def __init__(self, config: PictureConfig | None = None) -> None:
        self.config = config or PictureConfig()

    def __call__(self, asset: Asset, path: str | Path) -> Path:
        """Writes the picture, whole or not at all."""
        from PIL import Image

        from maquette_data3d.rendering.camera import Camera
        from maquette_data3d.rendering.views import render_views

        views = render_views(in_unit_cube(asset.mesh), [Camera(fit=0.68)], self.config.size, self.config.lights)
        with whole_file(Path(path)) as temporary:
            Image.fromarray(np.ascontiguousarray(views.rgb[0])).save(temporary, "PNG", compress_level=FAST)
        return Path(path)
