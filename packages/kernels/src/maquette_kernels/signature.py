"""Reads an operation's parameters from its reference's annotations and writes them as torch schemas."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from maquette.errors import MaquetteError

_SCHEMA_TYPES: dict[Any, str] = {
    torch.Tensor: "Tensor",
    torch.Tensor | None: "Tensor?",
    float: "float",
    int: "int",
    bool: "bool",
}


@dataclass(frozen=True)
class Signature:
    """Names, schema types and defaults of an operation's parameters, in order."""

    operation: str
    names: tuple[str, ...]
    types: tuple[str, ...]
    defaults: Mapping[str, Any]

    @classmethod
    def of(cls, function: Callable[..., Any], operation: str) -> Signature:
        """Read the annotations of a function.

        Raises:
            MaquetteError: a parameter has no annotation or one that torch's operators cannot express.
        """
        hints = typing.get_type_hints(function)
        parameters = inspect.signature(function).parameters
        types = []
        for name in parameters:
            if hints.get(name) not in _SCHEMA_TYPES:
                raise MaquetteError(
                    f"kernel '{operation}': parameter '{name}' of the reference is annotated "
                    f"{hints.get(name)!r}; use Tensor, Tensor | None, float, int or bool"
                )
            types.append(_SCHEMA_TYPES[hints[name]])
        defaults = {n: p.default for n, p in parameters.items() if p.default is not inspect.Parameter.empty}
        return cls(operation, tuple(parameters), tuple(types), defaults)

    @cached_property
    def tensors(self) -> tuple[str, ...]:
        """Names of the tensor parameters."""
        return tuple(n for n, t in zip(self.names, self.types, strict=True) if t.startswith("Tensor"))

    @property
    def schema(self) -> str:
        """The parameters as a torch schema writes them: ``"Tensor q, float eps"``."""
        return ", ".join(f"{t} {n}" for n, t in zip(self.names, self.types, strict=True))

    def complete(self, arguments: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Any, ...]:
        """All arguments in order, with defaults filled in.

        Raises:
            MaquetteError: too many, unknown, repeated or missing arguments.
        """
        rest = self.names[len(arguments) :]
        unknown = [name for name in named if name not in rest]
        missing = [name for name in rest if name not in named and name not in self.defaults]
        if len(arguments) > len(self.names) or unknown or missing:
            raise MaquetteError(
                f"kernel '{self.operation}': arguments do not fit ({len(arguments)} by position"
                f"{', unexpected ' + ', '.join(unknown) if unknown else ''}"
                f"{', missing ' + ', '.join(missing) if missing else ''}); it takes {', '.join(self.names)}"
            )
        return arguments + tuple(named[n] if n in named else self.defaults[n] for n in rest)


def count_tensors(function: Callable[..., Any], operation: str) -> int:
    """How many tensors a function returns, by its annotation: ``Tensor`` or ``tuple[Tensor, ...]`` written
    out.

    Raises:
        MaquetteError: the annotation does not say.
    """
    returned = typing.get_type_hints(function).get("return")
    if returned is torch.Tensor:
        return 1
    parts = typing.get_args(returned)
    if typing.get_origin(returned) is tuple and parts and all(part is torch.Tensor for part in parts):
        return len(parts)
    raise MaquetteError(
        f"kernel '{operation}': '{function.__name__}' must be annotated '-> Tensor' or '-> tuple[Tensor, Tensor]'"
    )
