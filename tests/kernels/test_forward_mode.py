"""Tangents go through operations: torch.func.jvp against differences, where an operator would drop them silently."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from maquette_kernels import ops


def tensors(*shapes: tuple[int, ...]) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)


ROPE = tensors((2, 5, 3, 12), (2, 5, 3, 12), (12,), (12,))
GATED = tensors((2, 5, 12), (2, 5, 12), (2, 12), (2, 12), (2, 12))


def rope(*inputs: Tensor) -> Any:
    return ops.qk_norm_rope(*inputs, torch.arange(15.0).view(5, 3), theta=100.0)


@pytest.mark.parametrize(("operation", "inputs"), [(rope, ROPE), (ops.gated_norm_modulate, GATED)])
@pytest.mark.parametrize("trained", [False, True])
def test_jvp_is_what_differences_say(operation: Callable[..., Any], inputs: tuple[Tensor, ...], trained: bool) -> None:
    inputs = tuple(tensor.clone().requires_grad_(trained) for tensor in inputs)
    tangents, step = tuple(torch.cos(7 * tensor).detach() for tensor in inputs), 1e-5
    _, found = torch.func.jvp(operation, inputs, tangents)
    forward, back = (
        operation(*(tensor + sign * step * tangent for tensor, tangent in zip(inputs, tangents, strict=True)))
        for sign in (1, -1)
    )
    for tangent, ahead, behind in zip(found, forward, back, strict=True):
        assert tangent.abs().max() > 0.1
        torch.testing.assert_close(tangent, (ahead - behind) / (2 * step), atol=1e-6, rtol=1e-6)
