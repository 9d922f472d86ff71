"""The sizes of the mesh's axes: what a run asks for, checked against how many processes there are. No torch here."""

from __future__ import annotations

import math
from dataclasses import dataclass

from maquette.config import ParallelConfig
from maquette.errors import MaquetteError

AXES = ("pipeline", "data", "shard", "context", "expert", "tensor")
"""Outermost first: neighbouring ranks share the axes that talk the most.

``expert`` lies inside ``shard`` and ``context``, because FSDP2 wants the axis of another sharding inside its own."""

SAMPLES = ("data", "shard", "expert")
"""The axes along which processes see different samples."""


@dataclass(frozen=True)
class Layout:
    """How many processes there are along each axis."""

    pipeline: int = 1
    data: int = 1
    shard: int = 1
    context: int = 1
    expert: int = 1
    tensor: int = 1

    def size(self, *axes: str) -> int:
        """The product of some axes' sizes."""
        return math.prod(getattr(self, axis) for axis in axes)

    @property
    def world(self) -> int:
        """All processes."""
        return self.size(*AXES)

    @property
    def data_world(self) -> int:
        """Into how many shares a batch is cut."""
        return self.size(*SAMPLES)

    def __str__(self) -> str:
        """The axes that are shared, e.g. ``shard 4 x tensor 2``."""
        return " x ".join(f"{axis} {size}" for axis in AXES if (size := getattr(self, axis)) > 1) or "one process"


def resolve(config: ParallelConfig, own_axis: str, world: int) -> Layout:
    """The layout of a run on ``world`` processes; those that ``config`` leaves over go to the strategy's own axis.

    Raises:
        MaquetteError: the sizes do not multiply to the number of processes; says which would.
    """
    sizes = {axis: int(getattr(config, axis)) for axis in AXES}
    claimed = math.prod(size or 1 for size in sizes.values())
    asked = ", ".join(f"{axis}={size}" for axis, size in sizes.items() if size > 1) or f"{own_axis}=1"
    running = f"but {world} {'is' if world == 1 else 'are'} running"
    divisors = ", ".join(str(size) for size in range(1, world + 1) if world % size == 0)
    if sizes[own_axis] == 0 or (sizes[own_axis] == 1 and own_axis not in ("data", "shard")):
        if world % claimed:
            counts = ", ".join(str(claimed * factor) for factor in range(1, 5))
            raise MaquetteError(
                f"parallel: {asked} needs a multiple of {claimed} processes, {running}; launch {counts} "
                f"(maquette launch --nproc {claimed} ...), or choose sizes whose product divides {world}: {divisors}"
            )
        sizes[own_axis] = world // claimed
    layout = Layout(**{axis: size or 1 for axis, size in sizes.items()})
    if layout.world != world:
        raise MaquetteError(
            f"parallel: {asked} makes {layout.world} processes, {running}; launch {layout.world}, or choose sizes "
            f"whose product is {world}, out of {divisors} (parallel.{own_axis}=0 takes what is left over)"
        )
    return layout
