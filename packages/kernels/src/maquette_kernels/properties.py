"""What every operation must satisfy, one function a property; each raises AssertionError with one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch

from maquette_kernels.layouts import arrange, describe, upstream, widen
from maquette_kernels.operation import Operation
from maquette_kernels.resolution import fixed
from maquette_kernels.specification import as_tuple
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
    outputs = tuple(o for o in outputs if o.is_floating_point())
    like = [torch.empty_like(o, dtype=_dtype_of(case)) for o in outputs]
    gradients = [g if g is None else g.to(o.dtype) for g, o in zip(_above(like, case), outputs, strict=True)]
    pairs = [(o, g) for o, g in zip(outputs, gradients, strict=True) if g is not None and o.requires_grad]
    wanted = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and leaf.requires_grad]
    if not pairs:
        return [torch.zeros_like(leaf) for leaf in wanted]
    return list(
        torch.autograd.grad(
            [o for o, _ in pairs], wanted, [g for _, g in pairs], allow_unused=True, materialize_grads=True
        )
    )


def _dtype_of(case: Case) -> torch.dtype:
    floating = (v.dtype for v in case.arguments if isinstance(v, torch.Tensor) and v.is_floating_point())
    return next(floating, torch.float32)


def _above(like: Sequence[torch.Tensor], case: Case) -> list[torch.Tensor | None]:
    return upstream(like, case.upstream, case.seed)


def values(case: Case) -> None:
    """Outputs and residuals against the fp64 reference, by the operation's tolerance or its judge."""
    operation = case.operation
    forward = operation.implementation("reference").forward
    results, oracles = run(case), as_tuple(forward(*map(widen, case.arguments)))
    judged = 0
    if operation.judge is not None:
        judged = operation.output_count
        _alike(case, results[:judged], as_tuple(forward(*case.arguments))[:judged])
        wrong = operation.judge(case.arguments, results[:judged], oracles[:judged])
        if wrong is not None:
            case.fail(wrong)
    baselines = zip(*(as_tuple(forward(*arguments)) for arguments in case.nearby), strict=True)
    for index, (result, several, oracle) in enumerate(zip(results, baselines, oracles, strict=True)):
        if index >= judged:
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
    if not all(equal_bits(a, b) for a, b in zip(first, second, strict=True)):
        case.fail("repeating the call changes the bits, though it is declared deterministic")


def _everything(case: Case) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    if case.operation.differentiable:
        with fixed(case.operation, case.implementation):
            found = differentiate(case.operation, case.operation, case.arranged, case)
    return [*run(case), *found]


def equal_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors are the same bit for bit, NaN included."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.numel() == 0:
        return True
    # Not contiguous(), which leaves odd strides of dimensions of size 1 as they are.
    plain = (x.clone(memory_format=torch.contiguous_format).view(-1).view(torch.uint8) for x in (a, b))
    return torch.equal(*plain)


def laws_hold(case: Case) -> None:
    """The operation's metamorphic properties, and that its backward is the adjoint of what is linear."""
    operation = case.operation

    def anew(*arguments: Any) -> tuple[torch.Tensor, ...]:
        complete = operation.signature.complete(arguments, {})
        with fixed(operation, case.implementation), torch.no_grad():
            return operation.handle.call(complete, False)[: operation.output_count]

    for law in operation.laws:
        try:
            law(anew, case.arguments)
        except AssertionError as error:
            case.fail(f"breaks the law '{law.__name__}': {str(error).splitlines()[0] if str(error) else ''}", error)
    for name in operation.linear:
        _adjoint(case, name)


def _adjoint(case: Case, name: str) -> None:
    """``<f(x) - f(0), g> = <x, pull(g)>``: a test of the backward that needs no reference."""
    operation, place = case.operation, case.operation.signature.names.index(name)
    x = case.arguments[place]
    if x is None or x.dtype != torch.float32:  # narrow dtypes would need bounds as wide as the products
        return
    leaf = x.detach().requires_grad_()
    filled = [*case.arguments[:place], leaf, *case.arguments[place + 1 :]]
    nothing = [*case.arguments[:place], torch.zeros_like(x), *case.arguments[place + 1 :]]
    with fixed(operation, case.implementation):
        output = as_tuple(operation(*filled))[0]
        at_zero = as_tuple(operation(*nothing))[0].detach()
    above = torch.randn(output.shape, generator=torch.Generator().manual_seed(case.seed)).to(output)
    pulled = torch.autograd.grad(output, leaf, above)[0]
    forward = ((output.detach().double() - at_zero.double()) * above.double()).sum()
    backward = (leaf.detach().double() * pulled.double()).sum()
    scale = ((output.detach().double().abs() + at_zero.double().abs()) * above.double().abs()).sum()
    scale = scale + (leaf.detach().double() * pulled.double()).abs().sum()
    if (forward - backward).abs() > 1e-5 * scale + 1e-30:
        case.fail(f"its backward is not the adjoint in {name}: {forward.item():.6e} against {backward.item():.6e}")


def _alike(case: Case, results: Sequence[torch.Tensor], like: Sequence[torch.Tensor]) -> None:
    """Dtypes and numbers of dimensions as the reference gives them; sizes may hang on decisions."""
    for index, (result, expected) in enumerate(zip(results, like, strict=True)):
        if result.dtype != expected.dtype or result.dim() != expected.dim():
            told = f"{result.dtype} with {result.dim()} dimensions, the reference gives {expected.dtype} with"
            case.fail(f"result {index} is {told} {expected.dim()}")


def _close(
    case: Case, what: str, result: torch.Tensor, baselines: Sequence[torch.Tensor], oracle: torch.Tensor
) -> None:
    if result.shape != oracle.shape:
        case.fail(f"{what} has shape {list(result.shape)}, the reference {list(oracle.shape)}")
    if result.dtype != baselines[0].dtype:
        case.fail(f"{what} is {result.dtype}, the reference gives {baselines[0].dtype}")
    if not result.is_floating_point():
        if not torch.equal(result, oracle.to(result.dtype)):
            case.fail(f"{what} differs in {(result != oracle).sum().item()} of {result.numel()} whole numbers")
        return
    verdict = case.operation.tolerance(result, baselines, oracle)
    if not verdict.holds:
        case.fail(f"{what} is off by {verdict.error:.2e}, allowed {verdict.allowed:.2e}")
