"""The operations that come with maquette, as plain functions; each says more in its family's ``functions``.

Each runs its best implementation for the call, works under ``torch.compile`` (also ``fullgraph=True``) and under
autocast, and repeats bit for bit. What holds real numbers is differentiable once, except quantisation; what holds
decisions (codes, indices, maps) is not. Register and call others through :mod:`maquette_kernels.registry`.
"""

from __future__ import annotations

from maquette_kernels.curves.functions import (
    curve_order,
    hilbert_decode,
    hilbert_encode,
    morton_decode,
    morton_encode,
)
from maquette_kernels.distance.functions import (
    MeshQuery,
    closest_on_mesh,
    inside_mesh,
    sdf_grid,
    signed_distance,
    unsigned_distance,
    winding_number,
)
from maquette_kernels.dual_grid.functions import dual_grid_decode, dual_grid_encode
from maquette_kernels.points.functions import chamfer_distance, f_score, farthest_points, nearest_neighbours
from maquette_kernels.raster.functions import antialias, edge_opposites, interpolate, rasterise, rasterise_uv
from maquette_kernels.sampling.functions import sample_sparse_trilinear, sample_triplane
from maquette_kernels.sparse.functions import (
    channel_to_space,
    coarsen,
    kernel_map,
    max_pool,
    mean_pool,
    neighbour_map,
    space_to_channel,
    sparse_conv3d,
    upsample_nearest,
)
from maquette_kernels.sparse.map_order import invert_map, mask_order
from maquette_kernels.surface.functions import (
    OctreeOptions,
    edge_weights,
    interpolate_on_edges,
    marching_cubes,
    marching_cubes_with_edges,
    octree_decode,
    sparse_marching_cubes,
)
from maquette_kernels.transformer.functions import (
    fp8_modulated_linear,
    gated_norm_modulate,
    gated_norm_modulate_quantise,
    qk_norm_rope,
    quantise_rowwise,
    ragged_attention,
    window_offsets,
    windowed_attention,
)

__all__ = [
    "MeshQuery",
    "OctreeOptions",
    "antialias",
    "chamfer_distance",
    "channel_to_space",
    "closest_on_mesh",
    "coarsen",
    "curve_order",
    "dual_grid_decode",
    "dual_grid_encode",
    "edge_opposites",
    "edge_weights",
    "f_score",
    "farthest_points",
    "fp8_modulated_linear",
    "gated_norm_modulate",
    "gated_norm_modulate_quantise",
    "hilbert_decode",
    "hilbert_encode",
    "inside_mesh",
    "interpolate",
    "interpolate_on_edges",
    "invert_map",
    "kernel_map",
    "marching_cubes",
    "marching_cubes_with_edges",
    "mask_order",
    "max_pool",
    "mean_pool",
    "morton_decode",
    "morton_encode",
    "nearest_neighbours",
    "neighbour_map",
    "octree_decode",
    "qk_norm_rope",
    "quantise_rowwise",
    "ragged_attention",
    "rasterise",
    "rasterise_uv",
    "sample_sparse_trilinear",
    "sample_triplane",
    "sdf_grid",
    "signed_distance",
    "space_to_channel",
    "sparse_conv3d",
    "sparse_marching_cubes",
    "unsigned_distance",
    "upsample_nearest",
    "winding_number",
    "window_offsets",
    "windowed_attention",
]
