"""Pipeline parallelism: a model's blocks over several ranks, a batch through them in microbatches."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, distributed, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.pipelining import schedules

from maquette.batches import rows_of
from maquette.errors import MaquetteError
from maquette.parallel import pipeline_parts
from maquette.parallel.layout import SAMPLES
from maquette.parallel.mesh import Mesh
from maquette.parallel.pipeline_batch import BatchUnderWay, Signature, signature
from maquette.parallel.pipeline_forward import forward_only
from maquette.parallel.pipeline_parts import PipelinePart, Wire
from maquette.parallel.pipeline_schedules import schedule_named
from maquette.parallel.pipeline_stage import AccumulatingStage
from maquette.parallel.pipeline_terms import Terms

Context = Callable[[], AbstractContextManager[Any]]
CPU = torch.device("cpu")


@dataclass
class _Facts:
    """What all batches of the same shapes have in common."""

    wires: tuple[Wire, ...]
    terms: dict[bool, Terms] = field(default_factory=dict)
    """What the objective reports in training (True) and in validation."""


class Pipeline:
    """Runs a model's parts on the ranks of the axis ``pipeline`` by one of torch's schedules.

    All ranks of a pipeline get the same batch. The gradients of the microbatches add up to ``share`` times the
    gradient of the batch's mean loss. With FSDP2 inside, gradients are reduced once, at the end of the last batch
    that an optimizer step accumulates.

    Args:
        mesh: with ``pipeline`` of at least 2.
        schedule: a word of :data:`maquette.parallel.pipeline_schedules.SCHEDULES`.
        microbatches: into how many a batch is cut; 0 chooses.
        context: opened round every forward pass and loss, e.g. autocast; leave it where FSDP casts.

    Raises:
        MaquetteError: no such schedule.
    """

    def __init__(self, mesh: Mesh, schedule: str, microbatches: int = 0, context: Context = nullcontext) -> None:
        self.mesh, self.schedule, self.microbatches, self.context = (
            mesh,
            schedule_named(schedule),
            microbatches,
            context,
        )
        self.ranks, self.rank = mesh.size("pipeline"), mesh.index("pipeline")
        mesh.group(*SAMPLES)  # made by all ranks together; only last stages will use it
        self.last_rank = self.schedule.owner(self.schedule.stages(self.ranks) - 1, self.ranks)
        self._known: dict[tuple[Signature, int], _Facts] = {}
        self._built: tuple[Any, list[AccumulatingStage], _Facts] | None = None
        self._loss: Callable[[Any, Tensor], Tensor] = _unused

    def refuses(self, model: nn.Module | None, objective: Any = None, *, compiled: bool = False) -> str | None:
        """Why a run cannot work, or None; before anything is built.

        Args:
            model: the whole one.
            objective: must be able to give its inputs, targets and loss apart.
            compiled: whether blocks are compiled.
        """
        if self.microbatches and not self.schedule.takes(self.microbatches, self.ranks):
            return self._advice(f"microbatches={self.microbatches}", 4 * self.microbatches * self.ranks, every=True)
        if compiled and self.schedule.splits_backward:
            return (
                f"schedule '{self.schedule.word}' takes the backward pass apart, which compiled blocks do not allow; "
                "set train.compile=false or use schedule 1f1b or interleaved"
            )
        for method in ("inputs", "target", "loss") if objective is not None else ():
            if not callable(getattr(objective, method, None)):
                return f"objective {type(objective).__name__} has no {method}(), which a pipeline's ends need"
        return pipeline_parts.refusal(model, self.schedule, self.ranks) if model is not None else None

    def refuses_rows(self, rows: int) -> str | None:
        """Why a batch of so many samples (of one process, one micro-batch of accumulation) cannot be cut, or None."""
        fits = self.schedule.choices(rows, self.ranks)
        if self.microbatches in fits or (self.microbatches == 0 and fits):
            return None
        return self._advice(f"a batch of {rows} samples, microbatches={self.microbatches}", rows)

    def _advice(self, what: str, rows: int, *, every: bool = False) -> str:
        counts = range(1, rows + 1) if every else self.schedule.choices(rows, self.ranks)
        fits = [str(count) for count in counts if self.schedule.takes(count, self.ranks)][:6]
        word = f"schedule '{self.schedule.word}' of pipeline={self.ranks}"
        if not fits:
            return f"{word} cannot cut {what}; use batches of at least {self.schedule.stages(self.ranks)} samples"
        return f"{word} cannot cut {what}; use parallel.microbatches of {', '.join(fits)} (0 chooses)"

    def split(self, model: nn.Module) -> list[nn.Module]:
        """The parts of a model that this rank holds; the model becomes one of them, and names of parameters stay.

        Args:
            model: as a rule on the meta device, not yet wrapped or compiled.

        Raises:
            MaquetteError: the model cannot be split so, with the reason.
        """
        return pipeline_parts.split(model, self.schedule, self.rank, self.ranks, self.context)

    def step(
        self,
        parts: Sequence[nn.Module],
        objective: Any,
        batch: Mapping[str, Any],
        share: float,
        drawing: Context = nullcontext,
        *,
        last: bool = True,
    ) -> dict[str, Any]:
        """Forward and backward of one batch; gradients are added to the parameters'.

        Args:
            parts: those that ``split`` gave, after they were sharded.
            objective: with ``inputs``, ``target`` and ``loss``.
            batch: the same on all ranks of the pipeline.
            share: what the gradient of the batch's mean loss is multiplied by.
            drawing: the context in which noise is drawn for this batch's samples.
            last: whether FSDP's gradients are reduced now, or accumulate until a later call.

        Returns:
            What the objective reports, detached, for the whole batch and on every rank.

        Raises:
            MaquetteError: the batch cannot be cut so.
        """
        count = self._count(rows := rows_of(batch))
        under_way = self._prepare(parts, objective, batch, rows // count, drawing)
        under_way.factor = self._factor(under_way, share, count)
        facts = self._facts(parts, batch, under_way, count)
        self._run(parts, facts, under_way, count, last=last)
        return self._share(facts, under_way, training=True)

    def _run(
        self, parts: Sequence[nn.Module], facts: _Facts, under_way: BatchUnderWay, count: int, *, last: bool
    ) -> None:
        """The schedule; it is given numbers of rows, which the stages at its ends look up."""
        schedule, stages, _ = self._build(parts, facts, under_way.rows // count, count)
        for stage in stages:
            stage.inputs, stage.reduces = under_way.inputs, last
        numbers = torch.arange(under_way.rows)
        ends = {"target": numbers} if under_way.target is not None else {}
        self._loss = under_way.loss
        schedule.step(*([numbers] if under_way.inputs else []), return_outputs=False, **ends)
        self._loss = _unused
        for stage in stages:
            stage.inputs = []  # a batch's memory is given back before the optimizer needs its own

    @torch.no_grad()
    def evaluate(
        self, parts: Sequence[nn.Module], objective: Any, batch: Mapping[str, Any], drawing: Context = nullcontext
    ) -> dict[str, Any]:
        """What the objective reports of a batch on every rank, without gradients; any number of samples will do."""
        rows = rows_of(batch)
        count = self.schedule.choose(rows, self.ranks) or 1
        under_way = self._prepare(parts, objective, batch, rows // count, drawing)
        facts = self._facts(parts, batch, under_way, count)
        forward_only(parts, under_way, facts.wires, (rows // count, count), self._peers())
        return self._share(facts, under_way, training=False)

    def _peers(self) -> tuple[distributed.ProcessGroup, torch.device, Callable[[int], int]]:
        return self._group(), self.mesh.device, lambda stage: self.schedule.owner(stage, self.ranks)

    def _group(self) -> distributed.ProcessGroup:
        return cast(distributed.ProcessGroup, self.mesh.group("pipeline"))

    def _count(self, rows: int) -> int:
        if reason := self.refuses_rows(rows):
            raise MaquetteError(f"parallel: {reason}")
        return self.microbatches or cast(int, self.schedule.choose(rows, self.ranks))

    def _prepare(
        self, parts: Sequence[nn.Module], objective: Any, batch: Mapping[str, Any], size: int, drawing: Context
    ) -> BatchUnderWay:
        under_way = BatchUnderWay(objective, rows_of(batch), self.context)
        first = parts[0] if self.rank == 0 else None
        last = parts[-1] if self.rank == self.last_rank else None
        with drawing():
            under_way.prepare(first, last, batch, size)
        return under_way

    def _factor(self, under_way: BatchUnderWay, share: float, count: int) -> float | Tensor:
        """What the loss of a microbatch, or of each thing in it that the objective counts, is multiplied by."""
        counted = under_way.counted
        if counted is None:
            return share / count
        return share * self.mesh.data_world / self.mesh.sum(counted.clone(), *SAMPLES)

    def _facts(
        self, parts: Sequence[nn.Module], batch: Mapping[str, Any], under_way: BatchUnderWay, count: int
    ) -> _Facts:
        """Shapes that pass between stages; the first part is asked where any rank of the run has not seen them yet.

        All ranks together, because the first part's own shards may have to be gathered for it; on the CPU, so that
        no rank waits for its device.
        """
        key = (signature(batch), count)
        if float(self.mesh.sum(torch.tensor(float(key not in self._known)))):
            wires = [self._probe(parts[0], under_way.inputs[0]) if under_way.inputs else None]
            distributed.broadcast_object_list(wires, group=self._group(), group_src=0, device=CPU)
            self._known[key] = _Facts(cast(tuple[Wire, ...], wires[0]))
        return self._known[key]

    def _probe(self, part: nn.Module, inputs: tuple[Any, ...]) -> tuple[Wire, ...]:
        stage = cast(PipelinePart, part).pipeline_stage
        stage.wires = None
        devices = [self.mesh.device] if self.mesh.device.type == "cuda" else []
        with torch.enable_grad(), torch.random.fork_rng(devices):
            wires: tuple[Wire, ...] = part(*inputs)
        for module in part.modules():
            if isinstance(module, FSDPModule):
                module.reshard()
        return wires

    def _build(
        self, parts: Sequence[nn.Module], facts: _Facts, size: int, count: int
    ) -> tuple[Any, list[AccumulatingStage], _Facts]:
        """torch's schedule for these shapes. Only the newest is kept: each holds buffers for all microbatches."""
        for part in parts:
            cast(PipelinePart, part).pipeline_stage.wires = facts.wires
            if self.schedule.splits_backward:
                _keep_unsharded(part)
        if self._built is None or self._built[2] is not facts:
            stages = [self._stage(part, facts, size) for part in parts]
            build = schedules.get_schedule_class(self.schedule.torch_name.removeprefix("Schedule"))
            several = self.schedule.stages_per_rank > 1
            schedule = build(stages if several else stages[0], count, loss_fn=self._loss_of_rows, scale_grads=False)
            self._built = (schedule, stages, facts)
        return self._built

    def _stage(self, part: nn.Module, facts: _Facts, size: int) -> AccumulatingStage:
        stage = cast(PipelinePart, part).pipeline_stage
        between = tuple(wire.example() for wire in facts.wires)
        numbers = (torch.empty(size, dtype=torch.int64, device="meta"),)
        received, sent = numbers if stage.first else between, numbers if stage.last else between
        ends = {"input_args": received, "output_args": sent}
        return AccumulatingStage(part, stage.index, stage.count, self.mesh.device, group=self._group(), **ends)

    def _loss_of_rows(self, output: Any, rows: Tensor) -> Tensor:
        return self._loss(output, rows)

    def _share(self, facts: _Facts, under_way: BatchUnderWay, *, training: bool) -> dict[str, Any]:
        """The objective's report from the last stage's rank to the whole pipeline."""
        group = self._group()
        if training not in facts.terms:
            told = [Terms.of(under_way.terms[0]) if under_way.terms else None]
            distributed.broadcast_object_list(told, group=group, group_src=self.last_rank, device=CPU)
            facts.terms[training] = cast(Terms, told[0])
        terms = facts.terms[training]
        if under_way.terms:
            values = terms.pack(under_way.terms)
        else:
            values = torch.empty(terms.size(under_way.rows), device=self.mesh.device)
        distributed.broadcast(values, group=group, group_src=self.last_rank)
        return terms.unpack(values, under_way.rows)


def _keep_unsharded(part: nn.Module) -> None:
    """Zero-bubble schedules look for whole parameters in the graph before FSDP would have gathered them again."""
    for module in part.modules():
        if isinstance(module, FSDPModule):
            module.set_reshard_after_forward(False, recurse=False)


def _unused(output: Any, target: Any) -> Tensor:
    raise AssertionError("a schedule computes its loss within a step alone")
