"""Finisher ``lods``: the same asset with fewer and fewer faces, for things far away."""

from __future__ import annotations

from dataclasses import dataclass, field

from maquette.errors import MaquetteError
from maquette.types import Asset
from maquette_data3d.finishing.decimate import FEWEST, decimated
from maquette_data3d.finishing.record import recorded


@dataclass
class LodsConfig:
    """``shares``: faces of each level as a share of the asset's, falling."""

    shares: list[float] = field(default_factory=lambda: [0.5, 0.25, 0.1])


class Lods:
    """Keeps the asset and puts its levels of detail, meshes, into ``metadata["lods"]``; commands write a file each."""

    def __init__(self, config: LodsConfig) -> None:
        falling = all(a > b for a, b in zip([1.0, *config.shares], config.shares, strict=False))
        if not config.shares or not falling or config.shares[-1] <= 0:
            raise MaquetteError(f"lods: shares {config.shares} must fall, from below 1 to above 0")
        self.config = config

    def __call__(self, asset: Asset) -> Asset:
        """The asset with its levels, the finest first, each from the mesh itself; none below four faces.

        Raises:
            MaquetteError: no face has any area.
        """
        mesh = asset.mesh
        budgets = [max(round(len(mesh.faces) * share), FEWEST) for share in self.config.shares]
        levels = tuple(decimated(mesh, budget) for budget in budgets if budget < len(mesh.faces))
        out = recorded(asset, mesh, "lods", {"faces": [len(level.faces) for level in levels]})
        out.metadata["lods"] = levels
        return out
