"""Pictures of a shape from around it, for conditioning and for texturing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from maquette_data3d.features.feature import check_sizes, stored
from maquette_data3d.features.subject import Subject

if TYPE_CHECKING:
    from maquette_data3d.rendering.views import Views as RenderedViews

SCHEMES, LIGHTS = ("fibonacci", "turntable", "random"), ("studio", "sun", "flat")
CHANNELS = ("rgb", "depth", "normal", "position", "albedo", "material")


@dataclass
class ViewsConfig:
    """How many pictures, how large, from where, and what they show."""

    count: int = 8
    size: int = 128
    channels: list[str] = field(default_factory=lambda: ["rgb"])
    """Of rgb, depth, normal, position, albedo, material."""
    fov: list[float] = field(default_factory=lambda: [40.0, 40.0])
    """Vertical field of view in degrees, drawn between the two."""
    scheme: str = "fibonacci"
    """Where the cameras stand: fibonacci, turntable or random."""
    elevation: list[float] = field(default_factory=lambda: [-90.0, 90.0])
    """Degrees above the horizon between which they stand; a turntable is at the middle of the two."""
    fit: float = 0.78
    """Radius round the middle that every camera sees; the corners of a cube of side 0.9 are at 0.78."""
    lights: str = "studio"
    precision: str | None = None

    def __post_init__(self) -> None:
        """Raises ValueError on a value that cannot be."""
        check_sizes(self, count=1, size=1)
        if not self.fov or not 0 < self.fov[0] <= self.fov[-1] < 180:
            raise ValueError(f"fov {list(self.fov)} is not two rising angles between 0 and 180")
        if not self.fit > 0:
            raise ValueError(f"fit is {self.fit}; it must be a radius above 0")
        if len(self.elevation) != 2 or not -90 <= self.elevation[0] <= self.elevation[1] <= 90:
            raise ValueError(f"elevation {list(self.elevation)} is not two rising angles between -90 and 90")
        known = (
            ("channel", self.channels, CHANNELS),
            ("scheme", [self.scheme], SCHEMES),
            ("lights", [self.lights], LIGHTS),
        )
        for what, given, choices in known:
            for name in given:
                if name not in choices:
                    raise ValueError(f"{what} '{name}' is not one of: {', '.join(choices)}")


class Views:
    """`view_rgb` uint8 [V, 4, S, S] (sRGB and alpha), `view_depth` [V, S, S] (0 where there is nothing),
    `view_normal`, `view_position` [V, 3, S, S], uint8 `view_albedo` [V, 3, S, S] (sRGB) and `view_material`
    [V, 2, S, S] (metallic and roughness in 1 / 255), `view_camera` float32 [V, 4, 4] (world to camera) and
    `view_intrinsics` float32 [V, 3, 3]."""

    def __init__(self, config: ViewsConfig) -> None:
        self.config, self.precision = config, config.precision or "float16"

    def ragged(self) -> tuple[str, ...]:
        """None."""
        return ()

    def facts(self) -> dict[str, Any]:
        """How many, how large."""
        return {"views": self.config.count, "view_size": self.config.size}

    def compute(self, subject: Subject) -> Mapping[str, np.ndarray]:
        """See `Feature`."""
        from maquette_data3d.rendering.views import orbit, render_views

        config = self.config
        fov = (float(config.fov[0]), float(config.fov[-1]))
        elevation = (float(config.elevation[0]), float(config.elevation[1]))
        rng = subject.rng("views")
        cameras = orbit(config.count, rng, fov=fov, scheme=config.scheme, elevation=elevation, fit=config.fit)
        views = render_views(subject.drawable(), cameras, config.size, lights=config.lights)
        depth = np.where(np.isfinite(views.depth), views.depth, 0.0)
        channels = {
            "rgb": np.moveaxis(views.rgb, -1, 1),
            "depth": stored(depth, self.precision),
            "normal": stored(np.moveaxis(views.normal, -1, 1), self.precision),
            "position": stored(np.moveaxis(views.position, -1, 1), self.precision),
            "albedo": np.moveaxis(views.albedo, -1, 1),
        }
        if "material" in config.channels:
            channels["material"] = np.moveaxis(self._material(subject, views), -1, 1)
        arrays = {f"view_{name}": np.ascontiguousarray(channels[name]) for name in config.channels}
        intrinsics = np.broadcast_to(views.intrinsics, (config.count, 3, 3))
        return {
            **arrays,
            "view_camera": views.cameras.astype(np.float32),
            "view_intrinsics": np.ascontiguousarray(intrinsics, np.float32),
        }

    @staticmethod
    def _material(subject: Subject, views: RenderedViews) -> np.ndarray:
        """Metallic and roughness uint8 [V, S, S, 2] of what is seen: a drawing of vertex colours alone has none."""
        seen = views.face >= 0
        material = np.zeros((*seen.shape, 2), np.uint8)
        material[seen] = np.round(subject.materials(views.position[seen].astype(np.float64)) * 255)
        return material
