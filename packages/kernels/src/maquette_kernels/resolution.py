"""Which implementation runs a call, why the others do not, and how to override the choice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from maquette.errors import MaquetteError, unknown_name
from maquette_kernels.call import Call

if TYPE_CHECKING:
    from maquette_kernels.operation import Implementation, Operation

ENVIRONMENT = "MAQUETTE_KERNELS"
"""Environment variable with overrides, ``"operation=implementation,..."``, read when first needed."""


@dataclass(frozen=True)
class Explanation:
    """One implementation's fate for one call. ``refusal`` is None where it could run."""

    implementation: str
    chosen: bool
    refusal: str | None


class Overrides:
    """Operations whose implementation a user has fixed, for the whole process.

    Not a context variable: autograd runs backward passes in threads of its own, which would not see it.
    """

    def __init__(self) -> None:
        self._by_context: dict[str, str] = {}
        self._by_environment: dict[str, str] | None = None
        self.version = 0

    def get(self, name: str) -> str | None:
        """The implementation fixed for an operation, or None."""
        if self._by_environment is None:
            self._by_environment = parse(os.environ.get(ENVIRONMENT, ""))
        return self._by_context.get(name) or self._by_environment.get(name)

    def set(self, name: str, implementation: str | None) -> None:
        """Fix or, with None, free an operation. Every memoised resolution is void afterwards."""
        if implementation is None:
            self._by_context.pop(name, None)
        else:
            self._by_context[name] = implementation
        self.version += 1

    def current(self, name: str) -> str | None:
        """What a context manager has fixed, the environment left aside."""
        return self._by_context.get(name)

    def reread(self) -> None:
        """Forget what the environment said, so that it is read again."""
        self._by_environment = None
        self.version += 1


OVERRIDES = Overrides()


def parse(text: str) -> dict[str, str]:
    """Read ``"qk_norm_rope=triton,gated_norm_modulate=reference"``; every name is checked.

    Raises:
        MaquetteError: bad syntax, unknown operation or unknown implementation.
    """
    # The registry imports operations, which import this module.
    from maquette_kernels.registry import find

    chosen: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, equals, implementation = (piece.strip() for piece in item.partition("="))
        if not equals:
            raise MaquetteError(f"{ENVIRONMENT}: '{item}' is not written operation=implementation")
        find(name).implementation(implementation)
        chosen[name] = implementation
    return chosen


@contextmanager
def fixed(operation: Operation, implementation: str) -> Iterator[None]:
    """:func:`use` for an operation at hand, registered or not."""
    operation.implementation(implementation)
    before = OVERRIDES.current(operation.name)
    OVERRIDES.set(operation.name, implementation)
    try:
        yield
    finally:
        OVERRIDES.set(operation.name, before)


@contextmanager
def use(operation: str, implementation: str) -> Iterator[None]:
    """Within the block, every call of an operation runs one implementation, in all threads of the process.

    Args:
        operation: a registered name, e.g. ``"qk_norm_rope"``.
        implementation: one of its implementations, e.g. ``"reference"``.

    Raises:
        MaquetteError: no such operation or implementation; inside the block, a call that the implementation
            refuses.
    """
    # The registry imports operations, which import this module.
    from maquette_kernels.registry import find

    with fixed(find(operation), implementation):
        yield


def choose(operation: Operation, call: Call) -> Implementation:
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


def explain(operation: Operation, call: Call) -> list[Explanation]:
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


def unknown_implementation(operation: Operation, name: str) -> MaquetteError:
    """The error for an implementation that an operation does not have."""
    known = [implementation.name for implementation in operation.implementations]
    return unknown_name(f"implementation of kernel '{operation.name}':", name, known)
