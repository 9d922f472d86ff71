"""The facts about one call on which an implementation may be chosen: never the tensors' data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch


@dataclass(frozen=True)
class Operand:
    """One tensor argument: where it lies and how, never what it holds."""

    device: torch.device
    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def numel(self) -> int:
        """Number of elements."""
        count = 1
        for size in self.shape:
            count *= size
        return count

    @property
    def bytes(self) -> int:
        """Size of the elements in bytes, holes between strided rows not counted."""
        return self.numel * self.dtype.itemsize


@dataclass(frozen=True)
class Call:
    """One call: its tensors as operands by parameter name (None where one was left out), its scalars, and
    whether it is differentiated.
    """

    operands: Mapping[str, Operand | None]
    scalars: Mapping[str, Any]
    needs_grad: bool = False

    @classmethod
    def of(cls, names: Sequence[str], arguments: Sequence[Any], *, needs_grad: bool = False) -> Call:
        """Describe the arguments of a call, given in the order of ``names``."""
        operands: dict[str, Operand | None] = {}
        scalars: dict[str, Any] = {}
        for name, value in zip(names, arguments, strict=True):
            if isinstance(value, torch.Tensor):
                operands[name] = Operand(value.device, value.dtype, tuple(value.shape), tuple(value.stride()))
            elif value is None:
                operands[name] = None
            else:
                scalars[name] = value
        return cls(operands, scalars, needs_grad)

    def __getitem__(self, name: str) -> Operand:
        operand = self.operands[name]
        if operand is None:
            raise KeyError(name)
        return operand

    def has(self, name: str) -> bool:
        """Whether the tensor argument ``name`` was given."""
        return self.operands.get(name) is not None

    @property
    def given(self) -> dict[str, Operand]:
        """The tensor arguments that were given."""
        return {name: operand for name, operand in self.operands.items() if operand is not None}

    @property
    def device(self) -> torch.device:
        """The device of the first tensor argument."""
        return next(iter(self.given.values())).device

    def on(self, device: str | torch.device) -> Call:
        """The same call as if its tensors lay on another device, which need not exist here."""
        device = torch.device(device)
        moved = {n: None if o is None else replace(o, device=device) for n, o in self.operands.items()}
        return replace(self, operands=moved)


@cache
def capability(device: torch.device) -> tuple[int, int] | None:
    """Compute capability of a CUDA device, e.g. ``(9, 0)``; None for others and where CUDA is absent."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return None
    return torch.cuda.get_device_capability(device)


def mixed_devices(call: Call) -> str | None:
    """Why a call cannot run at all where its tensors lie on several devices; None where they share one."""
    places = {str(operand.device): name for name, operand in call.given.items()}
    if len(places) < 2:
        return None
    where = ", ".join(f"{name} on {device}" for device, name in places.items())
    return f"its tensors lie on several devices ({where}); move them to one"


def on_cpu(call: Call) -> str | None:
    """Why a path for CPU tensors cannot run a call, or None."""
    device = call.device.type
    return None if device == "cpu" else f"needs CPU tensors, got {device}"
