"""The short way from a call to its implementation when torch is not watching: no tracing, no modes, plain
tensors.

Going through torch's dispatcher and the generic autograd of custom operators takes some 100 microseconds of
Python a call, forwards and backwards, which is a fifth of the work in a small model's block. Whenever
anything watches (torch.compile, fake tensors, dispatch modes such as flop counters or selective
checkpointing, functional transforms, tensor subclasses) a call takes the custom operator instead; both ways
run the same implementations.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.autograd.function import once_differentiable

from maquette_kernels.custom_op import recall, remember, run_backward, run_forward, whole_numbers
from maquette_kernels.specification import Specification

_PLAIN = frozenset({torch.Tensor, torch.nn.Parameter, float, int, bool, type(None)})


def is_watched(arguments: tuple[Any, ...]) -> bool:
    """Whether a call must take the custom operator: something other than autograd wants to see it."""
    if torch._C._len_torch_dispatch_stack() or torch._C._is_torch_function_mode_enabled():
        return True
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return True
    return not _PLAIN.issuperset(map(type, arguments))


def run_eagerly(operation: Specification, arguments: tuple[Any, ...], needs_grad: bool) -> tuple[torch.Tensor, ...]:
    """Outputs of a call, through autograd if it needs gradients; else the residuals come along."""
    if needs_grad:
        results: tuple[torch.Tensor, ...] = _Eager.apply(operation, *arguments)  # type: ignore[no-untyped-call]
        return results
    return run_forward(operation, arguments, False)


class _Eager(torch.autograd.Function):
    """Autograd around the implementations of any operation."""

    @staticmethod
    def forward(ctx: Any, operation: Specification, *arguments: Any) -> tuple[torch.Tensor, ...]:
        results = run_forward(operation, arguments, True)
        outputs, residuals = results[: operation.output_count], results[operation.output_count :]
        kept = [outputs[i] for i in operation.keeps]
        ctx.operation = operation
        ctx.arguments = remember(ctx, operation, arguments, (*kept, *residuals))
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*whole_numbers(outputs))
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        operation: Specification = ctx.operation
        result: list[torch.Tensor | None] = [None] * (len(ctx.arguments) + 1)
        if all(gradient is None for gradient in gradients):
            return tuple(result)
        arguments, residuals = recall(ctx, operation)
        found = run_backward(operation, arguments, residuals, gradients)
        for place, gradient in zip(operation.differentiable_places, found, strict=True):
            if ctx.needs_input_grad[place + 1]:
                result[place + 1] = gradient
        return tuple(result)
