"""One table a kind of plugin: name -> (config dataclass, build), either of which may be loaded only when it is used."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, is_dataclass
from typing import Any

from maquette.errors import MaquetteError, unknown_name


def resolve(reference: Any, owner: str) -> Any:
    """Turn ``"module:attribute"`` into the object it names; anything else is returned as it is.

    References come from a plugin's own code, never from a configuration file.
    """
    if not isinstance(reference, str):
        return reference
    module_name, colon, attribute = reference.partition(":")
    if not colon:
        raise MaquetteError(f"plugin '{owner}' registers '{reference}'; a reference is written 'module:attribute'")
    try:
        return getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise MaquetteError(f"plugin '{owner}' registers '{reference}', which does not load: {error}") from error


@dataclass(frozen=True)
class Entry:
    """One registered thing. ``config`` and ``build`` resolve references on first use."""

    kind: str
    name: str
    plugin: str
    config_reference: Any
    build_reference: Any

    @property
    def config(self) -> Any:
        """The config dataclass (for commands: the line of help)."""
        config = resolve(self.config_reference, self.plugin)
        if not (isinstance(config, type) and is_dataclass(config)):
            raise MaquetteError(f"plugin '{self.plugin}': the config of {self.kind} '{self.name}' is not a dataclass")
        return config

    @property
    def build(self) -> Callable[..., Any]:
        """The callable that turns an instance of :attr:`config` into the object."""
        build = resolve(self.build_reference, self.plugin)
        if not callable(build):
            raise MaquetteError(f"plugin '{self.plugin}': the build of {self.kind} '{self.name}' cannot be called")
        return build  # type: ignore[no-any-return]

    @property
    def summary(self) -> str:
        """The first line of the docstring of what is built."""
        return (self.build.__doc__ or "").strip().split("\n")[0]


class Registry:
    """All entries of one kind, in order of registration."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry] = {}

    def register(self, name: str, config: Any, build: Any, *, plugin: str) -> None:
        """Add an entry.

        Raises:
            MaquetteError: the name is taken (both plugins are named) or is not a non-empty string.
        """
        if not isinstance(name, str) or not name:
            raise MaquetteError(f"plugin '{plugin}', register_{self.kind}: a name must be a string, got {name!r}")
        taken = self._entries.get(name)
        if taken is not None:
            raise MaquetteError(
                f"plugins '{taken.plugin}' and '{plugin}' both register {self.kind} '{name}'; rename one"
            )
        self._entries[name] = Entry(self.kind, name, plugin, config, build)

    def remove(self, plugin: str) -> None:
        """Forget what a plugin has registered, after it broke half-way."""
        self._entries = {name: entry for name, entry in self._entries.items() if entry.plugin != plugin}

    def lookup(self, name: str, hint: str = "") -> Entry:
        """The entry of a name.

        Raises:
            MaquetteError: no such name; suggests the nearest one and lists all.
        """
        if name not in self._entries:
            raise unknown_name(singular(self.kind), name, self._entries, hint)
        return self._entries[name]

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)


def singular(kind: str) -> str:
    """``"strategies"`` -> ``"strategy"``, for messages."""
    return kind[:-3] + "y" if kind.endswith("ies") else kind.removesuffix("s")
