"""What an operation is: an obvious reference, the implementations that stand in for it, and one
differentiable call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from maquette.errors import MaquetteError
from maquette_kernels.call import Call, mixed_devices
from maquette_kernels.custom_op import Handle, as_tuple, define
from maquette_kernels.eager import is_watched, run_eagerly
from maquette_kernels.resolution import OVERRIDES, choose, unknown_implementation
from maquette_kernels.signature import Signature, count_tensors
from maquette_kernels.tolerance import Tolerance, flash_attention_rule

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

Arguments = tuple[Any, ...]
Tensors = tuple[torch.Tensor, ...]
Backward = Callable[[Arguments, Tensors, tuple[torch.Tensor | None, ...]], Sequence[torch.Tensor | None]]

_REMEMBERED = 4096


def takes_everything(call: Call) -> str | None:
    """``supports`` of an implementation that refuses nothing, as the reference."""
    return None


def no_residuals(*arguments: Any) -> tuple[()]:
    """``residuals`` of an operation that keeps nothing but its arguments for the backward pass."""
    return ()


@dataclass(frozen=True)
class Implementation:
    """One way to compute an operation.

    Attributes:
        name: as the user writes it in an override: ``"cpu"``, ``"triton"``.
        forward: ``forward(*arguments)``, all parameters of the reference in order, gives the outputs, then
            the residuals (one tensor alone may be bare).
        backward: ``backward(arguments, residuals, gradients)`` gives one gradient (or None) for each of the
            operation's ``differentiable`` parameters; outputs that the operation ``keeps`` come first among
            the residuals; a gradient of an unused output comes in as None. Without it, the backward pass
            differentiates the reference.
        supports: the reason why a call is refused, or None. It sees devices, dtypes, shapes and strides only.
        compilations: what to compile ahead of time to check GPU code where there is no GPU (see
            ``triton_support``).
    """

    name: str
    forward: Callable[..., Sequence[torch.Tensor] | torch.Tensor]
    backward: Backward | None = None
    supports: Callable[[Call], str | None] = takes_everything
    compilations: Callable[[], Sequence[Any]] | None = None


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation. Calling it runs the best implementation for the call, differentiably.

    Attributes:
        name: a Python identifier, unique in the process.
        reference: obvious torch code, right in fp64; its annotated signature is the operation's
            (``Tensor``, ``Tensor | None``, ``float``, ``int``, ``bool``; returns a Tensor or a tuple of
            them).
        inputs: ``inputs(dtype)`` gives a hypothesis strategy of argument tuples with activations of that
            dtype; a function, so that hypothesis is needed only in tests.
        example: ``example(device, dtype)`` gives one typical tuple of arguments.
        cost: ``cost(call)`` gives ``(flops, bytes)`` of the forward pass at its best.
        implementations: in order of preference; ``"reference"`` is always added last.
        residuals: the obvious code for what forward passes keep besides the arguments:
            ``residuals(*arguments)``.
        keeps: indices of outputs that backward passes get too, ahead of the residuals.
        constants: tensor parameters that have no gradient.
        fake: shapes of outputs and residuals, ``fake(*arguments)``; by default the reference runs on fake
            tensors.
        validate: what is wrong with a call as such (shapes that do not fit), or None.
        tolerance: when a result counts as right.
        deterministic: whether repeating a call gives equal bits.
    """

    name: str
    reference: Callable[..., Any]
    inputs: Callable[[torch.dtype], SearchStrategy[Arguments]]
    example: Callable[[torch.device, torch.dtype], Arguments]
    cost: Callable[[Call], tuple[int, int]]
    implementations: tuple[Implementation, ...] = ()
    residuals: Callable[..., Tensors] = no_residuals
    keeps: tuple[int, ...] = ()
    constants: tuple[str, ...] = ()
    fake: Callable[..., Tensors] | None = None
    validate: Callable[[Call], str | None] = takes_everything
    tolerance: Tolerance = flash_attention_rule
    deterministic: bool = True
    _chosen: dict[tuple[Any, ...], Implementation] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise MaquetteError(f"kernel '{self.name}': a name is a Python identifier; rename it")
        obvious = Implementation("reference", self._reference_forward)
        object.__setattr__(self, "implementations", (*self.implementations, obvious))
        names = [implementation.name for implementation in self.implementations]
        if len(set(names)) < len(names):
            raise MaquetteError(f"kernel '{self.name}': implementations {names} share a name; rename one")
        _ = self.handle  # made now, so that a faulty annotation is told where the operation is made

    @staticmethod
    def checked(candidate: Any, name: str) -> Operation:
        """``candidate``, which a plugin built under ``name``, if it is an Operation of that name.

        Raises:
            MaquetteError: it is something else.
        """
        if not isinstance(candidate, Operation):
            kind = type(candidate).__name__
            raise MaquetteError(f"kernel '{name}': build gave a {kind}; it must give a maquette_kernels Operation")
        if candidate.name != name:
            raise MaquetteError(f"kernel '{name}': build gave the operation '{candidate.name}'; use one name for both")
        return candidate

    @cached_property
    def signature(self) -> Signature:
        """Parameters of the reference, read from its annotations."""
        return Signature.of(self.reference, self.name)

    @cached_property
    def output_count(self) -> int:
        """Number of tensors that a call gives."""
        return count_tensors(self.reference, self.name)

    @cached_property
    def residual_count(self) -> int:
        """Number of tensors kept for the backward pass besides the arguments, outputs among them included."""
        own = 0 if self.residuals is no_residuals else count_tensors(self.residuals, self.name)
        return len(self.keeps) + own

    @cached_property
    def differentiable(self) -> tuple[str, ...]:
        """Parameters that get a gradient, in order."""
        return tuple(name for name in self.signature.tensors if name not in self.constants)

    @cached_property
    def differentiable_places(self) -> tuple[int, ...]:
        """Where the differentiable parameters stand among all."""
        return tuple(self.signature.names.index(name) for name in self.differentiable)

    @cached_property
    def tensor_places(self) -> tuple[int, ...]:
        """Where the tensor parameters stand among all."""
        return tuple(self.signature.names.index(name) for name in self.signature.tensors)

    @cached_property
    def handle(self) -> Handle:
        """The custom operators of torch behind this operation, made on first use."""
        return define(self)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Run the operation; parameters and results are those of the reference."""
        if named or len(arguments) != len(self.signature.names):
            arguments = self.signature.complete(arguments, named)
        needs_grad = differentiates(arguments)
        if torch.compiler.is_compiling() or is_watched(arguments):
            results = self.handle.call(arguments, needs_grad)
        else:
            results = run_eagerly(self, arguments, needs_grad)
        if self.output_count == 1:
            return results[0]
        return tuple(results[: self.output_count])

    def implementation(self, name: str) -> Implementation:
        """One of the implementations by name.

        Raises:
            MaquetteError: there is none of that name.
        """
        for implementation in self.implementations:
            if implementation.name == name:
                return implementation
        raise unknown_implementation(self, name)

    def call(self, *arguments: Any, **named: Any) -> Call:
        """Describe a call without running it."""
        complete = self.signature.complete(arguments, named)
        return Call.of(self.signature.names, complete, needs_grad=differentiates(complete))

    def resolve(self, arguments: Arguments, needs_grad: bool) -> Implementation:
        """The implementation that runs a call; remembered by the call's facts."""
        key = (OVERRIDES.version, needs_grad, *map(_fact, arguments))
        chosen = self._chosen.get(key)
        if chosen is None:
            call = Call.of(self.signature.names, arguments, needs_grad=needs_grad)
            self.raise_if_wrong(call)
            chosen = choose(self, call)
            if len(self._chosen) >= _REMEMBERED:  # ragged lengths differ every step; do not grow without bound
                self._chosen.clear()
            self._chosen[key] = chosen
        return chosen

    def raise_if_wrong(self, call: Call) -> None:
        """Reject a call that no implementation could run.

        Raises:
            MaquetteError: naming the operand at fault.
        """
        reason = mixed_devices(call) or self.validate(call)
        if reason is not None:
            raise MaquetteError(f"kernel '{self.name}': {reason}")

    def _reference_forward(self, *arguments: Any) -> Tensors:
        return (*as_tuple(self.reference(*arguments)), *self.residuals(*arguments))


def differentiates(arguments: Arguments) -> bool:
    """Whether autograd will want the backward pass of a call with these arguments."""
    if not torch.is_grad_enabled():
        return False
    return any(isinstance(value, torch.Tensor) and value.requires_grad for value in arguments)


def _fact(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.device, value.dtype, value.shape, value.stride()
    return value
