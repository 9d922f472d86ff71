"""What each step did, kept in the asset's metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from maquette.types import Asset, Mesh


def recorded(
    asset: Asset, mesh: Mesh, step: str, did: Mapping[str, Any] | None = None, warnings: Sequence[str] = ()
) -> Asset:
    """The asset with another mesh and a line more in ``metadata["finishing"]``.

    Args:
        did: plain data that JSON can hold.
        warnings: what the user should know, a sentence each.
    """
    entry: dict[str, Any] = {"step": step, **(did or {})}
    if warnings:
        entry["warnings"] = list(warnings)
    history = [*asset.metadata.get("finishing", ()), entry]
    return replace(asset, mesh=mesh, metadata={**asset.metadata, "finishing": history})
