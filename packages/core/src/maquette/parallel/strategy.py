"""What a parallelism strategy is: it owns one axis of the mesh and transforms a model for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from maquette.config import ParallelConfig
from maquette.parallel.layout import Layout
from maquette.parallel.mesh import Mesh

if TYPE_CHECKING:
    from maquette.precision import Precision

ORDER = ("expert", "tensor", "context", "pipeline", "data", "shard")
"""In which order the axes' strategies transform a model, and in which they reduce its gradients."""


class Strategy:
    """One axis of the mesh: what it does to a model and to its gradients. By default nothing.

    The engine multiplies every process's loss so that the true gradient is the *sum* of all processes' gradients; a
    strategy sums what its axis replicates, and never divides. Models stay single-device code: a strategy works from
    what they declare (``blocks()``, ``tensor_parallel_plan()``, ...; see docs/parallelism.md).
    """

    axis: str = "data"
    """Of ``maquette.parallel.layout.AXES``; processes that ``parallel`` leaves over go there."""

    def claimed(self, config: ParallelConfig) -> ParallelConfig:
        """The sizes with those that the strategy itself would choose where the configuration leaves them open."""
        return config

    def refuses(self, layout: Layout, model: nn.Module | None, precision: Precision) -> str | None:
        """Why this cannot work, or None; asked before anything is built (``model`` None) and before it is applied."""
        return None

    def apply(self, model: nn.Module, mesh: Mesh, precision: Precision) -> None:
        """Transform a model, or the part of one that a pipeline stage holds, in place."""

    def before_backward(self, model: nn.Module, last: bool) -> None:
        """Called before each micro-batch's forward pass; ``last`` of those that one optimizer step accumulates."""

    def reduce_gradients(self, model: nn.Module, mesh: Mesh) -> None:
        """Called once an optimizer step, after its last backward pass."""

    def offloads_parameters(self) -> bool:
        """True where parameters live in the host's memory and come to the device to compute."""
        return False

    def shards_parameters(self) -> bool:
        """True where parameters are FSDP2's: it then casts them for computing, and autocast stays off."""
        return False
