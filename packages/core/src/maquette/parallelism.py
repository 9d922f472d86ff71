"""How processes share a step. One process needs nothing of it; strategies are subclasses, registered by plugins."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from maquette.errors import MaquetteError


class Parallelism:
    """One process: every operation is the identity. Strategies override what they change.

    ``rank`` and ``world`` count the processes that see different samples.
    """

    rank: int = 0
    world: int = 1

    def start(self) -> None:
        """Join the other processes; called once, before data and model are built."""

    def device(self) -> torch.device:
        """Where this process computes."""
        if torch.cuda.is_available():
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        return torch.device("cpu")

    def parallelize(self, model: nn.Module) -> nn.Module:
        """Transform a freshly built model, e.g. shard it; ``model.blocks()`` are its repeated blocks."""
        return model

    def reduce_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Average the gradients over the processes, once an optimizer step."""

    def average(self, value: Tensor) -> Tensor:
        """A scalar averaged over the processes, for logs."""
        return value

    def any(self, flag: bool) -> bool:
        """True everywhere when true anywhere: how all ranks stop at the same step."""
        return flag

    def barrier(self) -> None:
        """Wait for the others."""

    def stop(self) -> None:
        """Leave the other processes."""


@dataclass
class SingleConfig:
    """One process has nothing to configure."""


class Single(Parallelism):
    """One process."""

    def __init__(self, config: SingleConfig | None = None) -> None:
        self.config = config or SingleConfig()
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise MaquetteError("strategy 'single' runs one process, but WORLD_SIZE is more; use strategy.name=ddp")


@dataclass
class DataParallelConfig:
    """``backend`` of torch.distributed: ``auto`` is nccl on GPUs and gloo elsewhere."""

    backend: str = "auto"
    bucket_mb: float = 25.0
    """Gradients are reduced in flat buckets of about this size."""


class DataParallel(Parallelism):
    """Data parallelism: every process holds the whole model and sees its slice of each batch.

    Launch with ``torchrun --nproc-per-node N -m maquette.cli train ...``. Gradients are averaged once an optimizer
    step, so that accumulation costs no extra collectives.
    """

    def __init__(self, config: DataParallelConfig) -> None:
        self.config = config
        self.rank = int(os.environ.get("RANK", "0"))
        self.world = int(os.environ.get("WORLD_SIZE", "1"))

    def start(self) -> None:
        """Join the process group that the launcher's environment describes."""
        if "RANK" not in os.environ:
            raise MaquetteError(
                "strategy 'ddp' needs a launcher: torchrun --nproc-per-node N -m maquette.cli train ..."
            )
        if not distributed.is_initialized():
            auto = "nccl" if torch.cuda.is_available() else "gloo"
            distributed.init_process_group(auto if self.config.backend == "auto" else self.config.backend)

    def parallelize(self, model: nn.Module) -> nn.Module:
        """Give every process rank 0's weights."""
        for tensor in model.state_dict().values():
            distributed.broadcast(tensor, src=0)
        return model

    def reduce_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """All-reduce in flat buckets; a parameter without a gradient counts as zero, so that all ranks agree."""
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        bucket: list[Tensor] = []
        size = 0.0
        for parameter in parameters:
            assert parameter.grad is not None
            if bucket and (size > self.config.bucket_mb * 2**20 or parameter.grad.dtype != bucket[0].dtype):
                self._reduce_bucket(bucket)
                bucket, size = [], 0.0
            bucket.append(parameter.grad)
            size += parameter.grad.nbytes
        if bucket:
            self._reduce_bucket(bucket)

    def _reduce_bucket(self, gradients: list[Tensor]) -> None:
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients]) / self.world
        distributed.all_reduce(flat)
        parts = torch.split(flat, [gradient.numel() for gradient in gradients])
        torch._foreach_copy_(gradients, [part.view_as(g) for part, g in zip(parts, gradients, strict=True)])

    def average(self, value: Tensor) -> Tensor:
        """A scalar averaged over the processes."""
        value = value.clone()
        distributed.all_reduce(value)
        return value / self.world

    def any(self, flag: bool) -> bool:
        """All-reduce a flag by maximum."""
        value = torch.tensor(float(flag), device=self.device())
        distributed.all_reduce(value, distributed.ReduceOp.MAX)
        return bool(value)

    def barrier(self) -> None:
        """Wait for all processes."""
        distributed.barrier()

    def stop(self) -> None:
        """Leave the process group."""
        if distributed.is_initialized():
            distributed.destroy_process_group()
