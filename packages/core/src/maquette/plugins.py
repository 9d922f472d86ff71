"""Finds plugins, asks them what they provide, and builds it from configuration blocks.

A plugin is a module with hook implementations: an entry point of group ``maquette``, or a loose ``.py`` file. Plugins
load one at a time; a broken one is recorded with its reason and never stops the others.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import pluggy

from maquette import hookspecs
from maquette.blocks import instantiate
from maquette.errors import MaquetteError, unknown_name
from maquette.registry import Entry, Registry, singular

GROUP = "maquette"


@dataclass(frozen=True)
class PluginStatus:
    """One plugin as ``maquette plugins`` shows it. ``error`` is None where it loaded."""

    name: str
    source: str
    version: str
    error: str | None = None


class PluginManager:
    """Loads plugins into one registry a kind."""

    def __init__(self, *, entry_points: bool = True) -> None:
        self._pluggy = pluggy.PluginManager("maquette")
        self._pluggy.add_hookspecs(hookspecs)
        self._called: set[tuple[str, str]] = set()
        self.registries = {kind: Registry(kind) for kind in hookspecs.KINDS}
        self.statuses: dict[str, PluginStatus] = {}
        if entry_points:
            for point in sorted(metadata.entry_points(group=GROUP), key=lambda p: p.name):
                distribution = point.dist
                source = distribution.name if distribution else point.value
                self._load(point.name, source, distribution.version if distribution else "?", point.load)

    def load_file(self, path: str | Path) -> None:
        """Load a loose-file plugin.

        Raises:
            MaquetteError: no such file. A file that breaks while loading is recorded, not raised.
        """
        path = Path(path)
        if not path.is_file():
            raise MaquetteError(f"plugin file '{path}' does not exist; give the path of a .py file")
        name = path.stem
        if any(status.source == str(path.resolve()) for status in self.statuses.values()):
            return
        self._load(name, str(path.resolve()), "-", partial(_import_file, path.resolve()))

    def loose_files(self) -> tuple[str, ...]:
        """Paths of the loose files that were loaded, for other processes to load as well."""
        return tuple(s.source for s in self.statuses.values() if s.version == "-" and s.source.endswith(".py"))

    def add(self, plugin: Any, name: str) -> None:
        """Register an object with hook implementations, as tests do."""
        self._load(name, repr(plugin), "-", lambda: plugin)

    def _load(self, name: str, source: str, version: str, load: Any) -> None:
        if name in self.statuses:
            other = self.statuses[name].source
            error = f"the name is taken by {other}; rename the entry point or the file"
            name = f"{name} ({source})"
            self.statuses[name] = PluginStatus(name, source, version, error)
            return
        self.statuses[name] = PluginStatus(name, source, version)
        try:
            module = load()
            self._pluggy.register(module, name)
            self._pluggy.check_pending()
        except Exception as error:  # a stranger's module may raise anything at all
            self._break(name, error)

    def _break(self, name: str, error: Exception) -> None:
        reason = str(error).strip().split("\n")[0] or repr(error)
        kind = "" if isinstance(error, MaquetteError) else f"{type(error).__name__}: "
        status = self.statuses[name]
        self.statuses[name] = PluginStatus(name, status.source, status.version, f"{kind}{reason}")
        if self._pluggy.has_plugin(name):
            self._pluggy.unregister(name=name)
        for registry in self.registries.values():
            registry.remove(name)

    def registry(self, kind: str) -> Registry:
        """All entries of a kind; the plugins' hooks of that kind run on first use, each on its own."""
        if kind not in self.registries:
            raise unknown_name("kind", kind, self.registries)
        registry = self.registries[kind]
        for name, plugin in list(self._pluggy.list_name_plugin()):
            hook = getattr(plugin, f"register_{kind}", None) if plugin is not None else None
            if (name, kind) in self._called or self._pluggy.parse_hookimpl_opts(plugin, f"register_{kind}") is None:
                continue
            self._called.add((name, kind))
            try:
                hook(partial(registry.register, plugin=name))  # type: ignore[misc]
            except Exception as error:  # as above: one broken plugin is never fatal
                self._break(name, error)
        return registry

    def lookup(self, kind: str, name: str) -> Entry:
        """The entry of a name; a failed lookup repeats why broken plugins did not load."""
        registry = self.registry(kind)
        broken = [f"plugin '{s.name}' did not load: {s.error}" for s in self.statuses.values() if s.error]
        return registry.lookup(name, "; ".join(broken))

    def build(self, kind: str, block: Mapping[str, Any]) -> Any:
        """Build what a block such as ``{name: dit, width: 256}`` describes.

        Raises:
            MaquetteError: no or unknown ``name``, unknown or badly typed keys.
        """
        if "name" not in block:
            known = ", ".join(entry.name for entry in self.registry(kind))
            raise MaquetteError(f"a {singular(kind)} block needs a 'name'; known: {known}")
        entry = self.lookup(kind, str(block["name"]))
        rest = {str(key): value for key, value in block.items() if key != "name"}
        return entry.build(instantiate(entry.config, rest, where=f"{singular(kind)} '{entry.name}'"))


def _import_file(path: Path) -> ModuleType:
    name = f"maquette_plugin_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise MaquetteError(f"'{path}' is not a Python file")
    module = importlib.util.module_from_spec(spec)
    # Registered before it runs, so that its dataclasses can resolve their annotations.
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@cache
def manager() -> PluginManager:
    """The process's plugin manager, made on first use."""
    return PluginManager()


def load_files(paths: Iterable[str | Path]) -> None:
    """Load loose-file plugins into the process's manager."""
    for path in paths:
        manager().load_file(path)


def loose_files() -> tuple[str, ...]:
    """Paths of the loose files in the process's manager."""
    return manager().loose_files()


def registry(kind: str) -> Registry:
    """All entries of a kind in the process's manager."""
    return manager().registry(kind)


def lookup(kind: str, name: str) -> Entry:
    """The entry of a name in the process's manager."""
    return manager().lookup(kind, name)


def build(kind: str, block: Mapping[str, Any]) -> Any:
    """Build a block with the process's manager; see :meth:`PluginManager.build`."""
    return manager().build(kind, block)
