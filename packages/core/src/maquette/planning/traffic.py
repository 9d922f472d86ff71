"""What one process sends in an optimizer step, by axis.

Collectives count as on a ring: gathering and scattering send (n-1)/n of the whole, an all-reduce twice that, an
all-to-all (n-1)/n of the local part. Whether it hides behind arithmetic is not said here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from maquette.planning.rehearsal import Rehearsal
from maquette.planning.shares import SHARDING, Division, held_weights, local_numel


@dataclass(frozen=True)
class Traffic:
    """Bytes that a process sends in an optimizer step, and what for."""

    axis: str
    what: str
    bytes: int


@dataclass(frozen=True)
class Habits:
    """What of a run decides how often it sends.

    Attributes:
        attention: the context axis's strategy: ulysses, ring or all_gather.
        recomputes: activation checkpointing runs the forward pass of blocks again.
        depth: blocks of the whole model.
        mixtures: how many blocks hold experts.
        rowwise: how many of a block's layers end in a reduction over ``tensor``.
    """

    attention: str = "ulysses"
    recomputes: bool = False
    depth: int = 0
    mixtures: int = 0
    rowwise: int = 0


def traffic(rehearsal: Rehearsal, division: Division, habits: Habits) -> list[Traffic]:
    """One row for each axis with more than one process and each purpose, the first pipeline stage's where they
    differ."""
    rows = [*_of_weights(rehearsal, division), *_of_activations(rehearsal, division, habits)]
    return [row for row in rows if row.bytes]


def _ring(size: int) -> float:
    return (size - 1) / size


def _of_weights(rehearsal: Rehearsal, division: Division) -> Iterator[Traffic]:
    layout = division.layout
    weights = held_weights(rehearsal.weights, 0, division)
    whole = sum(local_numel(w, division, sharded=False) for w in weights)
    own = sum(local_numel(w, division, division.sharded) for w in weights)
    group = layout.size(*SHARDING)
    size = division.compute_bytes or 4
    if division.sharded:
        # Once a step where weights stay whole, else in the forward and in the backward pass of each micro-batch.
        passes = 1 if division.whole_weights else 2 * division.accumulate * division.microbatches
        scatters = 1 if division.whole_gradients else division.accumulate
        yield Traffic("shard", "weights gathered", int(passes * size * whole * _ring(group)))
        yield Traffic("shard", "gradients scattered", int(scatters * 4 * whole * _ring(group)))
        yield Traffic("data", "gradients summed", int(2 * 4 * own * _ring(layout.data)))
    else:
        yield Traffic("data", "gradients summed", int(2 * 4 * whole * _ring(layout.data * group)))


def _of_activations(rehearsal: Rehearsal, division: Division, habits: Habits) -> Iterator[Traffic]:
    layout = division.layout
    depth = habits.depth / layout.pipeline
    rounds = division.accumulate * division.microbatches
    passes = 3 if habits.recomputes else 2
    stream = rehearsal.stream / layout.context
    ends = division.gathers + habits.rowwise
    yield Traffic("tensor", "tokens", int(rounds * passes * depth * ends * stream * _ring(layout.tensor)))
    own = rehearsal.block_attention / (layout.context * layout.tensor)  # queries, keys and values
    exchanged = {"ulysses": own * 4 / 3 * _ring(layout.context)}.get(
        habits.attention, own * 2 / 3 * (layout.context - 1)
    )
    # Going back, keys and values come by once more and their gradients return, unless they were moved for good.
    back = 1 if habits.attention == "ulysses" else 2
    yield Traffic("context", "attention", int(rounds * depth * exchanged * (passes - 1 + back)))
    if layout.pipeline > 1:
        yield Traffic("pipeline", "stage outputs", int(rounds * stream / layout.tensor))
    routed = 2 * rehearsal.stream / layout.context * _ring(layout.expert)  # there and back
    yield Traffic("expert", "routed tokens", int(rounds * passes * habits.mixtures / layout.pipeline * 2 * routed))
