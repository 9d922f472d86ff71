"""A mesh that is asked many times."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from maquette_kernels.distance.closest_on_mesh import CLOSEST_ON_MESH
from maquette_kernels.distance.inside_mesh import INSIDE_MESH
from maquette_kernels.distance.winding_number import WINDING_NUMBER

if TYPE_CHECKING:
    from maquette_kernels.distance.recent_trees import FoundTree


class MeshQuery:
    """A mesh that is asked many times, on the CPU by a tree that is built once.

    Answers are those of the functions of the same names, without gradients. Those functions remember the trees of
    the last two meshes; this one stays as long as the object. On other devices nothing is kept.

    Args:
        vertices: [V, 3], float32 or float64; copied.
        faces: int32 or int64 [F, 3]; copied.

    Raises:
        MaquetteError: shapes or dtypes that do not fit.
    """

    def __init__(self, vertices: Tensor, faces: Tensor) -> None:
        self.vertices, self.faces = vertices.detach().clone(), faces.clone()
        # Raises where shapes or dtypes do not fit.
        CLOSEST_ON_MESH.resolve((self.vertices[:0], self.vertices, self.faces), False)
        self._tree: FoundTree | None = None
        if vertices.device.type == "cpu":
            from maquette_kernels.distance.recent_trees import tree_of

            self._tree = tree_of(self.vertices, self.faces)

    def closest(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Distance [P], face int32 [P] and barycentric weights [P, 3] of the points' nearest points."""
        if self._tree is None:
            with torch.no_grad():
                return CLOSEST_ON_MESH(points, self.vertices, self.faces)  # type: ignore[no-any-return]
        from maquette_kernels.distance.closest_on_mesh import cpu

        return cpu.ask(self._tree, points)[:3]

    def winding_number(self, points: Tensor, *, accuracy: float = 2.0) -> Tensor:
        """How often the mesh goes round each point, [P]."""
        if self._tree is None:
            return WINDING_NUMBER(points, self.vertices, self.faces, accuracy)  # type: ignore[no-any-return]
        from maquette_kernels.distance.winding_number import cpu

        return cpu.ask(self._tree, points, accuracy)

    def inside(self, points: Tensor) -> Tensor:
        """Whether points are inside, bool [P]."""
        if self._tree is None:
            return INSIDE_MESH(points, self.vertices, self.faces)  # type: ignore[no-any-return]
        from maquette_kernels.distance.inside_mesh import cpu

        return cpu.ask(self._tree, points)

    def signed_distance(self, points: Tensor) -> Tensor:
        """Distance [P], negative inside."""
        distance = self.closest(points)[0]
        return torch.where(self.inside(points), -distance, distance)

    def around(self, centres: Tensor, away: Tensor, reach: float, offsets: Tensor) -> Tensor:
        """Distances [N, C] of the points centres + offsets.

        Args:
            centres: [N, 3]; away: their distances [N].
            reach: length of the longest offset, or more.
            offsets: [C, 3].
        """
        if self._tree is None or self._tree.tree is None:
            places = (centres[:, None] + offsets).flatten(0, 1)
            return self.closest(places)[0].unflatten(0, (len(centres), len(offsets)))
        arrays = (centres.double().numpy(), away.double().numpy(), reach, offsets.double().numpy())
        return torch.from_numpy(self._tree.tree.block_distances(*arrays)).to(centres.dtype)
