"""Which activations a backward pass finds and which it computes again, block by block.

Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016; per op after Korthikanti et al., "Reducing
Activation Recomputation in Large Transformer Models", 2022. Gradients are exactly those of an unchecked run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch._functorch import config as functorch
from torch.utils import checkpoint as torch_checkpoint
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

from maquette.engine import randomness
from maquette.precision.policy import Precision

Context = AbstractContextManager[Any]

aten = torch.ops.aten
ATTENTION = frozenset(
    {
        aten._scaled_dot_product_flash_attention.default,
        aten._scaled_dot_product_efficient_attention.default,
        aten._scaled_dot_product_cudnn_attention.default,
        aten._scaled_dot_product_flash_attention_for_cpu.default,
    }
)
"""Dear to compute again, for what they store: always kept."""
PRODUCTS = frozenset({aten.mm.default, aten.addmm.default, aten._scaled_mm.default})
"""Every second one is kept: half the memory, half the time."""
COLLECTIVES = frozenset(
    {
        torch.ops._c10d_functional.all_gather_into_tensor.default,
        torch.ops._c10d_functional.reduce_scatter_tensor.default,
        torch.ops._c10d_functional.all_to_all_single.default,
    }
)
"""Kept, so that computing again waits for no other rank."""


def checkpoint_blocks(blocks: Sequence[nn.Module], mode: str) -> None:
    """Make every block forget activations and compute them again in the backward pass, in place.

    Names of modules and parameters stay; to be called before compiling, so that the compiler sees what is recomputed.
    As after compiling, the model must not be deep-copied any more.

    Args:
        blocks: a model's ``blocks()``.
        mode: ``none``; ``full``: only a block's inputs are kept; ``selective``: attention, collectives and every
            second matrix product are kept as well, the rest is computed again.
    """
    if mode not in ("full", "selective"):
        return
    for block in blocks:
        block.forward = _checkpointed(block.forward, mode == "selective")  # type: ignore[method-assign]


def apply_checkpointing(model: nn.Module, precision: Precision) -> None:
    """What ``train.activation_checkpointing`` does to a model or to a pipeline part, in place.

    ``budget`` is the compiler's: of each block's activations it keeps those that cost most to compute again, up to the
    share ``train.memory_budget``. The word is global to the process, as the compiler reads it so.
    """
    functorch.activation_memory_budget = precision.memory_budget if precision.checkpointing == "budget" else 1.0
    checkpoint_blocks(model.blocks(), precision.checkpointing)  # type: ignore[operator]


def _checkpointed(forward: Callable[..., Any], selective: bool) -> Callable[..., Any]:
    def run(*args: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*args)
        if not torch.compiler.is_compiling():
            contexts = _selective_contexts if selective else _plain_contexts
            return torch_checkpoint.checkpoint(forward, *args, use_reentrant=False, context_fn=contexts)
        # A graph holds no named noise, and the compiler takes no contexts but those that choose ops.
        chosen: dict[str, Any] = {"context_fn": _choices} if selective else {}
        return torch_checkpoint.checkpoint(forward, *args, use_reentrant=False, **chosen)

    return run


def _plain_contexts() -> tuple[Context, Context]:
    return nullcontext(), _redrawing()


def _selective_contexts() -> tuple[Context, Context]:
    first, again = _choices()
    return first, _both(again, _redrawing())


def _choices() -> tuple[Context, Context]:
    # One count for the first pass and one for the second, so that both decide alike.
    return create_selective_checkpoint_contexts(partial(_keep, {False: 0, True: 0}))  # type: ignore[no-any-return,no-untyped-call]


def _redrawing() -> Context:
    """The noise of the samples under way now, for a second pass that runs when they no longer are."""
    samples = randomness.under_way()
    return nullcontext() if samples is None else randomness.drawing(*samples)


@contextmanager
def _both(outer: Context, inner: Context) -> Iterator[None]:
    with outer, inner:
        yield


def _keep(counts: dict[bool, int], context: Any, op: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    if op in ATTENTION or op in COLLECTIVES:
        return CheckpointPolicy.MUST_SAVE
    if op in PRODUCTS:
        counts[context.is_recompute] += 1
        if counts[context.is_recompute] % 2:
            return CheckpointPolicy.MUST_SAVE
    return CheckpointPolicy.PREFER_RECOMPUTE
