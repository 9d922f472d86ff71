"""Steps that make an asset ready to be used: repair, decimate, unwrap, bake, ..., each a plugin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from maquette import plugins
from maquette.errors import MaquetteError
from maquette.types import Asset

Step = str | Mapping[str, Any]
"""A finisher's name, or its block: ``{"name": "decimate", "faces": 5000}``."""


def finish(asset: Asset, steps: Sequence[Step]) -> Asset:
    """The asset after the steps, in their order. No step can hand on an empty mesh.

    A finisher with ``use_source(asset)`` is given the asset as it was before the first step: `bake` reads it.

    Raises:
        MaquetteError: no such step, one of its keys is wrong, or it could not do its work; says which step.
    """
    original = asset
    blocks = [{"name": step} if isinstance(step, str) else dict(step) for step in steps]
    finishers = [plugins.build("finishers", block) for block in blocks]  # all of them, before any work is done
    for block, finisher in zip(blocks, finishers, strict=True):
        name = block["name"]
        if hasattr(finisher, "use_source"):
            finisher.use_source(original)
        try:
            asset = finisher(asset)
        except MaquetteError as error:
            raise MaquetteError(f"finishing step '{name}': {error}") from error
        if not len(asset.mesh.faces):
            raise MaquetteError(f"finishing step '{name}' left no faces")
    return asset
