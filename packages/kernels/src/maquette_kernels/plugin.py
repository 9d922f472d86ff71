"""What maquette-kernels registers. Hook implementations and nothing else; listing names imports no torch."""

from __future__ import annotations

from typing import Any

from maquette import hookimpl


@hookimpl
def register_kernels(register: Any) -> None:
    """The operations that come with maquette."""
    register(
        "qk_norm_rope",
        "maquette_kernels.transformer.qk_norm_rope:QKNormRopeConfig",
        "maquette_kernels.transformer.qk_norm_rope:build",
    )
    register(
        "gated_norm_modulate",
        "maquette_kernels.transformer.gated_norm_modulate:GatedNormModulateConfig",
        "maquette_kernels.transformer.gated_norm_modulate:build",
    )


@hookimpl
def register_commands(register: Any) -> None:
    """``maquette kernels``."""
    register(
        "kernels",
        "List operations and explain which implementation runs",
        "maquette_kernels.commands:kernels",
    )
