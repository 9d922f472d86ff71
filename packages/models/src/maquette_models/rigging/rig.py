"""From a mesh to the same mesh with a skeleton and skin weights."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import MISSING

from maquette.errors import MaquetteError, unknown_name
from maquette.inference_device import inference_device
from maquette.one_by_one import OneByOne
from maquette.runs import load_run, relative_run
from maquette.types import Asset, Mesh, Request, Skeleton, Skin
from maquette_models.mesh_tokens.choice import Choice
from maquette_models.rigging.mesh_skin import Welded, skin_mesh, weld
from maquette_models.rigging.skeleton_dataset import grammar_of
from maquette_models.rigging.skeleton_transformer import SkeletonTransformer
from maquette_models.rigging.skeleton_tree import KINDS, Tree
from maquette_models.rigging.skin_transformer import SkinTransformer
from maquette_models.rigging.valid_weights import ValidWeightsConfig
from maquette_models.rigging.variation import frame_of
from maquette_models.rigging.writing_skeletons import Written, kind_probabilities, look_at, write_skeleton
from maquette_models.surface_points import surface_points

OPTIONS = ("kind", "influences")
NOTHING = KINDS.index("nothing")
MOVABLE = tuple(kind for kind in range(len(KINDS)) if kind != NOTHING)


@dataclass
class RigConfig:
    """`run` is the folder of a run of architecture `skin_transformer`, `skeleton` that of one of
    `skeleton_transformer`: a run beside the first, or a path.

    A mesh whose probability of having no skeleton is above `threshold` gets none, unless a request's option `kind` says
    what it is. `temperature` 0 always takes the likeliest token; above it the request's seed matters.
    """

    run: str = MISSING
    skeleton: str = MISSING
    threshold: float = 0.5
    temperature: float = 0.0
    weights: ValidWeightsConfig = field(default_factory=ValidWeightsConfig)


@dataclass(frozen=True)
class Sight:
    """A mesh in the unit cube as models see it: points and normals float32 [P, 3] of its surface, its welded vertices
    there, and how it lies in the user's space: (point - centre) * scale."""

    surface: NDArray[np.float32]
    normals: NDArray[np.float32]
    welded: Welded
    centre: NDArray[np.float64]
    scale: float

    def out(self, positions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Positions in the user's space."""
        return positions / self.scale + self.centre


class Rig(OneByOne):
    """A request's asset depends on that request alone, not on what is asked for beside it."""

    def __init__(self, config: RigConfig) -> None:
        self.config = config
        device = inference_device()
        own = load_run(config.run, device)
        other = load_run(relative_run(config.skeleton, own.folder), device)
        if not isinstance(own.model, SkinTransformer) or not isinstance(other.model, SkeletonTransformer):
            raise MaquetteError(
                f"pipeline 'rig' needs runs of 'skin_transformer' and 'skeleton_transformer'; '{config.run}' and "
                f"'{config.skeleton}' are not these"
            )
        self.skin, self.skeleton = own.model.requires_grad_(False), other.model.requires_grad_(False)
        self.roles: list[str] = list(other.facts["joint_roles"])
        if self.roles != list(own.facts["joint_roles"]):
            raise MaquetteError(f"'{config.run}' and '{config.skeleton}' were trained on different roles of joints")
        self.points = int(other.facts["rig_points"]), int(own.facts["skin_points"])

    def __call__(self, request: Request) -> Asset:
        """The mesh of a request with a skin.

        Raises:
            MaquetteError: "no rig found: ..." for what has no skeleton; or a request that this pipeline cannot follow.
        """
        mesh, kind, weights = self._check(request)
        sight = self.see(mesh)
        nothing = self.probability_of_nothing(sight)
        if kind is None and nothing > self.config.threshold:
            raise MaquetteError(
                f"no rig found: with probability {nothing:.2f} this is nothing that moves by joints; "
                f"where it is, give the option kind={'|'.join(KINDS[1:])}"
            )
        kinds = MOVABLE if kind is None else (kind,)
        written = self._write(sight, kinds, request.seed)
        joints, held = skin_mesh(self.skin, sight.welded, written.tree, self.looked_at(sight), weights)
        skin = Skin(self._skeleton(written.tree, sight), joints, held)
        return Asset(replace(mesh, skin=skin), self._metadata(request, written, nothing))

    def see(self, mesh: Mesh) -> Sight:
        """A mesh as the models see it.

        Raises:
            MaquetteError: it has no area.
        """
        if not len(mesh.faces):
            raise MaquetteError("no rig found: the mesh has no faces")
        points, normals = surface_points(mesh, max(self.points))
        centre, scale = frame_of(points.numpy())
        welded = weld(mesh)
        welded = replace(welded, places=(welded.places - centre) * scale)
        surface = (points.numpy() - centre) * scale
        return Sight(surface.astype(np.float32), normals.numpy(), welded, centre, scale)

    def probability_of_nothing(self, sight: Sight) -> float:
        """How likely it is that a mesh has no skeleton."""
        condition = look_at(self.skeleton, *self._shown(sight))
        return float(kind_probabilities(self.skeleton, condition)[NOTHING])

    def tree_of(self, sight: Sight, movable: bool = False) -> Tree:
        """The skeleton that the model writes, in the unit cube; it may be empty, unless the mesh is `movable`."""
        return self._write(sight, MOVABLE if movable else (), seed=0).tree

    def looked_at(self, sight: Sight) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The points and normals by which the model of weights sees the shape."""
        count = self.points[1]
        return sight.surface[:count], sight.normals[:count]

    def _write(self, sight: Sight, kinds: tuple[int, ...], seed: int) -> Written:
        vocabulary = self.skeleton.vocabulary
        grammar = grammar_of(vocabulary.levels, self.roles, vocabulary.joints, kinds)
        condition = look_at(self.skeleton, *self._shown(sight))
        return write_skeleton(self.skeleton, condition, grammar, Choice(self.config.temperature), seed)

    def _shown(self, sight: Sight) -> tuple[torch.Tensor, torch.Tensor]:
        count = self.points[0]
        return torch.from_numpy(sight.surface[:count]), torch.from_numpy(sight.normals[:count])

    def _skeleton(self, tree: Tree, sight: Sight) -> Skeleton:
        rest = np.tile(np.eye(4), (len(tree), 1, 1))
        rest[:, :3, 3] = sight.out(tree.positions)
        return Skeleton(joint_names([self.roles[role] for role in tree.roles]), tree.parents.astype(np.int32), rest)

    def _check(self, request: Request) -> tuple[Mesh, int | None, ValidWeightsConfig]:
        for name in request.options:
            if name not in OPTIONS:
                raise unknown_name("option", name, OPTIONS, where="in a request to pipeline 'rig'")
        if request.mesh is None:
            raise MaquetteError("pipeline 'rig' gives a mesh its skeleton; give it a 'mesh'")
        if request.images or request.guidance is not None or request.steps is not None:
            raise MaquetteError("pipeline 'rig' looks at a mesh alone; it takes no pictures, guidance or steps")
        kind = request.options.get("kind")
        if kind is not None and kind not in KINDS[1:]:
            raise unknown_name("kind", str(kind), KINDS[1:], where="in a request to pipeline 'rig'")
        influences = request.options.get("influences", self.config.weights.influences)
        weights = replace(self.config.weights, influences=influences)
        return request.mesh, None if kind is None else KINDS.index(kind), weights

    def _metadata(self, request: Request, written: Written, nothing: float) -> dict[str, Any]:
        return {
            "prompt": request.prompt,
            "seed": request.seed,
            "kind": KINDS[written.kind],
            "joints": len(written.tree),
            "probability_of_nothing": nothing,
            "tokens_sha256": hashlib.sha256(written.tokens.tobytes()).hexdigest(),
        }


def joint_names(roles: Sequence[str]) -> tuple[str, ...]:
    """One name a joint, unique: its role, with a number from the second one on."""
    seen: dict[str, int] = {}
    names = []
    for role in roles:
        word = "joint" if role == "other" else role
        seen[word] = seen.get(word, 0) + 1
        names.append(word if seen[word] == 1 else f"{word} {seen[word]}")
    return tuple(names)
