"""Small runs whose memory is both planned and measured."""

from __future__ import annotations

import gc
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from maquette import hookimpl, plugins
from maquette.accelerators import accelerator
from maquette.activation_checkpointing import apply_checkpointing
from maquette.config import RunConfig, checked, load, resolve_block
from maquette.engine.step_engine import StepEngine
from maquette.forensics.live_tensors import live_storages
from maquette.parallel.parallelism import Parallelism
from maquette.planning.plan import Plan, make_plan
from maquette.precision import Precision
from maquette.testing import TinyObjective, TinyTransformer, tiny_batch

TOKENS = 32


@dataclass
class TinyConfig:
    """Sizes of the transformer."""

    width: int = 32
    depth: int = 4
    heads: int = 4


def build_tiny(config: TinyConfig) -> nn.Module:
    """The transformer that strategies are tested on."""
    return TinyTransformer(config.width, config.depth, config.heads, tokens=TOKENS)


def build_objective(config: Any) -> TinyObjective:
    """The objective that strategies are tested with."""
    return TinyObjective()


def build_data(config: Any) -> None:
    """Nothing: plans are made without data."""


@dataclass
class TinyObjectiveConfig:
    """Nothing to set."""


@dataclass
class TinyDataConfig:
    """How many samples a micro-batch of all processes has."""

    batch_size: int = 8


class Plugin:
    @hookimpl
    def register_architectures(self, register: Any) -> None:
        register("planned_tiny", TinyConfig, build_tiny)

    @hookimpl
    def register_objectives(self, register: Any) -> None:
        register("planned_tiny", TinyObjectiveConfig, build_objective)

    @hookimpl
    def register_datasets(self, register: Any) -> None:
        register("planned_tiny", TinyDataConfig, build_data)


def run_config(**overrides: Any) -> Any:
    """A run of the tiny transformer as a node."""
    if not any(entry.name == "planned_tiny" for entry in plugins.registry("architectures")):
        plugins.manager().add(Plugin(), "planned_tiny")
    blocks = {key: {"name": "planned_tiny"} for key in ("data", "model", "objective")}
    return load(RunConfig, blocks, overrides)


def planned(world: int = 1, device: str = "cpu", **overrides: Any) -> Plan:
    """The plan of a run."""
    batch = {"x": [TOKENS, 6], "position": "int64"}
    return make_plan(run_config(**overrides), world, accelerator(device), batch)


def measured_peak(overrides: dict[str, Any]) -> int:
    """The highest number of bytes that live in a step of the real engine, in this process.

    What lives before the step is counted tensor by tensor, but for what other tests of this process keep; what the step
    adds comes from the allocator's own events, as the profiler records them. Neither knows of the planner's books.
    """
    gc.collect()
    others = sum(size for _, size in live_storages().values())
    node = run_config(**overrides)
    engine = build_engine(node)
    world, rank = engine.mesh.data_world, engine.mesh.data_rank
    rows = int(node.data.get("batch_size", 8)) // world

    def step() -> None:
        for _ in range(engine.train.accumulate):
            engine.run(tiny_batch(rows, TOKENS, first=rank * rows))

    step()
    step()
    gc.collect()
    before = sum(size for _, size in live_storages().values())
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        step()
    engine.mesh.stop()
    return before - others + _highest(profiler)


def settings_of(node: Any) -> RunConfig:
    """The skeleton of a run, checked."""
    bare = node.copy()
    for key in ("data", "model", "objective", "strategy", "optimizer"):
        bare[key] = {}
    return checked(bare)


def build_engine(node: Any) -> StepEngine:
    """The engine of a run, as the runner makes it."""
    settings = settings_of(node)
    precision = Precision.of(settings.train)
    strategy = plugins.build("strategies", resolve_block(node, "strategy"))
    parallelism = Parallelism(settings.parallel, strategy, precision)
    torch.manual_seed(0)

    def transform(part: nn.Module) -> None:
        if precision.checkpointing != "none":
            apply_checkpointing(part, precision)

    parts = parallelism.build(lambda: plugins.build("architectures", resolve_block(node, "model")), transform)
    optimizer = plugins.build("optimizers", resolve_block(node, "optimizer"))
    return StepEngine(parts, TinyObjective(), settings.train, optimizer, seed=0, parallelism=parallelism)


def _highest(profiler: Any) -> int:
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = highest = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        highest = max(highest, now)
    return highest
