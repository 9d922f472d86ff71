"""What maquette-kernels registers. Hook implementations and nothing else; listing names imports no torch."""

from __future__ import annotations

from typing import Any

from maquette import hookimpl

OPERATIONS = {
    "qk_norm_rope": "transformer.qk_norm_rope:build",
    "gated_norm_modulate": "transformer.gated_norm_modulate:build",
    "gated_norm_modulate_quantise": "transformer.gated_norm_modulate_quantise:build",
    "quantise_rowwise": "transformer.quantise_rowwise:build",
    "ragged_attention": "transformer.ragged_attention:build",
    "neighbour_map": "sparse.neighbour_map:build",
    "sparse_conv3d": "sparse.sparse_conv3d:build",
    "coarsen": "sparse.coarsen:build",
    "morton_encode": "curves.morton:build_encode",
    "morton_decode": "curves.morton:build_decode",
    "hilbert_encode": "curves.hilbert:build_encode",
    "hilbert_decode": "curves.hilbert:build_decode",
    "sample_sparse_trilinear": "sampling.sample_sparse_trilinear:build",
    "sample_triplane": "sampling.sample_triplane:build",
    "marching_cubes": "surface.marching_cubes:build",
    "sparse_marching_cubes": "surface.sparse_marching_cubes:build",
    "dual_grid_encode": "dual_grid.dual_grid_encode:build",
    "dual_grid_decode": "dual_grid.dual_grid_decode:build",
    "rasterise": "raster.rasterise:build",
    "interpolate": "raster.interpolate:build",
    "antialias": "raster.antialias:build",
    "closest_on_mesh": "distance.closest_on_mesh:build",
    "winding_number": "distance.winding_number:build",
    "inside_mesh": "distance.inside_mesh:build",
    "nearest_neighbours": "points.nearest_neighbours:build",
    "farthest_points": "points.farthest_points:build",
}
"""Operations by name: where in this package each is built. They have no settings."""


@hookimpl
def register_kernels(register: Any) -> None:
    """The operations that come with maquette."""
    for name, build in OPERATIONS.items():
        register(name, "maquette_kernels.operation:NoSettings", f"maquette_kernels.{build}")


@hookimpl
def register_commands(register: Any) -> None:
    """``maquette kernels``."""
    register(
        "kernels",
        "List operations, explain which implementation runs, and time them",
        "maquette_kernels.commands:kernels",
    )
