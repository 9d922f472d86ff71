"""How a run divides its model, read off its parallelism and off what the model declares."""

from __future__ import annotations

from fnmatch import fnmatch
from typing import Any

from maquette.config import RunConfig
from maquette.parallel.parallelism import Parallelism
from maquette.parallel.pipeline_schedules import block_counts, schedule_named
from maquette.planning.shares import Division, Held
from maquette.planning.traffic import Habits


def divide(model: Any, settings: RunConfig, parallelism: Parallelism, microbatches: int) -> Division:
    """What :mod:`maquette.planning.shares` needs to know."""
    sharding = next((s for s in parallelism.strategies if s.shards_parameters()), None)
    level = getattr(sharding, "level", None)
    experts = model.expert_layers() if hasattr(model, "expert_layers") else []
    inside = {id(parameter) for layer in experts for parameter in layer.parameters()}
    casts = parallelism.casts_parameters and settings.train.precision != "fp32"
    return Division(
        layout=parallelism.layout,
        sharded=sharding is not None,
        whole_weights=level is not None and not level.reshard_after_forward,
        whole_gradients=level is None or not level.reduce_each_microbatch,
        tensor_plan=model.tensor_parallel_plan() if hasattr(model, "tensor_parallel_plan") else None,
        expert_weights=frozenset(name for name, p in model.named_parameters() if id(p) in inside),
        begin=tuple(model.begin_parts()) if hasattr(model, "begin_parts") else (),
        finish=tuple(model.finish_parts()) if hasattr(model, "finish_parts") else (),
        held=_held(len(model.blocks()), settings, parallelism.layout.pipeline) if parallelism.pipeline else (),
        compute_bytes=2 if casts else None,
        average_count=len(settings.train.ema_decays),
        accumulate=settings.train.accumulate,
        microbatches=microbatches,
        keeps_all=settings.parallel.schedule in ("gpipe", "looped_bfs"),
        gathers=_named_so(model, "gather"),
    )


def _named_so(model: Any, style: str) -> int:
    """How many modules of the first block the tensor-parallel plan gives a style."""
    if not hasattr(model, "tensor_parallel_plan") or not hasattr(model, "blocks"):
        return 0
    inside = {id(module) for module in model.blocks()[0].modules()}
    patterns = [pattern for pattern, found in model.tensor_parallel_plan().items() if found == style]
    names = [name for name, module in model.named_modules() if id(module) in inside]
    return sum(any(fnmatch(name, pattern) for pattern in patterns) for name in names)


def habits(model: Any, settings: RunConfig) -> Habits:
    """What :mod:`maquette.planning.traffic` needs to know."""
    return Habits(
        attention=settings.parallel.attention,
        recomputes=settings.train.activation_checkpointing == "full",
        depth=len(model.blocks()) if hasattr(model, "blocks") else 0,
        mixtures=len(model.expert_layers()) if hasattr(model, "expert_layers") else 0,
        rowwise=_named_so(model, "rowwise"),
    )


def _held(depth: int, settings: RunConfig, ranks: int) -> tuple[Held, ...]:
    """The blocks of each rank of the pipeline."""
    schedule = schedule_named(settings.parallel.schedule)
    stages = schedule.stages(ranks)
    numbers, blocks = iter(range(depth)), []
    for count in block_counts(depth, stages):
        blocks.append([next(numbers) for _ in range(count)])
    return tuple(
        Held(
            frozenset(number for stage in schedule.held(rank, ranks) for number in blocks[stage]),
            begin=0 in schedule.held(rank, ranks),
            finish=stages - 1 in schedule.held(rank, ranks),
        )
        for rank in range(ranks)
    )
