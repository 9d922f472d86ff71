"""torch.compile of a model's repeated blocks, one by one: start-up does not grow with depth."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from maquette.errors import MaquetteError
from maquette.precision.policy import Precision

GRAPHS = 64
"""How many graphs may be compiled before torch calls it a mistake."""


def compile_blocks(blocks: Sequence[nn.Module], backend: str = "inductor", dynamic: bool | None = None) -> None:
    """Compile every block's ``forward`` as one whole graph, in place, under unchanged names.

    Not the module's call: hooks of sharding and of tensor parallelism stay outside the graph, where their collectives
    may wait. Blocks of one class and shape share one compiled graph. Afterwards the model must not be deep-copied: the
    copies' blocks would go on using this one's weights.

    Args:
        blocks: a model's ``blocks()``, after activation checkpointing and before sharding.
        backend: of torch.compile, e.g. ``inductor`` or ``aot_eager``.
        dynamic: whether sizes of the inputs may vary without compiling again; None lets torch find out.

    Raises:
        MaquetteError: an unknown backend.
    """
    known = torch._dynamo.list_backends(exclude_tags=())
    if backend not in known:
        raise MaquetteError(f"train.compile_backend is '{backend}'; known: {', '.join(sorted(known))}")
    # Blocks of every kind, training and validation, and sizes of batches all count against one limit.
    torch._dynamo.config.recompile_limit = max(GRAPHS, torch._dynamo.config.recompile_limit)
    # What a block notes on the side (a mixture's balance) is noted in the first pass, not once more in the second.
    torch._dynamo.config.skip_fwd_side_effects_in_bwd_under_checkpoint = True
    for block in blocks:
        block.forward = torch.compile(block.forward, fullgraph=True, backend=backend, dynamic=dynamic)  # type: ignore[method-assign]


def apply_compile(model: nn.Module, precision: Precision) -> None:
    """What ``train.compile`` does to a model or to a pipeline part."""
    if precision.compile:
        compile_blocks(model.blocks(), precision.backend)  # type: ignore[operator]
