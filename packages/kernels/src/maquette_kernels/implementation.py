"""One way to compute an operation, and how one is named by its module and imported on first use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch

from maquette_kernels.call import Call, on_cpu

Arguments = tuple[Any, ...]
Tensors = tuple[torch.Tensor, ...]
Backward = Callable[[Arguments, Tensors, tuple[torch.Tensor | None, ...]], Sequence[torch.Tensor | None]]


def takes_everything(call: Call) -> str | None:
    """``supports`` of an implementation that refuses nothing, as the reference."""
    return None


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


def lazy(
    name: str,
    module: str,
    supports: Callable[[Call], str | None] = takes_everything,
    *,
    backward: bool = False,
    compilations: bool = False,
) -> Implementation:
    """An implementation whose module is imported when it first runs, so that naming it costs nothing.

    Args:
        name: as the user writes it in an override.
        module: full name of the module that holds ``forward`` and, where promised, ``backward`` and
            ``compilations``.
        supports: the reason why a call is refused, or None.
        backward: whether the module has a ``backward``.
        compilations: whether the module has ``compilations``.
    """

    def run_forward(*arguments: Any) -> Any:
        with _device_of(arguments):
            return import_module(module).forward(*arguments)

    def run_backward(arguments: Arguments, residuals: Tensors, gradients: tuple[torch.Tensor | None, ...]) -> Any:
        with _device_of(arguments):
            return import_module(module).backward(arguments, residuals, gradients)

    def list_compilations() -> Any:
        return import_module(module).compilations()

    return Implementation(
        name, run_forward, run_backward if backward else None, supports, list_compilations if compilations else None
    )


def twins(
    package: str,
    triton: Callable[[Call], str | None],
    *,
    cpu: Callable[[Call], str | None] = on_cpu,
    backward: bool = False,
    kernels: str = "triton_kernels",
) -> tuple[Implementation, Implementation]:
    """What stands beside nearly every operation's reference: ``cpu`` and ``triton``, in modules of its package.

    Args:
        package: the operation's package, which holds ``cpu.py`` and the module named by ``kernels``.
        triton: ``supports`` of the Triton path.
        cpu: ``supports`` of the CPU path.
        backward: whether both have a backward pass.
        kernels: name of the module with the Triton path.
    """
    return (
        lazy("cpu", f"{package}.cpu", cpu, backward=backward),
        lazy("triton", f"{package}.{kernels}", triton, backward=backward, compilations=True),
    )


def _device_of(arguments: Arguments) -> torch.cuda.device_of:
    """Triton launches on the current device, not on its tensors'."""
    return torch.cuda.device_of(next(value for value in arguments if isinstance(value, torch.Tensor)))
