"""Which implementation runs a call, and why the others do not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from maquette.errors import MaquetteError
from maquette_kernels.call import Call, mixed_devices
from maquette_kernels.implementation import Arguments, Implementation
from maquette_kernels.overrides import OVERRIDES
from maquette_kernels.specification import Specification

_REMEMBERED = 4096


@dataclass(frozen=True)
class Explanation:
    """One implementation's fate for one call. ``refusal`` is None where it could run."""

    implementation: str
    chosen: bool
    refusal: str | None


def resolve(operation: Specification, arguments: Arguments, needs_grad: bool) -> Implementation:
    """The implementation that runs a call; remembered by the call's facts.

    Raises:
        MaquetteError: the call does not fit, or the implementation that a user fixed refuses it.
    """
    key = (OVERRIDES.version, needs_grad, *map(_fact, arguments))
    chosen = operation.chosen.get(key)
    if chosen is None:
        call = Call.of(operation.signature.names, arguments, needs_grad=needs_grad)
        raise_if_wrong(operation, call)
        chosen = choose(operation, call)
        if len(operation.chosen) >= _REMEMBERED:  # ragged lengths differ every step; do not grow without bound
            operation.chosen.clear()
        operation.chosen[key] = chosen
    return chosen


def raise_if_wrong(operation: Specification, call: Call) -> None:
    """Reject a call that no implementation could run.

    Raises:
        MaquetteError: naming the operand at fault.
    """
    reason = mixed_devices(call) or operation.validate(call)
    if reason is not None:
        raise MaquetteError(f"kernel '{operation.name}': {reason}")


def choose(operation: Specification, call: Call) -> Implementation:
    """The implementation that runs a call: the fixed one, else the first that does not refuse."""
    wanted = OVERRIDES.get(operation.name)
    if wanted is not None:
        implementation = operation.implementation(wanted)
        refusal = implementation.supports(call)
        if refusal is not None:
            raise MaquetteError(
                f"kernel '{operation.name}': '{wanted}' was asked for but refuses this call: {refusal}; "
                f"drop the override or change the call"
            )
        return implementation
    refusals = []
    for implementation in operation.implementations:
        refusal = implementation.supports(call)
        if refusal is None:
            return implementation
        refusals.append(f"{implementation.name}: {refusal}")
    raise MaquetteError(f"kernel '{operation.name}': no implementation takes this call ({'; '.join(refusals)})")


def explain(operation: Specification, call: Call) -> list[Explanation]:
    """What :func:`choose` would do with a call, and why each other implementation was passed over."""
    wanted = OVERRIDES.get(operation.name)
    told: list[Explanation] = []
    taken = False
    for implementation in operation.implementations:
        refusal = implementation.supports(call)
        chosen = refusal is None and (implementation.name == wanted if wanted else not taken)
        taken = taken or chosen
        told.append(Explanation(implementation.name, chosen, refusal))
    return told


@contextmanager
def fixed(operation: Specification, implementation: str) -> Iterator[None]:
    """Within the block, every call of an operation, registered or not, runs one implementation.

    Raises:
        MaquetteError: the operation has no such implementation; inside the block, a call that it refuses.
    """
    operation.implementation(implementation)
    before = OVERRIDES.current(operation.name)
    OVERRIDES.set(operation.name, implementation)
    try:
        yield
    finally:
        OVERRIDES.set(operation.name, before)


def _fact(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.device, value.dtype, value.shape, value.stride()
    return value
