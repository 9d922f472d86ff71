"""Mesh files for those who may not import this package: the importers of every format that can be read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from maquette.types import Asset
from maquette_data3d.ingest.read_asset import read_asset


@dataclass
class ImporterConfig:
    """``apart``: in a confined process, for files of anybody; otherwise in this one."""

    apart: bool = True


class Importer:
    """Calls read one file into an Asset in its own units, y up."""

    def __init__(self, config: ImporterConfig) -> None:
        self.config = config

    def __call__(self, path: Path) -> Asset:
        """See `read_asset`."""
        return read_asset(path, apart=self.config.apart)
