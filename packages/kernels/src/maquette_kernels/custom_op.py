"""Makes torch custom operators of an operation: one forward, one backward, with fakes and autograd.

Both are opaque to torch.compile and pick their implementation when they run, so overrides reach compiled code
too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from maquette_kernels.call import Call
from maquette_kernels.resolution import raise_if_wrong, resolve
from maquette_kernels.specification import Specification, as_tuple

NAMESPACE = "maquette"
_defined: Counter[str] = Counter()


@dataclass(frozen=True)
class Handle:
    """The two operators of one operation, as torch overloads; ``backward`` is None where nothing is
    differentiable.
    """

    forward: Any
    backward: Any

    def call(self, arguments: tuple[Any, ...], needs_grad: bool) -> tuple[torch.Tensor, ...]:
        """Outputs, then residuals, through torch's dispatcher."""
        return as_tuple(self.forward(*arguments, needs_grad))


def _bare(results: tuple[torch.Tensor, ...]) -> Any:
    """torch's operators give one tensor bare, several as a tuple."""
    return results[0] if len(results) == 1 else results


def define(operation: Specification) -> Handle:
    """Register the forward and backward operators of an operation with torch."""
    _defined[operation.name] += 1
    # torch cannot hold two operators of one name, and code compiled against the first must keep working.
    again = f"_{_defined[operation.name]}" if _defined[operation.name] > 1 else ""
    name = f"{NAMESPACE}::{operation.name}{again}"
    forward = torch.library.custom_op(
        name, _forward_body(operation), mutates_args=(), schema=_forward_schema(operation)
    )
    forward.register_fake(_forward_fake(operation))
    if not operation.differentiable:
        return Handle(_overload(name), None)
    backward = torch.library.custom_op(
        f"{name}_backward", _backward_body(operation), mutates_args=(), schema=_backward_schema(operation)
    )
    backward.register_fake(_backward_fake(operation))
    pull = _autograd(operation, _overload(f"{name}_backward"))
    forward.register_autograd(pull, setup_context=_keep(operation))
    return Handle(_overload(name), _overload(f"{name}_backward"))


def _overload(name: str) -> Any:
    namespace, _, operator = name.partition("::")
    return getattr(getattr(torch.ops, namespace), operator).default


def _tensors(count: int) -> str:
    return f"({', '.join(['Tensor'] * count)})"


def _forward_schema(operation: Specification) -> str:
    results = _tensors(operation.output_count + operation.residual_count - len(operation.keeps))
    return f"({operation.signature.schema}, bool needs_grad) -> {results}"


def _backward_schema(operation: Specification) -> str:
    residuals = "".join(f", Tensor residual_{i}" for i in range(operation.residual_count))
    gradients = "".join(f", Tensor? gradient_{i}" for i in range(operation.output_count))
    return f"({operation.signature.schema}{residuals}{gradients}) -> {_tensors(len(operation.differentiable))}"


def run_forward(operation: Specification, arguments: tuple[Any, ...], needs_grad: bool) -> tuple[torch.Tensor, ...]:
    """Outputs, then residuals (kept outputs not repeated), by the implementation that suits the call."""
    results = as_tuple(resolve(operation, arguments, needs_grad).forward(*arguments))
    return tuple([result.contiguous() for result in results])


def run_backward(
    operation: Specification,
    arguments: tuple[Any, ...],
    residuals: tuple[torch.Tensor, ...],
    gradients: tuple[torch.Tensor | None, ...],
) -> tuple[torch.Tensor, ...]:
    """One gradient for each differentiable argument, by the implementation that suits the call."""
    implementation = resolve(operation, arguments, True)
    if implementation.backward is None:
        found: Sequence[torch.Tensor | None] = differentiate_reference(operation, arguments, gradients)
    else:
        found = implementation.backward(arguments, residuals, gradients)
    places = operation.differentiable_places
    return tuple([_settle(gradient, arguments[i]) for gradient, i in zip(found, places, strict=True)])


def _forward_body(operation: Specification) -> Callable[..., Any]:
    def forward(*flat: Any) -> Any:
        return _bare(run_forward(operation, flat[:-1], flat[-1]))

    return forward


def _forward_fake(operation: Specification) -> Callable[..., Any]:
    def fake(*flat: Any) -> Any:
        arguments, needs_grad = flat[:-1], flat[-1]
        raise_if_wrong(operation, Call.of(operation.signature.names, arguments, needs_grad=needs_grad))
        shapes = operation.fake or operation.implementation("reference").forward
        like = shapes(*arguments)
        return _bare(tuple(torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in as_tuple(like)))

    return fake


def _split(operation: Specification, flat: Sequence[Any]) -> tuple[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]:
    first = len(operation.signature.names)
    second = first + operation.residual_count
    return tuple(flat[:first]), tuple(flat[first:second]), tuple(flat[second:])


def _backward_body(operation: Specification) -> Callable[..., Any]:
    def backward(*flat: Any) -> Any:
        return _bare(run_backward(operation, *_split(operation, flat)))

    return backward


def _settle(gradient: torch.Tensor | None, argument: torch.Tensor | None) -> torch.Tensor:
    """A gradient as the fake promised it; operators must return tensors, so an argument left out gets an
    empty one.
    """
    if argument is None:
        return torch.empty(0)
    if gradient is None:
        return torch.zeros(argument.shape, dtype=argument.dtype, device=argument.device)
    if gradient.dtype != argument.dtype:
        gradient = gradient.to(argument.dtype)
    return gradient.contiguous()


def _backward_fake(operation: Specification) -> Callable[..., Any]:
    def fake(*flat: Any) -> Any:
        given = [flat[i] for i in operation.differentiable_places]
        return _bare(
            tuple(torch.empty(0) if t is None else torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in given)
        )

    return fake


def differentiate_reference(
    operation: Specification, arguments: Sequence[Any], gradients: Sequence[torch.Tensor | None]
) -> tuple[torch.Tensor | None, ...]:
    """Gradients of the differentiable arguments through the reference; None for arguments that were left out.

    By functional transforms: inside an operator's body the tape of autograd is switched off.
    """
    places = [i for i in operation.differentiable_places if arguments[i] is not None]
    floating: list[bool] = []

    def outputs(*leaves: torch.Tensor) -> tuple[torch.Tensor, ...]:
        filled = list(arguments)
        for place, leaf in zip(places, leaves, strict=True):
            filled[place] = leaf
        results = as_tuple(operation.reference(*filled))
        floating[:] = [result.is_floating_point() for result in results]
        return tuple(result for result in results if result.is_floating_point())

    differentiated: Any = torch.func.vjp(outputs, *(arguments[i] for i in places))
    results, pull = differentiated
    above = [g for g, has_gradient in zip(gradients, floating, strict=True) if has_gradient]
    weights = tuple(torch.zeros_like(r) if g is None else g for r, g in zip(results, above, strict=True))
    found = dict(zip(places, _own(pull(weights), weights), strict=True))
    return tuple(found.get(i) for i in operation.differentiable_places)


def _own(gradients: Sequence[torch.Tensor], given: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Gradients in memory of their own: that of a sum is its upstream itself, which an operator must not
    return.
    """
    taken = {tensor.untyped_storage().data_ptr() for tensor in given}
    owned = []
    for gradient in gradients:
        storage = gradient.untyped_storage().data_ptr()
        owned.append(gradient.clone() if storage in taken else gradient)
        taken.add(storage)
    return owned


def whole_numbers(outputs: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Outputs that have no gradient because they hold whole numbers."""
    return [output for output in outputs if not output.is_floating_point()]


def remember(
    ctx: Any, operation: Specification, arguments: tuple[Any, ...], residuals: tuple[torch.Tensor, ...]
) -> list[Any]:
    """Save a call's tensors for its backward pass; gives the arguments with None in place of each tensor."""
    places = operation.tensor_places
    ctx.save_for_backward(*[arguments[i] for i in places], *residuals)
    scalars = list(arguments)
    for place in places:
        scalars[place] = None
    return scalars


def recall(ctx: Any, operation: Specification) -> tuple[tuple[Any, ...], tuple[torch.Tensor, ...]]:
    """The arguments and residuals of a remembered call; ``ctx.arguments`` holds its scalars."""
    saved, places = ctx.saved_tensors, operation.tensor_places
    arguments = list(ctx.arguments)
    for place, value in zip(places, saved, strict=False):
        arguments[place] = value
    return tuple(arguments), saved[len(places) :]


def _keep(operation: Specification) -> Callable[[Any, tuple[Any, ...], Any], None]:
    def keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        outputs = as_tuple(output)
        residuals = outputs[operation.output_count :]
        kept = [outputs[i] for i in operation.keeps]
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*residuals, *whole_numbers(outputs[: operation.output_count]))
        ctx.arguments = remember(ctx, operation, inputs[:-1], (*kept, *residuals))

    return keep


def _autograd(operation: Specification, backward: Any) -> Callable[..., tuple[torch.Tensor | None, ...]]:
    def pull(ctx: Any, *gradients: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
        wanted = gradients[: operation.output_count]
        result: list[torch.Tensor | None] = [None] * (len(ctx.arguments) + 1)
        if all(gradient is None for gradient in wanted):
            return tuple(result)
        arguments, residuals = recall(ctx, operation)
        found = as_tuple(backward(*arguments, *residuals, *wanted))
        for place, gradient in zip(operation.differentiable_places, found, strict=True):
            if ctx.needs_input_grad[place]:
                result[place] = gradient
        return tuple(result)

    return pull
