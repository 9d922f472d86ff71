"""Features on sparse voxels, as a plain dataclass."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from maquette.errors import MaquetteError
from maquette_kernels.sparse.functions import Size, kernel_map, neighbour_map
from maquette_kernels.sparse.keys import as_three, check_coords
from maquette_kernels.sparse.maps import Coarsening, KernelMap, strided_coords


@dataclass(frozen=True, eq=False)
class SparseTensor:
    """Features [N, C] on voxels int32 [N, 4] (batch, x, y, z), each voxel of a batch element at most once.

    Use torch on ``features`` and put the result back with :meth:`replace`; kernel maps that were made for these
    voxels are remembered and shared by all tensors on them.

    Attributes:
        features: [N, C].
        coords: int32 [N, 4]; coordinates in -32768..32767, in units of ``stride`` voxels of the finest grid.
        batch_size: number of batch elements; some may have no voxels.
        stride: edge of these voxels, in voxels of the finest grid.
        maps: what is known about these voxels, by what it is for.
    """

    features: Tensor
    coords: Tensor
    batch_size: int
    stride: int = 1
    maps: dict[Any, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        features, coords = tuple(self.features.shape), tuple(self.coords.shape)
        if len(features) != 2 or coords != (features[0], 4):
            raise MaquetteError(f"sparse tensor: features [N, C] and coords [N, 4] do not fit: {features}, {coords}")
        if self.coords.dtype != torch.int32:
            raise MaquetteError(f"sparse tensor: coords are {self.coords.dtype}; give int32 (batch, x, y, z)")

    @classmethod
    def of(
        cls, features: Tensor, coords: Tensor, batch_size: int | None = None, *, check: bool = False
    ) -> SparseTensor:
        """A sparse tensor of the finest voxels.

        Args:
            features: [N, C].
            coords: int32 [N, 4].
            batch_size: number of batch elements; by default the largest batch index and one, which waits for a
                GPU.
            check: whether to look at every coordinate, which waits for a GPU too.

        Raises:
            MaquetteError: shapes or dtypes do not fit; with ``check``, coordinates beyond 16 bits or repeated.
        """
        if batch_size is None:
            batch_size = int(coords[:, 0].max()) + 1 if len(coords) else 0
        made = cls(features, coords, batch_size)
        if check:
            check_coords(coords)
        return made

    @property
    def offsets(self) -> Tensor:
        """Where each batch element begins, int64 [B + 1], for voxels that are sorted by batch index."""
        bounds = torch.arange(self.batch_size + 1, dtype=torch.int32, device=self.coords.device)
        return torch.searchsorted(self.coords[:, 0].contiguous(), bounds)

    def replace(self, features: Tensor) -> SparseTensor:
        """Other features on the same voxels, sharing their maps."""
        return dataclasses.replace(self, features=features)

    def kernel_map(self, kernel_size: Size = 3, *, dilation: int = 1) -> KernelMap:
        """The map of a submanifold convolution, remembered."""
        sizes = as_three(kernel_size, "kernel_size")

        def make() -> KernelMap:
            found = neighbour_map(self.coords, sizes, dilation=dilation)
            return KernelMap(found, len(self.coords), mirrored=all(size % 2 for size in sizes))

        return self._remember(("submanifold", sizes, dilation), make)  # type: ignore[no-any-return]

    def strided_map(self, kernel_size: Size = 2, stride: int = 2) -> tuple[SparseTensor, KernelMap]:
        """Coarser voxels (with no features yet, [M, 0]) and the map from these voxels to them, remembered.

        A coarse voxel is there where one of its ``stride^3`` fine voxels is.
        """
        sizes = as_three(kernel_size, "kernel_size")

        def make() -> tuple[SparseTensor, KernelMap]:
            target = self._coarse(strided_coords(self.coords, stride), stride)
            found = kernel_map(target.coords, self.coords, sizes, stride=stride)
            return target, KernelMap(found, len(self.coords))

        return self._remember(("strided", sizes, stride), make)  # type: ignore[no-any-return]

    def coarsened(self) -> tuple[SparseTensor, Coarsening]:
        """Voxels of half the resolution (with no features yet, [M, 0]), parents and octants, remembered."""

        def make() -> tuple[SparseTensor, Coarsening]:
            found = Coarsening.of(self.coords)
            return self._coarse(found.coords, 2), found

        return self._remember("coarsened", make)  # type: ignore[no-any-return]

    def dense(self, size: tuple[int, int, int]) -> Tensor:
        """Features on a dense grid [B, C, X, Y, Z] from the origin, 0 elsewhere; coordinates must lie inside."""
        grid = self.features.new_zeros(self.batch_size, *size, self.features.shape[1])
        return grid.index_put(tuple(self.coords.long().unbind(1)), self.features).permute(0, 4, 1, 2, 3)

    def _coarse(self, coords: Tensor, stride: int) -> SparseTensor:
        return SparseTensor(self.features.new_empty(len(coords), 0), coords, self.batch_size, self.stride * stride)

    def _remember(self, key: Any, make: Any) -> Any:
        if key not in self.maps:
            self.maps[key] = make()
        return self.maps[key]
