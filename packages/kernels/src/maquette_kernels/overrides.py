"""Which implementations a user has fixed, by a context manager or by the environment."""

from __future__ import annotations

import os

from maquette import plugins
from maquette.errors import MaquetteError

ENVIRONMENT = "MAQUETTE_KERNELS"
"""Environment variable with overrides, ``"operation=implementation,..."``, read when first needed."""


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
    """Read ``"qk_norm_rope=triton,gated_norm_modulate=reference"``.

    Operations are checked here, implementations where their operation is found or first runs.

    Raises:
        MaquetteError: bad syntax or an unknown operation.
    """
    chosen: dict[str, str] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, equals, implementation = (piece.strip() for piece in item.partition("="))
        if not equals:
            raise MaquetteError(f"{ENVIRONMENT}: '{item}' is not written operation=implementation")
        plugins.lookup("kernels", name)
        chosen[name] = implementation
    return chosen
