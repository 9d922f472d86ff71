"""``inside_mesh`` on a GPU: the exact winding numbers of ``winding_number``'s kernel, where the box has points."""

from __future__ import annotations

from torch import Tensor

from maquette_kernels.distance.inside_mesh.reference import within_box
from maquette_kernels.distance.winding_number import triton_kernels
from maquette_kernels.triton_support import Compilation


def forward(points: Tensor, vertices: Tensor, faces: Tensor) -> Tensor:
    """One truth a point."""
    inside = triton_kernels.forward(points, vertices, faces, 0.0) > 0.5
    return inside & within_box(points, vertices, faces)


def compilations() -> list[Compilation]:
    """The kernel of ``winding_number``."""
    return triton_kernels.compilations()
