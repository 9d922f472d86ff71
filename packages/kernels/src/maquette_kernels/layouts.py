"""Test cases in the layouts that models really pass: views of larger buffers, transposed tensors, expanded
gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

LAYOUTS = ("contiguous", "inner", "transposed")
UPSTREAMS = ("random", "expanded", "first", "last")


def arrange(x: torch.Tensor, layout: str, place: int) -> torch.Tensor:
    """The same values in another layout; it differs with ``place``, so that no two arguments share their
    strides.

    ``inner`` is a view of the middle of a buffer of NaN (of -1 for integers): rows are further apart than
    they are long and do not begin at the storage's start, so reading outside poisons the result.
    ``transposed`` swaps the two outer dimensions of every other argument in memory; rows stay contiguous.
    """
    if layout == "inner" and x.dim():
        filler = float("nan") if x.dtype.is_floating_point else -1
        buffer = torch.full([size + 3 + place for size in x.shape], filler, dtype=x.dtype, device=x.device)
        view = buffer[tuple(slice(2, 2 + size) for size in x.shape)]
        view.copy_(x)
        return view
    if layout == "transposed" and x.dim() > 2 and place % 2 == 0:
        return x.transpose(0, 1).contiguous().transpose(0, 1)
    return x.clone()


def upstream(outputs: Sequence[torch.Tensor], kind: str, seed: int) -> list[torch.Tensor | None]:
    """Gradients that come in from above.

    ``random`` for all outputs, ``expanded`` from one number with all strides 0 (as ``sum().backward()``
    gives), or None for all outputs but the ``first`` or ``last``.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(output: torch.Tensor) -> torch.Tensor:
        values = torch.randn(output.shape, generator=generator)
        return values.to(output.device, output.dtype)

    if kind == "expanded":
        return [torch.full((), 0.5, dtype=o.dtype, device=o.device).expand(o.shape) for o in outputs]
    gradients: list[torch.Tensor | None] = [draw(output) for output in outputs]
    if kind == "first":
        return gradients[:1] + [None] * (len(gradients) - 1)
    if kind == "last":
        return [None] * (len(gradients) - 1) + gradients[-1:]
    return gradients


def widen(value: Any) -> Any:
    """A floating-point tensor in fp64; anything else as it is."""
    if isinstance(value, torch.Tensor) and value.is_floating_point():
        return value.detach().double()
    return value


def describe(names: Sequence[str], arguments: Sequence[Any]) -> str:
    """Arguments in one line: ``q float32 [2, 7, 3, 16], eps 1e-06``."""
    told = []
    for name, value in zip(names, arguments, strict=True):
        if isinstance(value, torch.Tensor):
            told.append(f"{name} {str(value.dtype).removeprefix('torch.')} {list(value.shape)}")
        else:
            told.append(f"{name} {value}")
    return ", ".join(told)
