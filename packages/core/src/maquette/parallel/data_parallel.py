"""Data parallelism: every process holds the whole model and sees its share of each batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor

from maquette.parallel.layout import Layout
from maquette.parallel.mesh import Mesh
from maquette.parallel.strategy import Strategy
from maquette.precision import Precision


@dataclass
class DataParallelConfig:
    """How gradients travel."""

    bucket_mb: float = 25.0
    """Gradients are summed in flat buckets of about this size."""
    overlap: bool = True
    """Sum a bucket while the backward pass still computes the next one."""


@dataclass
class Bucket:
    """Parameters whose gradients travel together."""

    parameters: list[nn.Parameter]
    missing: int = 0
    flat: Tensor | None = None
    work: Any = None


@dataclass
class _Reducer:
    """The buckets of one model part. They are sent in a fixed order, so that all processes agree on it."""

    group: distributed.ProcessGroup
    buckets: list[Bucket]
    sent: int = 0
    armed: bool = False
    owner: dict[int, Bucket] = field(default_factory=dict)

    def arm(self, last: bool) -> None:
        """Before a backward pass: only the last of an accumulation sends."""
        self.armed, self.sent = last, 0
        for bucket in self.buckets:
            bucket.missing, bucket.flat, bucket.work = len(bucket.parameters), None, None

    def ready(self, parameter: Tensor) -> None:
        """A parameter's gradient is complete."""
        if self.armed:
            self.owner[id(parameter)].missing -= 1
            while self.sent < len(self.buckets) and not self.buckets[self.sent].missing:
                self.send()

    def send(self) -> None:
        """Start the sum of the next bucket."""
        bucket = self.buckets[self.sent]
        bucket.flat = torch.cat([_local_gradient(p).reshape(-1) for p in bucket.parameters])
        bucket.work = distributed.all_reduce(bucket.flat, group=self.group, async_op=True)
        self.sent += 1

    def finish(self) -> None:
        """Send what is left, wait, and write the sums back."""
        while self.sent < len(self.buckets):
            self.send()
        for bucket in self.buckets:
            bucket.work.wait()
            gradients = [_local_gradient(p) for p in bucket.parameters]
            assert bucket.flat is not None
            parts = torch.split(bucket.flat, [gradient.numel() for gradient in gradients])
            torch._foreach_copy_(gradients, [part.view_as(g) for part, g in zip(parts, gradients, strict=True)])
            bucket.flat = bucket.work = None
        self.armed, self.sent = False, 0


class DataParallel(Strategy):
    """Strategy ``ddp``: gradients are summed over the copies once an optimizer step, overlapping the backward pass.

    Accumulation costs no extra collectives. A parameter without a gradient counts as zero.
    """

    axis = "data"

    def __init__(self, config: DataParallelConfig | None = None) -> None:
        self.config = config or DataParallelConfig()
        self.reducers: dict[int, list[_Reducer]] = {}

    def refuses(self, layout: Layout, model: nn.Module | None, precision: Precision) -> str | None:
        """Sharded axes need a strategy that shards."""
        if layout.shard > 1:
            return f"'ddp' keeps whole copies, but parallel.shard={layout.shard}; use strategy.name=fsdp (or hsdp)"
        return None

    def apply(self, model: nn.Module, mesh: Mesh, precision: Precision) -> None:
        """Sort the parameters into buckets and watch their gradients."""
        sums: dict[tuple[str, ...], list[nn.Parameter]] = {}
        for parameter in model.parameters():
            if parameter.requires_grad:
                axes = ("data", "context") if _is_expert(parameter) else ("data", "context", "expert")
                if mesh.size(*axes) > 1:
                    sums.setdefault(axes, []).append(parameter)
        self.reducers[id(model)] = []
        for axes in (("data", "context"), ("data", "context", "expert")):  # groups are made by all ranks in one order
            group = mesh.group(*axes)
            if group is not None and axes in sums:
                self.reducers[id(model)].append(self._reducer(group, sums[axes], mesh.layout.pipeline == 1))

    def _reducer(self, group: distributed.ProcessGroup, parameters: Sequence[nn.Parameter], overlap: bool) -> _Reducer:
        # Gradients come from the last layer first.
        reducer = _Reducer(group, make_buckets(list(reversed(parameters)), self.config.bucket_mb))
        reducer.owner = {id(p): bucket for bucket in reducer.buckets for p in bucket.parameters}
        if overlap and self.config.overlap:
            for parameter in parameters:
                parameter.register_post_accumulate_grad_hook(reducer.ready)  # type: ignore[no-untyped-call]
        return reducer

    def before_backward(self, model: nn.Module, last: bool) -> None:
        """Let the hooks send in the last micro-batch."""
        for reducer in self.reducers.get(id(model), []):
            reducer.arm(last)

    def reduce_gradients(self, model: nn.Module, mesh: Mesh) -> None:
        """Wait for the sums."""
        for reducer in self.reducers.get(id(model), []):
            reducer.finish()


def make_buckets(parameters: Sequence[nn.Parameter], megabytes: float) -> list[Bucket]:
    """Runs of parameters of one dtype, each of at most about ``megabytes``."""
    buckets: list[Bucket] = []
    size = 0.0
    for parameter in parameters:
        if not buckets or size > megabytes * 2**20 or parameter.dtype != buckets[-1].parameters[0].dtype:
            buckets.append(Bucket([]))
            size = 0.0
        buckets[-1].parameters.append(parameter)
        size += parameter.nbytes
    return buckets


def _is_expert(parameter: nn.Parameter) -> bool:
    return isinstance(parameter, DTensor) and "expert" in (parameter.device_mesh.mesh_dim_names or ())


def _local_gradient(parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad.to_local() if isinstance(parameter.grad, DTensor) else parameter.grad
