"""A thin Lightning strategy: it tells the Trainer who this process is, and leaves the model to the engine."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor

from maquette.parallel.mesh import Mesh


class EngineStrategy(SingleDeviceStrategy):
    """The Trainer's view of a mesh.

    Parts of the model are sharded and on their device already, so nothing is moved, wrapped, saved or torn down here.
    Processes come from a launcher, never from Lightning.
    """

    def __init__(self, mesh: Mesh) -> None:
        super().__init__(mesh.device)
        self.mesh = mesh
        self.global_rank, self.world_size = mesh.rank, mesh.world

    @property
    def is_global_zero(self) -> bool:
        """Whether this process writes logs."""
        return self.mesh.rank == 0

    def model_to_device(self) -> None:
        """It is there."""

    def reduce(self, tensor: Any, group: Any = None, reduce_op: Any = "mean") -> Any:  # type: ignore[override]
        """The mean (or sum) of a tensor over all processes; context, tensor and pipeline peers hold the same value."""
        if not isinstance(tensor, Tensor) or self.mesh.world == 1:
            return tensor
        total = self.mesh.sum(tensor.detach().clone())
        return total if str(reduce_op).lower().endswith("sum") else total / self.mesh.world

    def all_gather(self, tensor: Tensor, group: Any = None, sync_grads: bool = False) -> Tensor:
        """Everybody's tensor, stacked in the order of ranks."""
        return torch.stack(self.mesh.gather(tensor)) if self.mesh.world > 1 else tensor

    def barrier(self, name: str | None = None) -> None:
        """Wait for the others."""
        self.mesh.barrier()

    def broadcast(self, obj: Any, src: int = 0) -> Any:
        """Rank 0's value."""
        return self.mesh.share(obj)

    def teardown(self) -> None:
        """The engine keeps its parts; Lightning would move sharded modules to the CPU here."""
