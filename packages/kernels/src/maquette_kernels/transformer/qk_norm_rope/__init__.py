"""RMSNorm of queries and keys followed by rotary embedding of 3D positions, in one operation."""

from __future__ import annotations

from maquette_kernels.transformer.qk_norm_rope.operation import QK_NORM_ROPE, build

__all__ = ["QK_NORM_ROPE", "build"]
