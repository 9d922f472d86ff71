"""ZeRO and FSDP2: a copy's parameters, gradients and optimizer are sharded over processes.

Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models", 2020; the work is done by
torch's ``fully_shard``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import CPUOffloadPolicy, FSDPModule, OffloadPolicy, fully_shard

from maquette.config import ParallelConfig
from maquette.parallel.layout import Layout
from maquette.parallel.mesh import Mesh
from maquette.parallel.strategy import Strategy
from maquette.precision import Precision


@dataclass
class ShardedConfig:
    """Where the shards live."""

    cpu_offload: bool = False
    """Keep parameters, gradients and optimizer in the host's memory."""
    keep_last: bool = True
    """Do not reshard the root's own parameters after the forward pass: the backward pass needs them at once."""


@dataclass(frozen=True)
class _Level:
    """What a level of ZeRO shards, and when."""

    reshard_after_forward: bool
    """Whether parameters are given up between a block's forward and backward pass (level 3)."""
    reduce_each_microbatch: bool
    """Whether gradients are sharded already while they accumulate (level 2)."""


class Sharded(Strategy):
    """FSDP2 over the axes data (copies), shard, context and expert: experts over shard and context alone."""

    axis = "shard"

    def __init__(self, config: ShardedConfig, level: _Level) -> None:
        self.config, self.level = config, level

    def refuses(self, layout: Layout, model: nn.Module | None, precision: Precision) -> str | None:
        """Needs blocks to shard one by one."""
        if model is not None and not hasattr(model, "blocks"):
            return f"{type(model).__name__} declares no blocks() to shard one by one"
        return None

    def apply(self, model: nn.Module, mesh: Mesh, precision: Precision) -> None:
        """``fully_shard`` every block, then the rest."""
        dense = self._options(mesh, mesh.device_mesh, precision)
        declares: Any = model
        experts: list[nn.Module] = declares.expert_layers() if hasattr(model, "expert_layers") else []
        if mesh.size("expert") > 1:
            sparse = self._options(mesh, mesh.expert_mesh, precision)
            for expert in experts:
                fully_shard(expert, reshard_after_forward=self.level.reshard_after_forward, **sparse)
        for block in declares.blocks():
            fully_shard(block, reshard_after_forward=self.level.reshard_after_forward, **dense)
        keep = self.config.keep_last or not self.level.reshard_after_forward
        fully_shard(model, reshard_after_forward=not keep, **dense)
        for module in model.modules():
            if isinstance(module, FSDPModule):
                # The engine has divided each process's loss already: gradients are summed, never averaged.
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)

    def _options(self, mesh: Mesh, part: Callable[..., DeviceMesh], precision: Precision) -> dict[str, Any]:
        axes = ("data", "sharding") if mesh.size("data") > 1 else ("sharding",)
        pinned = torch.cuda.is_available()
        offload = CPUOffloadPolicy(pin_memory=pinned) if self.config.cpu_offload else OffloadPolicy()
        return {"mesh": part(*axes), "mp_policy": precision.policy(), "offload_policy": offload}

    def before_backward(self, model: nn.Module, last: bool) -> None:
        """Only the last micro-batch's backward pass reduces, unless gradients are to be sharded at once."""
        assert isinstance(model, FSDPModule)
        reduce = last or self.level.reduce_each_microbatch
        model.set_requires_gradient_sync(reduce)
        model.set_is_last_backward(last)
        if not self.level.reshard_after_forward:
            model.set_reshard_after_backward(last)

    def offloads_parameters(self) -> bool:
        """As configured."""
        return self.config.cpu_offload

    def shards_parameters(self) -> bool:
        """FSDP2 casts them."""
        return True


class Zero1(Sharded):
    """Strategy ``zero1``: the optimizer is sharded; parameters and accumulating gradients are whole within a step."""

    def __init__(self, config: ShardedConfig) -> None:
        super().__init__(config, _Level(reshard_after_forward=False, reduce_each_microbatch=False))


class Zero2(Sharded):
    """Strategy ``zero2``: gradients are sharded too, after every micro-batch; parameters are whole within a step."""

    def __init__(self, config: ShardedConfig) -> None:
        super().__init__(config, _Level(reshard_after_forward=False, reduce_each_microbatch=True))


class Zero3(Sharded):
    """Strategies ``zero3`` and ``fsdp``: parameters too are whole only while their block computes.

    While gradients accumulate they stay whole and nothing is sent, until the last micro-batch.
    """

    def __init__(self, config: ShardedConfig) -> None:
        super().__init__(config, _Level(reshard_after_forward=True, reduce_each_microbatch=False))


class Hybrid(Zero3):
    """Strategy ``hsdp``: sharded within ``parallel.shard`` processes, copied over the rest (``parallel.data``).

    Unless the configuration says otherwise, a copy lies within a machine.
    """

    axis = "data"

    def claimed(self, config: ParallelConfig) -> ParallelConfig:
        """A launcher that starts processes on several machines says how many each has."""
        inner = config.context * config.expert * config.tensor
        here, world = (int(os.environ.get(name, "1")) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
        if config.shard or config.data or here == world or here % inner:
            return config
        return replace(config, shard=here // inner)

    def refuses(self, layout: Layout, model: nn.Module | None, precision: Precision) -> str | None:
        """Something must be sharded."""
        if layout.size("shard", "context", "expert") == 1 and layout.data > 1:
            return "'hsdp' shards within parallel.shard processes; set it, e.g. parallel.shard=2 (or use ddp)"
        return super().refuses(layout, model, precision)
