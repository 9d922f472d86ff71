"""Mesh files for those who may not import this package: the importers of every format that can be read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from maquette.types import Mesh
from maquette_data3d.ingest.read_mesh import read_mesh


@dataclass
class ImporterConfig:
    """Nothing to set."""


class Importer:
    """Calls read one file into a Mesh, centred, its longest side 0.9, y up."""

    def __init__(self, config: ImporterConfig) -> None:
        pass

    def __call__(self, path: Path) -> Mesh:
        """See `read_mesh`."""
        return read_mesh(path)
