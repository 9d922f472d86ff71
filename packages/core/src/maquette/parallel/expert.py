"""Expert parallelism: each process holds some of the experts, and tokens travel to theirs and back.

Lepikhin et al., "GShard", 2021; without capacities, so that no token is dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, distributed, nn
from torch.distributed._functional_collectives import AsyncCollectiveTensor, all_to_all_single_autograd
from torch.distributed.tensor import DTensor, Shard

from maquette.parallel.layout import Layout
from maquette.parallel.mesh import Mesh
from maquette.parallel.strategy import Strategy
from maquette.precision import Precision


@dataclass
class ExpertParallelConfig:
    """Nothing to configure."""


class ExpertParallel(Strategy):
    """Strategy ``ep``: every expert lives on one of the axis's processes, which see different samples.

    A model's ``expert_layers()`` are modules whose parameters have one entry an expert along their first axis, with
    ``layer(rows, experts)``: rows [R, W] and whose they are, int64 [R], to [R, W]; and with ``layer.compute(rows,
    counts, *parameters)``: the same for rows sorted by expert, ``counts`` int64 [experts] of them each. An expert's
    gradient is complete where it lives.
    """

    axis = "expert"

    def __init__(self, config: ExpertParallelConfig | None = None) -> None:
        self.config = config or ExpertParallelConfig()

    def refuses(self, layout: Layout, model: nn.Module | None, precision: Precision) -> str | None:
        """Needs experts, as many for each process; does not go with tensor parallelism, pipelines and compiling."""
        size = layout.expert
        if size == 1:
            return None
        for axis in ("tensor", "pipeline"):
            if layout.size(axis) > 1:
                return (
                    f"experts cannot be spread with parallel.{axis}={layout.size(axis)}; use shard or data beside them"
                )
        if precision.compile:
            return (
                "how many tokens travel is known at run time alone, which compiling cannot trace; train.compile=false"
            )
        return None if model is None else _unequal(model, size)

    def apply(self, model: nn.Module, mesh: Mesh, precision: Precision) -> None:
        """Keep this process's experts, and put the exchange of tokens around them."""
        group = mesh.group("expert")
        if group is None or not hasattr(model, "expert_layers"):
            return
        for layer in model.expert_layers():  # type: ignore[operator]
            for name, parameter in list(layer.named_parameters(recurse=False)):
                own = parameter.detach().chunk(group.size(), dim=0)[group.rank()].contiguous()
                spread = DTensor.from_local(own, mesh.expert_mesh("expert"), [Shard(0)], run_check=False)
                setattr(layer, name, nn.Parameter(spread, requires_grad=parameter.requires_grad))
            layer.forward = partial(compute_elsewhere, layer, group)


def _unequal(model: nn.Module, size: int) -> str | None:
    """Why a model's experts cannot be shared out evenly, or None."""
    layers = model.expert_layers() if hasattr(model, "expert_layers") else []  # type: ignore[operator]
    if not layers:
        return f"{type(model).__name__} has no experts, but parallel.expert={size}"
    for count in {next(layer.parameters()).shape[0] for layer in layers}:
        if count % size:
            fits = ", ".join(str(divisor) for divisor in range(1, count + 1) if count % divisor == 0)
            return f"{count} experts cannot be shared by {size} processes; parallel.expert can be {fits}"
    return None


def compute_elsewhere(layer: nn.Module, group: distributed.ProcessGroup, rows: Tensor, experts: Tensor) -> Tensor:
    """``layer(rows, experts)`` where the parameters are shared out over a group: [R, W] -> [R, W], differentiable.

    Experts are numbered in the order of ranks, so rows that are sorted by expert are sorted by destination. What a
    process receives lies by source, and is sorted by expert once more.
    """
    weights = [p.to_local() if isinstance(p, DTensor) else p for p in layer.parameters()]
    own = len(weights[0])
    order = experts.argsort(stable=True)
    sent = experts.new_zeros(group.size() * own).scatter_add_(0, experts, torch.ones_like(experts)).view(-1, own)
    received = torch.empty_like(sent)
    distributed.all_to_all_single(received, sent, group=group)
    away, here = sent.sum(dim=1).tolist(), received.sum(dim=1).tolist()
    arrived = exchange(rows[order], here, away, group)
    whose = torch.arange(own, device=rows.device).repeat(group.size()).repeat_interleave(received.flatten())
    inner = whose.argsort(stable=True)
    computed = layer.compute(arrived[inner], received.sum(dim=0), *weights)  # type: ignore[operator]
    return exchange(computed[inner.argsort()], away, here, group)[order.argsort()]


def exchange(rows: Tensor, here: Sequence[int], away: Sequence[int], group: distributed.ProcessGroup) -> Tensor:
    """Send ``away[i]`` rows to rank i and receive ``here[i]`` from it; gradients go the other way."""
    out = all_to_all_single_autograd(rows.contiguous(), list(here), list(away), group)
    return out.wait() if isinstance(out, AsyncCollectiveTensor) else out
