"""The joints of what can move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from maquette_data3d.features.subject import Subject


@dataclass
class SkeletonConfig:
    """Nothing to set."""


class Skeleton:
    """`joints` float32 [*, 3] and `joint_parents` int16 [*] (-1 at a root); empty for what has none."""

    def __init__(self, config: SkeletonConfig | None = None) -> None:
        self.config = config or SkeletonConfig()

    def ragged(self) -> tuple[str, ...]:
        """Both."""
        return ("joints", "joint_parents")

    def facts(self) -> dict[str, Any]:
        """None."""
        return {}

    def compute(self, subject: Subject) -> Mapping[str, np.ndarray]:
        """See `Feature`."""
        rig = subject.rig()
        if rig is None:
            return {"joints": np.zeros((0, 3), np.float32), "joint_parents": np.zeros(0, np.int16)}
        return {"joints": rig.positions, "joint_parents": rig.parents}
