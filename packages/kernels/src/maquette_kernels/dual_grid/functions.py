"""Flexible dual grids as plain functions: encode a mesh, decode it again."""

from __future__ import annotations

from torch import Tensor

from maquette_kernels.dual_grid.dual_grid_decode import DUAL_GRID_DECODE
from maquette_kernels.dual_grid.dual_grid_encode import DUAL_GRID_ENCODE


def dual_grid_encode(vertices: Tensor, faces: Tensor, resolution: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Encodes a mesh, open or closed, as a flexible dual grid.

    Each crossed edge of the grid stands for a quad between the points of the four voxels around it. No inside is
    needed, so open surfaces stay open and hidden ones stay. A point minimises, over its voxel, squared distances to
    the planes in it (each by its area), to the planes at crossings of edges around it (.1 each), to the lines of
    borders (.2 times their length) and to the mean point (.001 times the area), which keeps sharp edges sharp.

    Of two walls that cross the same grid edge one quad is left: what is thinner than a voxel becomes a sheet, and
    where a closed surface only grazes an edge, crossing it there and back, the quad hangs on it as a flap. The mesh
    is moved by some 1e-6 voxels first, so that faces in planes of the grid are on one side of them. Decisions are
    taken in float64. Nothing here is differentiated; :func:`dual_grid_decode` is.

    Args:
        vertices: float32 or float64 [V, 3], finite, in the unit cube [-.5, .5]^3; what lies outside is left out.
        faces: int32 or int64 [F, 3]; neighbours share vertices, else their common edge is a border.
        resolution: voxels a side, 1 to 2048.

    Returns:
        Of the n voxels that the surface touches, in lexicographic order [x, y, z]: their place int32 [n, 3]; a point
        in each, 0..1 along the voxel, [n, 3] in the dtype of the vertices; whether the surface crosses the edge that
        leaves the voxel's low corner along x, y, z, bool [n, 3]; whether it looks along the axis there (its normal's
        part along it is positive), bool [n, 3].

    Raises:
        MaquetteError: shapes, dtypes or devices that do not fit, the resolution is out of range, or a vertex is not
            finite.

    Source: O-Voxel of TRELLIS.2 (Xiang et al. 2025), on dual contouring (Ju et al. 2002); the triangle-box test of
    Akenine-Moeller (2001).
    """
    return DUAL_GRID_ENCODE(vertices, faces, resolution)  # type: ignore[no-any-return]


def dual_grid_decode(
    voxels: Tensor,
    points: Tensor,
    edges: Tensor,
    signs: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    resolution: int,
    blend: bool = False,
) -> tuple[Tensor, Tensor, Tensor]:
    """The surface of a flexible dual grid: a quad for each crossed edge whose four voxels are there.

    Quads are cut in two triangles, by default along the diagonal over which they bend less. With ``weights`` they are
    cut along the diagonal whose ends' weights have the larger product. With ``blend``, for training, each is cut in
    four about a centre, the mean of the middles of both diagonals by these products (half each without weights), so
    that gradients reach the weights too.

    Args:
        voxels: int32 [N, 3], or [N, 4] with a batch index first (0 to 4095), each once, in any order; coordinates
            -32768 to 32767. The values are not checked, which would stall a GPU.
        points: [N, 3], 0..1 along the voxel, float32, bfloat16, float16 or (not in Triton) float64.
        edges: [N, 3], whether the edge that leaves the voxel's low corner along x, y, z is crossed: bool, or
            logits, crossed where above 0 (they get no gradient here; train them by their own loss).
        signs: [N, 3], whether the surface looks along the axis there, bool or logits; everywhere by default, which
            turns faces alike only where the surface does look along its axis.
        weights: [N], above 0, dtype of the points.
        resolution: voxels along the unit cube.
        blend: four triangles a quad about a centre.

    Returns:
        Vertices [V, 3] in the unit cube about 0, dtype of the points: the points of voxels that a quad uses, in the
        order of the voxels, then with ``blend`` the centres in the order of the quads; faces int32 [F, 3], quads in
        the order of axes, then of voxels; sources int32 [V], the voxel that a vertex comes from, of a centre the one
        whose edge is crossed (so ``voxels[sources, 0]`` is its batch). Gradients go to points and weights.

    Raises:
        MaquetteError: shapes, dtypes or devices that do not fit.

    Source: O-Voxel of TRELLIS.2 (Xiang et al. 2025), dual contouring (Ju et al. 2002), split weights as in
    FlexiCubes (Shen et al. 2023).
    """
    crossed = edges > 0 if edges.is_floating_point() else edges
    along = signs > 0 if signs is not None and signs.is_floating_point() else signs
    return DUAL_GRID_DECODE(voxels, points, crossed, along, weights, resolution, blend)  # type: ignore[no-any-return]
