"""What every operation must satisfy, one function a property; each raises AssertionError with one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch

from maquette_kernels.custom_op import as_tuple
from maquette_kernels.layouts import arrange, describe, upstream, widen
from maquette_kernels.operation import Operation
from maquette_kernels.resolution import fixed
from maquette_kernels.tolerance import nudge


@dataclass(frozen=True)
class Case:
    """One call to examine: an implementation, arguments in some layout, and a kind of gradient from above."""

    operation: Operation
    implementation: str
    arguments: tuple[Any, ...]
    layout: str = "contiguous"
    upstream: str = "random"
    seed: int = 0

    @property
    def arranged(self) -> tuple[Any, ...]:
        """The arguments in the case's layout, their values unchanged."""
        return tuple(
            arrange(v, self.layout, place) if isinstance(v, torch.Tensor) else v
            for place, v in enumerate(self.arguments)
        )

    @property
    def nearby(self) -> list[tuple[Any, ...]]:
        """The arguments, and three times the same with each float32 element moved to a neighbour."""
        return [
            self.arguments,
            *(
                tuple(nudge(v, self.seed + i) if isinstance(v, torch.Tensor) else v for v in self.arguments)
                for i in range(3)
            ),
        ]

    def fail(self, what: str, cause: Exception | None = None) -> NoReturn:
        """Raise with what went wrong and how to see it again."""
        told = describe(self.operation.signature.names, self.arguments)
        raise AssertionError(
            f"kernel '{self.operation.name}' ({self.implementation}): {what}; "
            f"{self.layout} arguments, {self.upstream} gradient, seed {self.seed}: {told}"
        ) from cause


def run(case: Case) -> tuple[torch.Tensor, ...]:
    """Outputs, then residuals, of the case's implementation, through the operator."""
    with fixed(case.operation, case.implementation):
        return case.operation.handle.call(case.arranged, False)


def differentiate(operation: Operation, function: Any, arguments: Sequence[Any], case: Case) -> list[torch.Tensor]:
    """Gradients of the differentiable arguments of ``function``, by autograd, in order; zeros where there is
    none.
    """
    leaves = [
        value.detach().requires_grad_() if name in operation.differentiable and value is not None else value
        for name, value in zip(operation.signature.names, arguments, strict=True)
    ]
    outputs = as_tuple(function(*leaves))
    # Drawn in the case's dtype and only then widened: the oracle must see the same numbers.
    like = [torch.empty_like(o, dtype=_dtype_of(case)) for o in outputs]
    gradients = [g if g is None else g.to(o.dtype) for g, o in zip(_above(like, case), outputs, strict=True)]
    pairs = [(o, g) for o, g in zip(outputs, gradients, strict=True) if g is not None]
    wanted = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.requires_grad]
    return list(
        torch.autograd.grad(
            [o for o, _ in pairs], wanted, [g for _, g in pairs], allow_unused=True, materialize_grads=True
        )
    )


def _dtype_of(case: Case) -> torch.dtype:
    return next(v.dtype for v in case.arguments if isinstance(v, torch.Tensor) and v.is_floating_point())


def _above(like: Sequence[torch.Tensor], case: Case) -> list[torch.Tensor | None]:
    return upstream(like, case.upstream, case.seed)


def values(case: Case) -> None:
    """Outputs and residuals against the fp64 reference, by the operation's tolerance."""
    forward = case.operation.implementation("reference").forward
    results, oracles = run(case), forward(*map(widen, case.arguments))
    baselines = zip(*(forward(*arguments) for arguments in case.nearby), strict=True)
    for index, (result, several, oracle) in enumerate(zip(results, baselines, oracles, strict=True)):
        _close(case, f"result {index}", result, several, oracle)


def gradients(case: Case) -> None:
    """Gradients against autograd of the fp64 reference, by the operation's tolerance."""
    operation = case.operation
    if not operation.differentiable:
        return
    with fixed(operation, case.implementation):
        results = differentiate(operation, operation, case.arranged, case)
    baselines = zip(*(differentiate(operation, operation.reference, a, case) for a in case.nearby), strict=True)
    oracles = differentiate(operation, operation.reference, tuple(map(widen, case.arguments)), case)
    names = [n for n, v in zip(operation.signature.names, case.arguments, strict=True) if v is not None]
    names = [n for n in names if n in operation.differentiable]
    for name, result, several, oracle in zip(names, results, baselines, oracles, strict=True):
        _close(case, f"gradient of {name}", result, several, oracle)


def repeats(case: Case) -> None:
    """Equal bits from equal calls, forwards and backwards, where the operation says so."""
    if not case.operation.deterministic:
        return
    first, second = (_everything(case) for _ in range(2))
    if not all(torch.equal(a, b) for a, b in zip(first, second, strict=True)):
        case.fail("repeating the call changes the bits, though it is declared deterministic")


def _everything(case: Case) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    if case.operation.differentiable:
        with fixed(case.operation, case.implementation):
            found = differentiate(case.operation, case.operation, case.arranged, case)
    return [torch.nan_to_num(t) for t in (*run(case), *found)]


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
    with fixed(operation, case.implementation):
        plain, graph = ([*as_tuple(f(*case.arguments))] for f in (call, compiled))
        if operation.differentiable:
            plain += differentiate(operation, call, case.arguments, case)
            graph += differentiate(operation, compiled, case.arguments, case)
    if not all(torch.equal(a, b) for a, b in zip(plain, graph, strict=True)):
        case.fail("torch.compile changes the bits")


def reference_gradients(operation: Operation, arguments: tuple[Any, ...]) -> None:
    """The reference's autograd against finite differences, in fp64."""
    wide = [widen(value) for value in arguments]
    for place, name in enumerate(operation.signature.names):
        if name in operation.differentiable and wide[place] is not None:
            wide[place].requires_grad_()
    if operation.differentiable:
        torch.autograd.gradcheck(operation.reference, tuple(wide), eps=1e-6, atol=1e-5, rtol=1e-4, fast_mode=True)


def cost_is_sane(operation: Operation, arguments: tuple[Any, ...]) -> None:
    """Two whole numbers, and traffic of at least one pass over the arguments that the cost claims to read."""
    flops, moved = operation.cost(operation.call(*arguments))
    if not (isinstance(flops, int) and isinstance(moved, int) and flops >= 0 and moved >= 0):
        raise AssertionError(f"kernel '{operation.name}': cost must give two whole numbers, got {flops!r}, {moved!r}")


def _close(
    case: Case, what: str, result: torch.Tensor, baselines: Sequence[torch.Tensor], oracle: torch.Tensor
) -> None:
    if result.shape != oracle.shape:
        case.fail(f"{what} has shape {list(result.shape)}, the reference {list(oracle.shape)}")
    if result.dtype != baselines[0].dtype:
        case.fail(f"{what} is {result.dtype}, the reference gives {baselines[0].dtype}")
    verdict = case.operation.tolerance(result, baselines, oracle)
    if not verdict.holds:
        case.fail(f"{what} is off by {verdict.error:.2e}, allowed {verdict.allowed:.2e}")
