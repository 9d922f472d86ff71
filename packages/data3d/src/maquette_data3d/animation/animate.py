"""The pipeline that gives clips to a mesh with a skeleton; it needs no trained run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from maquette.errors import MaquetteError, unknown_name
from maquette.one_by_one import OneByOne
from maquette.types import Animation, Asset, Mesh, Request
from maquette_data3d.animation.clips import CLIPS, Style
from maquette_data3d.animation.retarget import Retargeted, retarget

_STYLE = tuple(field.name for field in fields(Style))
OPTIONS = ("clip", "fps", "travel", *_STYLE)


@dataclass
class AnimateConfig:
    """What holds where a request's `options` say nothing else.

    `clip` is a name or several with commas between, `fps` frames a second. With `travel` the root goes forward;
    otherwise the ground moves under it. `speed` is that of the clock, `stride` and `lift` scale the ways of the feet,
    `swing` those of arms and trunk.
    """

    clip: str = "walk"
    fps: float = 30.0
    travel: bool = False
    speed: float = 1.0
    stride: float = 1.0
    lift: float = 1.0
    swing: float = 1.0


class Animate(OneByOne):
    """Requests have a `mesh` with a skin; the asset is that mesh with an animation a clip.

    Nothing is drawn at random: a request's seed changes nothing.
    """

    def __init__(self, config: AnimateConfig) -> None:
        self.config = config

    def __call__(self, request: Request) -> Asset:
        """The animated mesh.

        Raises:
            MaquetteError: no mesh, no skin, an unknown clip or option, or a skeleton that lacks what the clip needs.
        """
        if request.mesh is None:
            raise MaquetteError("animating needs a mesh with a skeleton")
        settings = self._settings(request.options)
        names = [name.strip() for name in str(settings["clip"]).split(",") if name.strip()]
        if not names:
            raise MaquetteError(f"name a clip: {', '.join(CLIPS)}")
        style = Style(**{key: _number(settings, key) for key in _STYLE})
        travels, fps = bool(settings["travel"]), _number(settings, "fps")
        made = [retarget(request.mesh, name, fps=fps, style=style, travels=travels) for name in names]
        told = {clip.animation.name: _told(clip, travels) for clip in made}
        return Asset(request.mesh, {"animations": told}, tuple(clip.animation for clip in made))

    def clips(self) -> dict[str, str]:
        """What there is, by name, in words."""
        return {name: clip.words for name, clip in CLIPS.items()}

    def sheet(self, mesh: Mesh, animation: Animation, frames: int = 8, size: int = 192) -> np.ndarray:
        """Pictures of a clip's frames side by side, uint8 [size, frames * size, 3]."""
        from maquette_data3d.animation.animation_sheet import animation_sheet

        return animation_sheet(mesh, animation, frames, size)

    def _settings(self, options: Mapping[str, Any]) -> dict[str, Any]:
        for key in options:
            if key not in OPTIONS:
                raise unknown_name("option", str(key), OPTIONS, where="of an animation")
        return {key: options.get(key, getattr(self.config, key)) for key in OPTIONS}


def _told(clip: Retargeted, travels: bool) -> dict[str, Any]:
    """What a player that moves the thing itself must know: how far a cycle goes, in the mesh's units."""
    return {
        "seconds": clip.seconds,
        "frames": len(clip.animation.times),
        "travel": clip.travel,
        "in_place": not travels,
        "stride": clip.stride,
        "legs": len(clip.body.legs),
        "arms": len(clip.body.arms),
    }


def _number(settings: Mapping[str, Any], key: str) -> float:
    try:
        return float(settings[key])
    except (TypeError, ValueError):
        raise MaquetteError(f"option '{key}' of an animation is {settings[key]!r}; it must be a number") from None
