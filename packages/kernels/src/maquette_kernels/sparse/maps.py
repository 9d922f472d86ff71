"""Kernel maps with all that follows from them, each made once, when first asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from maquette_kernels.sparse.functions import coarsen, sparse_conv3d
from maquette_kernels.sparse.keys import pack, unpack
from maquette_kernels.sparse.map_order import invert_map, mask_order


@dataclass(frozen=True, eq=False)
class KernelMap:
    """Which of ``inputs`` rows each output reads through each tap.

    Attributes:
        neighbours: int32 [M, V], -1 where a tap has no neighbour.
        inputs: number of inputs N.
        mirrored: whether input and output voxels are the same and taps come in opposite pairs, v and V - 1 - v,
            as in submanifold convolutions with odd kernels: the map back is then the same with its taps turned
            round.
    """

    neighbours: Tensor
    inputs: int
    mirrored: bool = False
    made: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def reverse(self) -> Tensor:
        """The map back, int32 [N, V]."""
        if self.mirrored:
            return self._once("reverse", lambda: self.neighbours.flip(1))  # type: ignore[no-any-return]
        return self._once("reverse", lambda: invert_map(self.neighbours, self.inputs))  # type: ignore[no-any-return]

    @property
    def order(self) -> Tensor | None:
        """Outputs in mask order for Triton's tiles; None on a CPU, which does without."""
        if self.neighbours.device.type == "cpu":
            return None
        return self._once("order", lambda: mask_order(self.neighbours))  # type: ignore[no-any-return]

    @property
    def reverse_order(self) -> Tensor | None:
        """The same for the map back. Turning a map's taps round keeps together what was together."""
        if self.mirrored or self.neighbours.device.type == "cpu":
            return self.order
        return self._once("reverse_order", lambda: mask_order(self.reverse))  # type: ignore[no-any-return]

    @property
    def inverse(self) -> KernelMap:
        """The map with inputs and outputs exchanged, as transposed convolutions use it."""
        return self._once("inverse", lambda: KernelMap(self.reverse, len(self.neighbours)))  # type: ignore[no-any-return]

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self.made:  # not a cached property, at whose lock torch.compile stops
            self.made[name] = make()
        return self.made[name]

    def convolve(self, features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """:func:`maquette_kernels.ops.sparse_conv3d` over this map."""
        back = self.reverse if torch.is_grad_enabled() else None
        last = None if back is None else self.reverse_order
        return sparse_conv3d(features, weight, bias, self.neighbours, back, order=self.order, reverse_order=last)


@dataclass(frozen=True, eq=False)
class Coarsening:
    """What :func:`maquette_kernels.ops.coarsen` gives: voxels of half the resolution, parents and octants."""

    coords: Tensor
    parent: Tensor
    octant: Tensor

    @classmethod
    def of(cls, coords: Tensor) -> Coarsening:
        """Of int32 [N, 4]."""
        return cls(*coarsen(coords))


def strided_coords(coords: Tensor, stride: int) -> Tensor:
    """Unique ``coords // stride`` (rounding down), sorted by batch, x, y, z: int32 [M, 4]."""
    if stride == 1:
        return coords
    divided = torch.div(coords[:, 1:], stride, rounding_mode="floor")
    return unpack(torch.unique(pack(torch.cat([coords[:, :1], divided], 1))))
