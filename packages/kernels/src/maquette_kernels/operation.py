"""An operation: a specification that can be called, differentiably."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch.autograd import forward_ad

from maquette.errors import MaquetteError
from maquette_kernels.call import Call
from maquette_kernels.custom_op import Handle, define
from maquette_kernels.eager import is_watched, run_eagerly
from maquette_kernels.implementation import Arguments, Implementation, takes_everything
from maquette_kernels.resolution import resolve
from maquette_kernels.specification import Specification

__all__ = ["Implementation", "NoSettings", "Operation", "takes_everything"]


@dataclass(frozen=True)
class NoSettings:
    """Nothing to configure: the config of an operation, which its call says everything about."""


@dataclass(frozen=True, eq=False)
class Operation(Specification):
    """One operation. Calling it runs the best implementation for the call, differentiably."""

    def __post_init__(self) -> None:
        super().__post_init__()
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
    def handle(self) -> Handle:
        """The custom operators of torch behind this operation, made on first use."""
        return define(self)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """Run the operation; parameters and results are those of the reference."""
        if named or len(arguments) != len(self.signature.names):
            arguments = self.signature.complete(arguments, named)
        if not torch.compiler.is_compiling() and in_forward_mode():
            return self.reference(*arguments)
        needs_grad = differentiates(arguments)
        if torch.compiler.is_compiling() or is_watched(arguments):
            results = self.handle.call(arguments, needs_grad)
        else:
            results = run_eagerly(self, arguments, needs_grad)
        if self.output_count == 1:
            return results[0]
        return tuple(results[: self.output_count])

    def call(self, *arguments: Any, **named: Any) -> Call:
        """Describe a call without running it."""
        complete = self.signature.complete(arguments, named)
        return Call.of(self.signature.names, complete, needs_grad=differentiates(complete))

    def resolve(self, arguments: Arguments, needs_grad: bool) -> Implementation:
        """The implementation that runs a call; see :func:`maquette_kernels.resolution.resolve`."""
        return resolve(self, arguments, needs_grad)

    def large(self, device: torch.device, dtype: torch.dtype) -> Arguments:
        """One large realistic call, for benchmarks."""
        return (self.workload or self.example)(device, dtype)


def differentiates(arguments: Arguments) -> bool:
    """Whether autograd will want the backward pass of a call with these arguments."""
    if not torch.is_grad_enabled():
        return False
    return any(isinstance(value, torch.Tensor) and value.requires_grad for value in arguments)


def in_forward_mode() -> bool:
    """Whether tangents may be under way (torch.func.jvp). Implementations have none, and a custom operator without them
    counts as a constant, silently; the reference is made of torch's own operations, which have.
    """
    return forward_ad._current_level >= 0
