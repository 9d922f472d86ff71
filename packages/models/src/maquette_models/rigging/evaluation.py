"""What a trained rig is worth on meshes whose rigs are known, each figure beside what needs no training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from maquette.engine.randomness import fold
from maquette.report import Figure
from maquette.types import Mesh
from maquette_models.evaluation.estimates import mean, share
from maquette_models.rigging.mesh_skin import skin_mesh
from maquette_models.rigging.pair_features import bind
from maquette_models.rigging.rig import Rig, Sight
from maquette_models.rigging.rig_errors import Bound, dense_weights, joint_to_joint, posed_difference, weight_difference
from maquette_models.rigging.skeleton_tree import Tree, kind_of
from maquette_models.rigging.template_fit import Template, fitted, geodesic_weights
from maquette_models.rigging.valid_weights import neighbours, valid_weights


@dataclass(frozen=True)
class KnownRig:
    """A mesh with its tree, in the mesh's own space, and the weight float32 [V, J] of each joint at each vertex."""

    name: str
    mesh: Mesh
    tree: Tree
    weights: NDArray[np.float32]


@dataclass(frozen=True)
class RigErrors:
    """Of one mesh: whether the model finds it movable and of the right kind; the joint-to-joint distance, the L1
    distance of weights on the true joints, how far posed vertices are off by weights on the true joints and by
    predicted joints and weights. Lengths are shares of the height. `by_template` has the same of mean skeletons and
    geodesic weights."""

    name: str
    found: bool
    right_kind: bool
    joints: float
    weights: float
    posed: float
    posed_all: float
    by_template: dict[str, float]


def rig_errors(rig: Rig, known: KnownRig, templates: list[Template]) -> RigErrors:
    """The errors on one mesh, deterministic. A mesh that the model would refuse is rigged all the same."""
    sight = rig.see(known.mesh)
    tree = replace(known.tree, positions=(known.tree.positions - sight.centre) * sight.scale)
    true = Bound(tree, known.weights)
    used = sight.welded.places[np.unique(sight.welded.faces)]
    height = max(float(np.ptp(used[:, 1])), 1e-6)
    free = rig.tree_of(sight)
    written = free if len(free) else rig.tree_of(sight, movable=True)
    template = fitted(templates, sight.surface, sight.normals)

    def posed(found: Bound) -> float:
        rng = np.random.default_rng(fold("rig_poses", known.name))
        return posed_difference(sight.welded.places[sight.welded.place], true, found, rng) / height

    own, plain = _bound(rig, sight, tree), _bound_plainly(rig, sight, tree)
    return RigErrors(
        known.name,
        len(free) > 0,
        _kind(rig, written) == _kind(rig, tree),
        joint_to_joint(written.positions, tree.positions) / height,
        weight_difference(own.weights, known.weights),
        posed(own),
        posed(_bound(rig, sight, written)),
        {
            "joints": joint_to_joint(template.positions, tree.positions) / height,
            "weights": weight_difference(plain.weights, known.weights),
            "posed": posed(plain),
            "posed_all": posed(_bound_plainly(rig, sight, template)),
        },
    )


def rig_figures(errors: Sequence[RigErrors]) -> dict[str, Figure]:
    """Means and shares over meshes, with 95 % intervals."""

    def of(name: str) -> Figure:
        beside = {"without training": float(np.mean([one.by_template[name] for one in errors]))}
        return mean([getattr(one, name) for one in errors], beside)

    count = len(errors)
    return {
        "joint_to_joint": of("joints"),
        "weights_l1": of("weights"),
        "posed": of("posed"),
        "posed_by_predicted_joints": of("posed_all"),
        "found": share(sum(one.found for one in errors), count),
        "right_kind": share(sum(one.right_kind for one in errors), count),
    }


def share_found(rig: Rig, meshes: Iterable[Mesh]) -> Figure:
    """The share of meshes for which the pipeline finds a rig: false alarms, where they are things."""
    found = [rig.probability_of_nothing(rig.see(mesh)) <= rig.config.threshold for mesh in meshes]
    return share(sum(found), len(found))


def _bound(rig: Rig, sight: Sight, tree: Tree) -> Bound:
    joints, weights = skin_mesh(rig.skin, sight.welded, tree, rig.looked_at(sight), rig.config.weights)
    return Bound(tree, dense_weights(joints, weights, len(tree)))


def _bound_plainly(rig: Rig, sight: Sight, tree: Tree) -> Bound:
    welded = sight.welded
    dense = geodesic_weights(bind(*rig.looked_at(sight), tree), welded.places)
    joints, weights = valid_weights(dense, neighbours(welded.faces, len(welded.places)), rig.config.weights)
    return Bound(tree, dense_weights(joints[welded.place], weights[welded.place], len(tree)))


def _kind(rig: Rig, tree: Tree) -> str:
    return kind_of({rig.roles[role] for role in tree.roles})
