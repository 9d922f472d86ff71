"""The operations that plugins registered, built once a process."""

from __future__ import annotations

from maquette import plugins
from maquette_kernels.operation import Operation

_built: dict[str, Operation] = {}


def find(name: str) -> Operation:
    """The operation of a registered name.

    Raises:
        MaquetteError: no such operation (the nearest name is suggested), or its plugin did not give an
            Operation.
    """
    if name not in _built:
        operation = plugins.build("kernels", {"name": name})
        _built[name] = Operation.checked(operation, name)
    return _built[name]


def operations() -> dict[str, Operation]:
    """Every registered operation by name, a stranger's beside ours, in order of registration."""
    return {entry.name: find(entry.name) for entry in plugins.registry("kernels")}
