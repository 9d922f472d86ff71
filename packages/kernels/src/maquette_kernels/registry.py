"""The operations that plugins registered, built once a process, and how to fix the implementation of one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from maquette import plugins
from maquette_kernels.operation import Operation
from maquette_kernels.overrides import OVERRIDES
from maquette_kernels.resolution import fixed

_built: dict[str, Operation] = {}


def find(name: str) -> Operation:
    """The operation of a registered name.

    Raises:
        MaquetteError: no such operation (the nearest name is suggested), its plugin did not give an
            Operation, or the environment asks for an implementation that it does not have.
    """
    if name not in _built:
        operation = Operation.checked(plugins.build("kernels", {"name": name}), name)
        wanted = OVERRIDES.get(name)
        if wanted is not None:
            operation.implementation(wanted)
        _built[name] = operation
    return _built[name]


def operations() -> dict[str, Operation]:
    """Every registered operation by name, a stranger's beside ours, in order of registration."""
    return {entry.name: find(entry.name) for entry in plugins.registry("kernels")}


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
    with fixed(find(operation), implementation):
        yield
