"""What of a rehearsed step falls to one process of a layout: bytes of each kind, and their peak.

Weights, gradients and optimizer state are counted exactly, parameter by parameter. Activations under ``tensor``,
``context`` and ``pipeline`` are scaled from the whole model's: a good estimate where blocks dominate.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from fnmatch import fnmatch

from maquette.parallel.layout import Layout
from maquette.planning.rehearsal import Rehearsal, Weight

SHARDING = ("expert", "shard", "context")
"""The axes over which dense parameters are sharded."""
EXPERT_SHARDING = ("shard", "context")
GATHERED_BLOCKS = 2
"""The block at work and the one fetched ahead."""


@dataclass(frozen=True)
class Held:
    """What of the model one rank of the pipeline holds: which blocks, and whether what comes before and after them."""

    blocks: frozenset[int]
    begin: bool = True
    finish: bool = True


@dataclass(frozen=True)
class Division:
    """How a run divides its model.

    Attributes:
        layout: the sizes of the axes.
        sharded: parameters, gradients and optimizer are FSDP2's, sharded between steps.
        whole_weights: once gathered, weights stay whole until their backward pass (ZeRO-1 and 2).
        whole_gradients: gradients stay whole while micro-batches accumulate (ZeRO-1 and 3).
        tensor_plan: globs of linear layers to ``gather``, ``colwise`` or ``rowwise``.
        expert_weights: names of the parameters whose first axis counts experts.
        begin, finish: names of what only the first and the last pipeline stage hold.
        held: of each rank of the pipeline; empty for one stage.
        compute_bytes: of one number as modules see weights: 2 under mixed precision that casts them, else as stored.
        average_count: averaged copies of the weights, kept in fp32.
        accumulate: micro-batches an optimizer step.
        microbatches: of the pipeline.
        keeps_all: the pipeline's schedule runs all forward passes first (GPipe).
        gathers: how many of a block's modules gather tokens on entry, under ``tensor``.
    """

    layout: Layout
    sharded: bool = False
    whole_weights: bool = False
    whole_gradients: bool = True
    tensor_plan: Mapping[str, str] | None = None
    expert_weights: frozenset[str] = frozenset()
    begin: tuple[str, ...] = ()
    finish: tuple[str, ...] = ()
    held: tuple[Held, ...] = ()
    compute_bytes: int | None = None
    average_count: int = 1
    accumulate: int = 1
    microbatches: int = 1
    keeps_all: bool = False
    gathers: int = 0


@dataclass(frozen=True)
class Memory:
    """Bytes of one process. The peak is not their sum: gradients and activations are highest at different moments.

    Attributes:
        gathered: weights and gradients that are whole for a moment while they are sharded.
        working: what the highest moment needs beyond gradients and what else is listed.
    """

    parameters: int
    gradients: int
    optimizer: int
    averages: int
    buffers: int
    activations: int
    gathered: int
    peak: int

    def rows(self) -> Iterable[tuple[str, int]]:
        """(what, bytes) in order."""
        return ((field.name, getattr(self, field.name)) for field in fields(self))


def local_numel(weight: Weight, division: Division, sharded: bool) -> int:
    """How many numbers of a parameter one process holds; where they do not divide, rank 0's, which has most."""
    layout, shape = division.layout, list(weight.shape) or [1]
    style = _style(weight.name, division.tensor_plan)
    if layout.tensor > 1 and style == "colwise":
        shape[0] = math.ceil(shape[0] / layout.tensor)
    if layout.tensor > 1 and style == "rowwise" and len(shape) > 1:
        shape[1] = math.ceil(shape[1] / layout.tensor)
    expert = weight.name in division.expert_weights
    if expert:
        shape[0] = math.ceil(shape[0] / layout.expert)
    if sharded:
        shape[0] = math.ceil(shape[0] / layout.size(*(EXPERT_SHARDING if expert else SHARDING)))
    return math.prod(shape)


def _style(name: str, plan: Mapping[str, str] | None) -> str:
    module = name.rpartition(".")[0]
    styles = (style for pattern, style in (plan or {}).items() if style != "gather" and fnmatch(module, pattern))
    return next(styles, "")


def held_weights(weights: Sequence[Weight], rank: int, division: Division) -> list[Weight]:
    """The parameters of one rank of the pipeline."""
    if not division.held:
        return list(weights)
    held = division.held[rank]

    def holds(weight: Weight) -> bool:
        if weight.block is not None:
            return weight.block in held.blocks
        top = weight.name.partition(".")[0]
        return not ((top in division.begin and not held.begin) or (top in division.finish and not held.finish))

    return [weight for weight in weights if holds(weight)]


def memory(rehearsal: Rehearsal, division: Division) -> Memory:
    """The process that needs most, over the ranks of the pipeline."""
    ranks = range(division.layout.pipeline)
    return max((_rank_memory(rehearsal, division, rank) for rank in ranks), key=lambda m: m.peak)


def _rank_memory(rehearsal: Rehearsal, division: Division, rank: int) -> Memory:
    weights = held_weights(rehearsal.weights, rank, division)
    own = {w.name: local_numel(w, division, division.sharded) for w in weights}
    parameters = sum(own[w.name] * w.bytes // max(1, w.numel) for w in weights)
    optimizer = sum(rehearsal.slots.get(w.name, 0) * own[w.name] // max(1, w.numel) for w in weights)
    averages = 4 * division.average_count * sum(own.values())
    gathered = _gathered(weights, division) + _whole_gradients(weights, division)
    # Sums over copies travel in flat buckets, which stay until the last has come: every gradient lives twice.
    gradients = parameters * (2 if _copies(division) > 1 else 1)
    activations, top = _activations(rehearsal, division, rank, gradients)
    kept = parameters + optimizer + averages + rehearsal.buffers + gathered
    return Memory(
        parameters=parameters,
        gradients=gradients,
        optimizer=optimizer,
        averages=averages,
        buffers=rehearsal.buffers,
        activations=activations,
        gathered=gathered,
        peak=kept + top,
    )


def _activations(rehearsal: Rehearsal, division: Division, rank: int, gradients: int) -> tuple[int, int]:
    """(what waits for the backward pass, the highest sum of gradients and working memory)."""
    layout = division.layout
    split = 1 / (layout.context * layout.tensor)
    share = split / layout.pipeline
    # A gathered input of a column-wise layer waits for the backward pass whole.
    whole_inputs = division.gathers * rehearsal.stream / layout.context * (1 - 1 / layout.tensor) / layout.pipeline
    waiting = rehearsal.activations * share + whole_inputs
    ahead = (division.microbatches if division.keeps_all else min(division.microbatches, layout.pipeline - rank)) - 1
    top = max(
        gradients * (moment.gradient / max(1, rehearsal.gradients)) + moment.working * share
        for moment in rehearsal.moments
    )
    return int(waiting * (1 + ahead)), int(top + whole_inputs + waiting * ahead)


def _copies(division: Division) -> int:
    """Over how many processes whole gradients are summed."""
    return 1 if division.sharded else division.layout.size("data", *SHARDING)


def _by_block(weights: Sequence[Weight], division: Division) -> dict[int | None, int]:
    """Numbers that modules see, by block, where parameters are whole."""
    groups: dict[int | None, int] = {}
    for weight in weights:
        groups[weight.block] = groups.get(weight.block, 0) + local_numel(weight, division, sharded=False)
    return groups


def _gathered(weights: Sequence[Weight], division: Division) -> int:
    """Whole weights in use at once: the root's and two blocks', or all where they stay whole within a step."""
    if not division.sharded:
        return 0
    size = division.compute_bytes or max((w.bytes // max(1, w.numel) for w in weights), default=4)
    groups = _by_block(weights, division)
    if division.whole_weights:
        return size * sum(groups.values())
    root = groups.pop(None, 0)
    return size * (root + GATHERED_BLOCKS * max(groups.values(), default=0))


def _whole_gradients(weights: Sequence[Weight], division: Division) -> int:
    """Gradients that are whole for a while: a block's until it is reduced; all while micro-batches accumulate."""
    if not division.sharded:
        return 0
    groups = _by_block(weights, division)
    if division.accumulate > 1 and division.whole_gradients:
        return 4 * sum(groups.values())
    return 4 * max((size for block, size in groups.items() if block is not None), default=0)
