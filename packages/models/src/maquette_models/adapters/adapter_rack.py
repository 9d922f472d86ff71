"""Adapters that requests name: read from a folder when they are asked for, put on and off between passes."""

from __future__ import annotations

import re
from pathlib import Path

from maquette.errors import MaquetteError, unknown_name
from maquette_models.adapters.adapter_file import Adapter, read_adapter
from maquette_models.adapters.hot_swap import HotSwap, parse_reference

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
SUFFIX = ".safetensors"


class AdapterRack:
    """The adapters of a folder, for the model of one pipeline.

    Args:
        folder: holds NAME.safetensors, as `maquette adapter export` writes them.
        wearer: whose model wears them, on top of those it has from the start.

    Raises:
        MaquetteError: no such folder.
    """

    def __init__(self, folder: Path, wearer: HotSwap) -> None:
        if not folder.is_dir():
            raise MaquetteError(f"there is no folder of adapters '{folder}'")
        self.folder, self.wearer = folder, wearer
        self.worn = ""
        self._read: dict[str, Adapter] = {}

    @property
    def names(self) -> list[str]:
        """Of the adapters that are there now."""
        return sorted(path.stem for path in self.folder.glob(f"*{SUFFIX}"))

    def resolved(self, asked: object) -> str:
        """What a request asks for, NAME or NAME:0.8, with the version of its file: a request goes on with the adapter
        that it began with, so that what was given here before is given back. "" is none.

        Raises:
            MaquetteError: none of that name, or of another base, or a scale that is no number.
        """
        if asked == "":
            return ""
        if not isinstance(asked, str):
            raise MaquetteError(f"option 'adapter' is {asked!r}; give NAME or NAME:0.8")
        if asked.rpartition("@")[0] and self._key(asked) in self._read:
            return asked
        name, _ = parse_reference(asked)
        if not NAME.fullmatch(name) or name not in self.names:
            raise unknown_name("adapter", name, self.names)
        path = self.folder / f"{name}{SUFFIX}"
        version = f"@{path.stat().st_mtime_ns}"
        if name + version not in self._read:  # once for all scales
            adapter = read_adapter(path)
            adapter.check_base(self.wearer.base_sha256, self.wearer.config.run)
            self._read[name + version] = adapter
        return asked + version

    def wear(self, reference: str) -> None:
        """Put on what `resolved` gave, alone; "" takes off what is worn."""
        if reference == self.worn:
            return
        scale = parse_reference(reference.rpartition("@")[0])[1]
        self.wearer.wear([(self._read[self._key(reference)], scale)] if reference else [])
        self.worn = reference

    @staticmethod
    def _key(reference: str) -> str:
        """The file of a reference and its version, whatever the scale."""
        asked, _, version = reference.rpartition("@")
        return f"{asked.rpartition(':')[0] or asked}@{version}"
