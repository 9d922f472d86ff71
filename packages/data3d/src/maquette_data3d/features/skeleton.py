"""The joints of what can move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from maquette_data3d.features.subject import Rig, Subject
from maquette_data3d.joint_roles import ROLES, role_of


@dataclass
class SkeletonConfig:
    """`roles` stores what each joint is of a body, told from its name."""

    roles: bool = False


class Skeleton:
    """`joints` float32 [*, 3] and `joint_parents` int16 [*] (-1 at a root), on request `joint_roles` uint8 [*] (places
    in the fact of that name); empty for what has none."""

    def __init__(self, config: SkeletonConfig | None = None) -> None:
        self.config = config or SkeletonConfig()

    def ragged(self) -> tuple[str, ...]:
        """All."""
        return ("joints", "joint_parents", *(("joint_roles",) if self.config.roles else ()))

    def facts(self) -> dict[str, Any]:
        """Names of the roles, where they are stored."""
        return {"joint_roles": list(ROLES)} if self.config.roles else {}

    def compute(self, subject: Subject) -> Mapping[str, np.ndarray]:
        """See `Feature`."""
        rig = subject.rig()
        if rig is None:
            rig = Rig((), np.zeros(0, np.int16), np.zeros((0, 3), np.float32))
        arrays = {"joints": rig.positions, "joint_parents": rig.parents}
        if self.config.roles:
            arrays["joint_roles"] = np.array([ROLES.index(role_of(name)) for name in rig.names], np.uint8)
        return arrays
