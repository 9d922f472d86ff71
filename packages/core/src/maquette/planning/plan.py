"""From a run's configuration to what one of its processes will need, compute and send."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from maquette import plugins
from maquette.accelerators import Accelerator
from maquette.activation_checkpointing import apply_checkpointing
from maquette.config import RunConfig, checked, resolve_block, set_facts
from maquette.errors import MaquetteError
from maquette.parallel.layout import AXES, Layout
from maquette.parallel.parallelism import Parallelism
from maquette.parallel.pipeline_schedules import schedule_named
from maquette.planning.division import divide, habits
from maquette.planning.example import Fields, find_fields, make_batch
from maquette.planning.fp8_gain import fp8_speedup
from maquette.planning.rehearsal import Product, Rehearsal, Script, rehearse
from maquette.planning.shares import Memory, memory
from maquette.planning.source import Source
from maquette.planning.traffic import Traffic, traffic
from maquette.precision import Precision

BLOCKS = ("data", "model", "objective", "strategy", "optimizer", "pipeline")
ROOM = 0.92
"""Of an accelerator's memory, what a step may fill: the rest goes to fragments, workspaces and communication."""


@dataclass(frozen=True)
class Plan:
    """What is known before the start. Bytes and operations are of one process and one optimizer step.

    Attributes:
        rows: samples of one micro-batch that a process sees.
        parameters: numbers in the whole model.
        flops: of the model, forward and backward, without what checkpointing computes again.
        fp8: for each kind of linear layer of the blocks, how much faster a step of it is in fp8 (0: cannot).
        notes: what the figures leave out.
    """

    layout: Layout
    accelerator: Accelerator
    rows: int
    parameters: int
    memory: Memory
    flops: int
    traffic: list[Traffic]
    fp8: list[tuple[Product, int, float]]
    notes: list[str] = field(default_factory=list)

    @property
    def fits(self) -> bool:
        """Whether the peak leaves the room that a real run needs."""
        return self.memory.peak <= ROOM * self.accelerator.memory


def _parallelism_and_model(
    node: DictConfig, settings: RunConfig, source: Source, world: int
) -> tuple[Parallelism, nn.Module]:
    """On processes that are not there, and without memory; refused as a run would refuse them."""
    strategy = plugins.build("strategies", resolve_block(node, "strategy"))
    claimed = math.prod(max(1, getattr(settings.parallel, axis)) for axis in AXES)
    precision = Precision.of(settings.train)
    parallelism = Parallelism(settings.parallel, strategy, precision, backend="fake", world=world or claimed)
    try:
        set_facts(source.facts())
        with torch.device("meta"):
            model = source.model()
        parallelism.check(model)
    finally:
        parallelism.mesh.stop()
    return parallelism, model


def make_plan(node: DictConfig, world: int, device: Accelerator, batch: Mapping[str, Any] | None = None) -> Plan:
    """Plan a run without starting it.

    Args:
        node: a :class:`RunConfig` node.
        world: how many processes; 0 takes what ``parallel`` claims.
        device: what each process runs on; its memory is what the peak is compared with.
        batch: shapes of one sample (see :mod:`maquette.planning.example`); otherwise model or dataset tell.

    Raises:
        MaquetteError: an impossible layout, a batch that cannot be shared, no way to know a batch's shapes.
    """
    plugins.load_files(node.plugins)
    settings, source = _settings(node), Source(node)
    precision = Precision.of(settings.train)
    parallelism, model = _parallelism_and_model(node, settings, source, world)
    layout = parallelism.layout
    rows = _rows(source.batch_size(), layout)
    microbatches = _microbatches(settings, layout, rows)
    fields = find_fields(batch or {}, model, lambda: source.first_batch(layout))
    script = _script(source, fields, rows // microbatches, precision)
    script.casts_weights, script.fused_attention = parallelism.casts_parameters, device.name != "cpu"
    rehearsal = rehearse(script)
    division = divide(model, settings, parallelism, microbatches)
    return Plan(
        layout=layout,
        accelerator=device,
        rows=rows,
        parameters=sum(weight.numel for weight in rehearsal.weights),
        memory=memory(rehearsal, division),
        flops=_step_flops(rehearsal, settings, layout, microbatches),
        traffic=traffic(rehearsal, division, habits(model, settings)),
        fp8=_fp8(rehearsal, layout, device),
        notes=_notes(settings, layout, model),
    )


def _settings(node: DictConfig) -> RunConfig:
    for key in ("data", "model", "objective"):
        if OmegaConf.is_missing(node, key):
            raise MaquetteError(f"the config: '{key}' must be given, e.g. maquette plan CONFIG.yaml, or {key}.name=...")
    bare = node.copy()
    for key in BLOCKS:
        bare[key] = {}
    return cast(RunConfig, checked(bare))


def _rows(batch_size: int | None, layout: Layout) -> int:
    if batch_size is None:
        return 1
    if batch_size % layout.data_world:
        raise MaquetteError(
            f"plan: data.batch_size {batch_size} cannot be shared by {layout.data_world} processes ({layout}); "
            f"use a multiple of {layout.data_world}"
        )
    return batch_size // layout.data_world


def _microbatches(settings: RunConfig, layout: Layout, rows: int) -> int:
    if layout.pipeline == 1:
        return 1
    chosen = settings.parallel.microbatches or schedule_named(settings.parallel.schedule).choose(rows, layout.pipeline)
    if not chosen or rows % chosen:
        raise MaquetteError(
            f"plan: {rows} samples a process cannot be cut into {chosen or layout.pipeline} micro-batches for "
            f"{layout.pipeline} stages ({settings.parallel.schedule}); raise data.batch_size"
        )
    return chosen


def _script(source: Source, fields: Fields, rows: int, precision: Precision) -> Script:
    def prepare(model: nn.Module) -> None:
        if precision.checkpointing != "none":
            apply_checkpointing(model, precision)

    return Script(
        build=source.model,
        objective=source.objective(),
        batch=lambda: make_batch(fields, rows),
        optimizer=source.optimizer,
        precision=precision.word,
        storage=precision.parameters,
        prepare=prepare,
    )


def _step_flops(rehearsal: Rehearsal, settings: RunConfig, layout: Layout, microbatches: int) -> int:
    passes = 3 * settings.train.accumulate * microbatches
    return passes * rehearsal.flops // layout.size("context", "tensor", "pipeline")


def _fp8(rehearsal: Rehearsal, layout: Layout, device: Accelerator) -> list[tuple[Product, int, float]]:
    """One row for each size of product inside the blocks: (the first of them, how many, the gain)."""
    inside = {w.name.rpartition(".")[0] for w in rehearsal.weights if w.block is not None}
    groups: dict[tuple[int, int, int], list[Product]] = {}
    for product in rehearsal.products:
        if product.name in inside:
            groups.setdefault((product.rows, product.inner, product.columns), []).append(product)
    return [
        (found[0], len(found), fp8_speedup(rows // layout.context, inner, columns, device))
        for (rows, inner, columns), found in groups.items()
    ]


def _notes(settings: RunConfig, layout: Layout, model: Any) -> list[str]:
    train = settings.train
    told = {
        "compiled blocks keep fewer activations than are counted here": train.compile,
        "fp8 was played as bf16": train.precision == "fp8",
        "activation_checkpointing=budget is the compiler's and was not played": train.activation_checkpointing
        == "budget",
        "activations were scaled from one process by tensor, context and pipeline": layout.size(
            "tensor", "context", "pipeline"
        )
        > 1,
        "the model declares no attentions(): attention was played with its scores kept": not hasattr(
            model, "attentions"
        ),
        "experts were played with no tokens: their activations are not counted": bool(
            hasattr(model, "expert_layers") and model.expert_layers()
        ),
        "cpu_offload was not counted": bool(settings.strategy and settings.strategy.get("cpu_offload")),
    }
    return [note for note, holds in told.items() if holds]
