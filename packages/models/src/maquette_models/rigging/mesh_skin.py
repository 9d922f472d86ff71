"""From a mesh and its skeleton to the weights of its vertices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maquette.inference_device import device_of, moved
from maquette.types import Mesh
from maquette_models.rigging.pair_features import Binding, bind
from maquette_models.rigging.skeleton_tree import Tree
from maquette_models.rigging.skin_dataset import joint_tensors
from maquette_models.rigging.skin_transformer import SkinTransformer
from maquette_models.rigging.valid_weights import ValidWeightsConfig, neighbours, valid_weights
from maquette_models.rigging.variation import unit

AT_ONCE = 4096  # points


@dataclass(frozen=True)
class Welded:
    """A mesh with one vertex a place: `places` float64 [U, 3], `normals` float32 [U, 3], `faces` int64 [F, 3], and the
    place int64 [V] of each vertex."""

    places: NDArray[np.float64]
    normals: NDArray[np.float32]
    faces: NDArray[np.int64]
    place: NDArray[np.int64]


def weld(mesh: Mesh) -> Welded:
    """Vertices that lie in one place, as those along seams do, become one."""
    places, place = np.unique(mesh.vertices, axis=0, return_inverse=True)
    places, faces = places.astype(np.float64), place.reshape(-1)[mesh.faces.astype(np.int64)]
    corners = places[faces]
    scaled = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros_like(places)
    np.add.at(normals, faces.reshape(-1), np.repeat(scaled, 3, axis=0))
    return Welded(places, unit(normals / max(float(np.abs(normals).max(initial=0)), 1e-30)), faces, place.reshape(-1))


@torch.inference_mode()
def predicted_weights(
    model: SkinTransformer, binding: Binding, points: NDArray[np.floating], normals: NDArray[np.floating]
) -> NDArray[np.float32]:
    """The weights float32 [P, J] of points with normals [P, 3] in the unit cube, as the model has them."""
    joints, device = joint_tensors([binding.tree]), device_of(model)
    found = []
    for start in range(0, len(points), AT_ONCE):
        own = points[start : start + AT_ONCE], normals[start : start + AT_ONCE]
        pairs = torch.from_numpy(binding.features(*own))[None]
        told = {"points": _row(own[0]), "normals": _row(own[1])}
        asked = moved({"pairs": pairs, **told, **joints}, device)
        found.append(model(asked)[0].exp().cpu().numpy())
    return np.concatenate(found) if found else np.zeros((0, len(binding.tree)), np.float32)


def skin_mesh(
    model: SkinTransformer,
    welded: Welded,
    tree: Tree,
    surface: tuple[NDArray[np.float32], NDArray[np.float32]],
    config: ValidWeightsConfig,
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Joints and weights [V, K] of a mesh's vertices, valid; see `valid_weights`.

    Args:
        model: of weights.
        welded: the mesh, its places in the unit cube.
        tree: its skeleton there.
        surface: points [P, 3] of the surface there, by which the shape is looked at, and their normals.
        config: what makes weights valid.
    """
    dense = predicted_weights(model, bind(*surface, tree), welded.places, welded.normals)
    joints, weights = valid_weights(dense, neighbours(welded.faces, len(welded.places)), config)
    return joints[welded.place], weights[welded.place]


def _row(values: NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(values.astype(np.float32))[None]
