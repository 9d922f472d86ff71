"""A batch through a pipeline without gradients: validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, distributed, nn

from maquette.parallel.pipeline_batch import BatchUnderWay
from maquette.parallel.pipeline_parts import PipelinePart, Wire

Peers = tuple[distributed.ProcessGroup, torch.device, Callable[[int], int]]
"""The pipeline's ranks, this rank's device, and which rank holds a stage."""


def forward_only(
    parts: Sequence[nn.Module], under_way: BatchUnderWay, wires: tuple[Wire, ...], sizes: tuple[int, int], peers: Peers
) -> None:
    """Run all microbatches through one stage after the other; the last leaves the objective's terms in the batch.

    torch's schedules can only evaluate where no rank holds two neighbouring stages, so this is our own.

    Args:
        parts: those of this rank, in the order of their stages.
        under_way: with inputs and targets where this rank needs them.
        wires: what passes between stages.
        sizes: rows of a microbatch, number of microbatches.
        peers: who is where.
    """
    rows, count = sizes
    _, _, owner = peers
    local: list[tuple[Tensor, ...]] = []
    for part in parts:
        stage = cast(PipelinePart, part).pipeline_stage
        stage.wires = wires
        rank = owner(stage.index)
        if stage.first:
            received: list[Any] = list(under_way.inputs)
        elif owner(stage.index - 1) == rank:
            received = local
        else:
            received = _receive(wires, count, owner(stage.index - 1), peers)
        outputs = [part(*inputs) for inputs in received]
        if stage.last:
            for index, output in enumerate(outputs):
                under_way.loss(output, torch.arange(index * rows, (index + 1) * rows))
        elif owner(stage.index + 1) == rank:
            local = outputs
        else:
            _send(outputs, owner(stage.index + 1), peers)


def _receive(wires: tuple[Wire, ...], count: int, source: int, peers: Peers) -> list[tuple[Tensor, ...]]:
    group, device, _ = peers
    chunks = [tuple(torch.empty(wire.shape, dtype=wire.carrier, device=device) for wire in wires) for _ in range(count)]
    operations = [
        distributed.P2POp(distributed.irecv, tensor, group=group, group_peer=source)
        for chunk in chunks
        for tensor in chunk
    ]
    for work in distributed.batch_isend_irecv(operations):
        work.wait()
    return chunks


def _send(chunks: list[tuple[Tensor, ...]], target: int, peers: Peers) -> None:
    """All at once after a stage: sends between receives of the same two ranks would wait for each other on a GPU."""
    group, _, _ = peers
    operations = [
        distributed.P2POp(distributed.isend, tensor.contiguous(), group=group, group_peer=target)
        for chunk in chunks
        for tensor in chunk
    ]
    for work in distributed.batch_isend_irecv(operations):
        work.wait()
