"""Shapes of shard folders with their skeletons and skins, as the trainings of skeletons and of skins read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maquette.errors import MaquetteError
from maquette_models.rigging.file_rigs import FileRig, body_of
from maquette_models.rigging.skeleton_tree import KINDS, Tree, kind_of
from maquette_models.shards import READER, open_shards, read_shards

FIELDS = (
    "surface",
    "normals",
    "surface_joints",
    "surface_weights",
    "joints",
    "joint_parents",
    "joint_roles",
)


@dataclass(frozen=True)
class RiggedShape:
    """One shape: `surface` and `normals` float32 [P, 3] in random order, its tree, which is empty for what cannot move,
    and the weight float32 [P, J] of each joint at each point; a name, and place of its kind in `KINDS`."""

    surface: NDArray[np.float32]
    normals: NDArray[np.float32]
    tree: Tree
    weights: NDArray[np.float32]
    id: str
    kind: int


def read_rigged(
    folders: Sequence[str], split: str, roles: Sequence[str], reader: str = READER
) -> Iterator[RiggedShape]:
    """All shapes of a split of several folders, in order.

    Raises:
        MaquetteError: a folder without the feature `skeleton` with `roles: true` or `surface` with `skin: true`.
    """
    for folder in folders:
        for batch in read_shards(folder, split, reader, FIELDS, points=0):
            for row in range(len(batch["id"])):
                yield shape_of(batch, row, roles)


def role_names(folders: Sequence[str], reader: str = READER) -> list[str]:
    """Names of the roles that all folders have in common.

    Raises:
        MaquetteError: no folder, one without roles, or folders with different ones.
    """
    found = [dict(open_shards(folder, reader, FIELDS, points=0).facts()).get("joint_roles") for folder in folders]
    if not found or found[0] is None or any(roles != found[0] for roles in found):
        raise MaquetteError(
            "shards of rigged shapes need the feature {name: skeleton, roles: true} in every folder; build them anew"
        )
    return list(found[0])


def shape_of(batch: dict[str, Any], row: int, roles: Sequence[str]) -> RiggedShape:
    """One row of a batch of shards."""
    there = batch["joints_mask"][row].numpy()
    own = {key: batch[key][row].numpy()[there] for key in ("joints", "joint_parents", "joint_roles")}
    rig = FileRig(
        own["joint_roles"].astype(np.int64),
        own["joint_parents"].astype(np.int64),
        own["joints"].astype(np.float64),
        batch["surface_joints"][row].numpy().astype(np.int64),
        batch["surface_weights"][row].numpy().astype(np.float32),
    )
    tree, weights = body_of(rig, roles)
    kind = KINDS.index(kind_of({roles[role] for role in tree.roles}))
    surface, normals = (batch[key][row].numpy().astype(np.float32) for key in ("surface", "normals"))
    return RiggedShape(surface, normals, tree, weights, batch["id"][row], kind)
