"""What an operation as such must satisfy, beside its numbers: torch's rules for operators, one graph under
torch.compile, a reference whose gradients are right, a cost.
"""

from __future__ import annotations

from typing import Any

import torch

from maquette_kernels.layouts import widen
from maquette_kernels.operation import Operation
from maquette_kernels.properties import Case, differentiate, equal_bits
from maquette_kernels.resolution import fixed
from maquette_kernels.specification import as_tuple


def operator_is_sound(case: Case) -> None:
    """torch's own checks: schema, fake against real, autograd registration, tracing with dynamic shapes."""
    operation = case.operation
    leaves = tuple(
        v.detach().requires_grad_() if n in operation.differentiable and v is not None else v
        for n, v in zip(operation.signature.names, case.arranged, strict=True)
    )
    with fixed(operation, case.implementation):
        torch.library.opcheck(operation.handle.forward, (*leaves, True))


def compiles_whole(case: Case) -> None:
    """One graph under torch.compile, and the same bits as without it."""
    operation = case.operation

    def call(*arguments: Any) -> Any:
        return operation(*arguments)

    torch.compiler.reset()
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    sizes_from_data = torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True)
    with fixed(operation, case.implementation), sizes_from_data:
        plain, graph = ([*as_tuple(f(*case.arguments))] for f in (call, compiled))
        if operation.differentiable:
            plain += differentiate(operation, call, case.arguments, case)
            graph += differentiate(operation, compiled, case.arguments, case)
    if not all(equal_bits(a, b) for a, b in zip(plain, graph, strict=True)):
        case.fail("torch.compile changes the bits")


def reference_gradients(operation: Operation, arguments: tuple[Any, ...]) -> None:
    """The reference's autograd against finite differences, in fp64."""
    wide = [widen(value) for value in arguments]
    for place, name in enumerate(operation.signature.names):
        if name in operation.differentiable and wide[place] is not None:
            wide[place].requires_grad_()

    def floating(*given: Any) -> tuple[torch.Tensor, ...]:
        return tuple(r for r in as_tuple(operation.reference(*given)) if r.is_floating_point() and r.requires_grad)

    if operation.differentiable:
        torch.autograd.gradcheck(floating, tuple(wide), eps=1e-6, atol=1e-5, rtol=1e-4, fast_mode=True)


def cost_is_sane(operation: Operation, arguments: tuple[Any, ...]) -> None:
    """Two whole numbers, and traffic of at least one pass over the arguments that the cost claims to read."""
    flops, moved = operation.cost(operation.call(*arguments))
    if not (isinstance(flops, int) and isinstance(moved, int) and flops >= 0 and moved >= 0):
        raise AssertionError(f"kernel '{operation.name}': cost must give two whole numbers, got {flops!r}, {moved!r}")
