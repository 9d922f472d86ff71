"""What an operation is made of: an obvious reference, the implementations that stand in for it, and what is
known about both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from maquette.errors import MaquetteError, unknown_name
from maquette_kernels.call import Call
from maquette_kernels.implementation import Arguments, Implementation, Tensors, takes_everything
from maquette_kernels.signature import Signature, count_tensors
from maquette_kernels.tolerance import Tolerance, flash_attention_rule

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

Judge = Callable[[Arguments, Tensors, Tensors], str | None]
"""``judge(arguments, results, oracles)`` gives what is wrong with the outputs of a call, or None."""

Law = Callable[[Callable[..., Tensors], Arguments], None]
"""``law(run, arguments)`` runs an implementation on arguments that it changes in ways with a known effect, and
raises AssertionError where the effect is another.
"""


def no_residuals(*arguments: Any) -> tuple[()]:
    """``residuals`` of an operation that keeps nothing but its arguments for the backward pass."""
    return ()


@dataclass(frozen=True, eq=False)
class Specification:
    """An operation's parts.

    Attributes:
        name: a Python identifier, unique in the process.
        reference: obvious torch code, right in fp64; its annotated signature is the operation's
            (``Tensor``, ``Tensor | None``, ``float``, ``int``, ``bool``; returns a Tensor or a tuple of
            them).
        inputs: ``inputs(dtype)`` gives a hypothesis strategy of argument tuples with activations of that
            dtype; a function, so that hypothesis is needed only in tests.
        example: ``example(device, dtype)`` gives one small typical tuple of arguments, away from kinks.
        cost: ``cost(call)`` gives ``(flops, bytes)`` of the forward pass at its best.
        implementations: in order of preference; ``"reference"`` is always added last.
        residuals: the obvious code for what forward passes keep besides the arguments:
            ``residuals(*arguments)``.
        keeps: indices of outputs that backward passes get too, ahead of the residuals.
        constants: tensor parameters that have no gradient.
        fake: shapes of outputs and residuals, ``fake(*arguments)``; by default the reference runs on fake
            tensors. Sizes that depend on data are ``torch.library.get_ctx().new_dynamic_size()``.
        validate: what is wrong with a call as such (shapes that do not fit), or None.
        tolerance: when a floating-point result counts as right; whole numbers must be equal.
        deterministic: whether repeating a call gives equal bits.
        dtypes: dtypes that ``inputs`` is asked for.
        judge: for outputs that hold decisions (the nearer of two points): compares all outputs of a call with
            the reference's in fp64 at once, instead of ``tolerance`` one by one.
        laws: metamorphic properties, which need no reference.
        linear: tensor parameters in which the first output is linear, the others held fixed.
        workload: ``workload(device, dtype)`` gives one large realistic call, for benchmarks; by default the
            example.
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
    dtypes: tuple[torch.dtype, ...] = (torch.float32, torch.bfloat16)
    judge: Judge | None = None
    laws: tuple[Law, ...] = ()
    linear: tuple[str, ...] = ()
    workload: Callable[[torch.device, torch.dtype], Arguments] | None = None
    chosen: dict[tuple[Any, ...], Implementation] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise MaquetteError(f"kernel '{self.name}': a name is a Python identifier; rename it")
        obvious = Implementation("reference", self._reference_forward)
        object.__setattr__(self, "implementations", (*self.implementations, obvious))
        names = [implementation.name for implementation in self.implementations]
        if len(set(names)) < len(names):
            raise MaquetteError(f"kernel '{self.name}': implementations {names} share a name; rename one")
        for field_name, given in (("constants", self.constants), ("linear", self.linear)):
            for name in given:
                if name not in self.signature.tensors:
                    raise MaquetteError(f"kernel '{self.name}': {field_name} names '{name}', which is no tensor of it")

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

    def implementation(self, name: str) -> Implementation:
        """One of the implementations by name.

        Raises:
            MaquetteError: there is none of that name.
        """
        for implementation in self.implementations:
            if implementation.name == name:
                return implementation
        known = [implementation.name for implementation in self.implementations]
        raise unknown_name(f"implementation of kernel '{self.name}':", name, known)

    def _reference_forward(self, *arguments: Any) -> Tensors:
        return (*as_tuple(self.reference(*arguments)), *self.residuals(*arguments))


def as_tuple(results: Any) -> Tensors:
    """What an operator or a reference gave, one tensor or several, as a tuple."""
    return (results,) if isinstance(results, torch.Tensor) else tuple(results)
