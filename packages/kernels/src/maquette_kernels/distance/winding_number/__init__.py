"""``winding_number``: how often a mesh goes round each point; see ``docs/kernels/winding_number.md``."""

from __future__ import annotations

from maquette_kernels.distance.winding_number.operation import WINDING_NUMBER, build

__all__ = ["WINDING_NUMBER", "build"]
