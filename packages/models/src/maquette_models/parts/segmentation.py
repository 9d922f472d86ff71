"""The pipeline that cuts a mesh into named parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import MISSING
from torch import Tensor

from maquette.errors import MaquetteError, unknown_name
from maquette.inference_device import CPU, device_of, inference_device, moved
from maquette.one_by_one import OneByOne
from maquette.placement import in_unit_cube
from maquette.runs import load_run
from maquette.types import Asset, Mesh, Request
from maquette_models.parts.face_labels import adjacency, face_votes, smoothed
from maquette_models.parts.instances import face_areas, face_middles, instances
from maquette_models.parts.part_segmenter import PartSegmenter, point_features
from maquette_models.surface_points import sampled

OPTIONS = ("instances", "color", "smoothing")
GREY = 0.5  # of points on meshes that have no colours


@dataclass
class SegmentationConfig:
    """`run` is the folder of a run that trained a `part_segmenter`.

    `points` of the surface are read, as many as in training, so that neighbourhoods are as large. `votes` others and
    the middle of every face are labelled, `chunk` at once. `smoothing` is what an edge between two labels costs (see
    `face_labels.smoothed`). With `instances` pieces of a kind that do not touch are parts of their own. Without `color`
    the mesh's colours are not looked at.
    """

    run: str = MISSING
    points: int = 1024
    votes: int = 16384
    chunk: int = 32768
    smoothing: float = 1.0
    instances: bool = False
    color: bool = True

    def __post_init__(self) -> None:
        """Raises ValueError on sizes below one."""
        if min(self.points, self.votes, self.chunk) < 1 or self.smoothing < 0:
            raise ValueError("'points', 'votes' and 'chunk' must be at least 1, 'smoothing' at least 0")


@dataclass(frozen=True)
class Places:
    """Points on a mesh: `points`, `normals` and `colors` float32 [P, 3], and `faces` int64 [P]."""

    points: Tensor
    normals: Tensor
    colors: Tensor
    faces: NDArray[np.int64]


class Segmentation(OneByOne):
    """Requests have a `mesh`; the asset is the same mesh with `part` and `part_names`. Options of a request go before
    the configured `instances`, `color` and `smoothing`."""

    def __init__(self, config: SegmentationConfig) -> None:
        self.config = config
        model = load_run(config.run, inference_device()).model
        if not isinstance(model, PartSegmenter):
            raise MaquetteError(f"'{config.run}' labels no parts; give a run of examples/configs/parts.yaml")
        self.model = model.requires_grad_(False)
        self.device = device_of(model)

    def __call__(self, request: Request) -> Asset:
        """The mesh with its parts.

        Raises:
            MaquetteError: no mesh, one without area, or an unknown option.
        """
        if request.mesh is None or not len(request.mesh.faces):
            raise MaquetteError("cutting into parts needs a mesh with faces")
        settings = self._settings(request.options)
        mesh, seed = request.mesh, request.seed
        near = adjacency(mesh)
        labels = smoothed(self.votes(mesh, seed, bool(settings["color"])), near, float(settings["smoothing"]))
        kinds = self.model.kinds
        if settings["instances"]:
            part, names = instances(in_unit_cube(mesh), labels, kinds, near)
        else:
            present, part = np.unique(labels, return_inverse=True)
            names = tuple(kinds[label] for label in present)
        metadata = {"parts": list(names), "seed": seed}
        return Asset(replace(mesh, part=part.reshape(-1).astype(np.int32), part_names=names), metadata)

    def votes(self, mesh: Mesh, seed: int = 0, color: bool = True) -> NDArray[np.float64]:
        """Mean log-likelihood [F, kinds] of each face's label."""
        cube = in_unit_cube(mesh)
        read = places_on(cube, self.config.points, seed)
        asked = both(middles_of(cube), places_on(cube, self.config.votes, seed + 1))
        return face_votes(self.likelihoods(read, asked, color).numpy().astype(np.float64), asked.faces, len(mesh.faces))

    @torch.inference_mode()
    def likelihoods(self, read: Places, asked: Places, color: bool = True) -> Tensor:
        """Of the kinds at places that are asked for, [Q, kinds], seen from those that are read."""
        features = [point_features(at.normals, at.colors if color else None)[None] for at in (read, asked)]
        (points, places), features = moved(([read.points[None], asked.points[None]], features), self.device)
        rows = [slice(start, start + self.config.chunk) for start in range(0, len(asked.points), self.config.chunk)]
        parts = [self.model(points, features[0], places[:, own], features[1][:, own])[0] for own in rows]
        return torch.cat(parts).softmax(dim=-1).to(CPU)

    def _settings(self, options: Mapping[str, Any]) -> dict[str, Any]:
        for key in options:
            if key not in OPTIONS:
                raise unknown_name("option", str(key), OPTIONS, where="of cutting into parts")
        return {key: options.get(key, getattr(self.config, key)) for key in OPTIONS}


def places_on(mesh: Mesh, count: int, seed: int) -> Places:
    """Places uniform by area; the same seed gives the same ones.

    Raises:
        MaquetteError: the mesh has no area.
    """
    points, normals, (faces, weights) = sampled(mesh, count, seed)
    return Places(points, normals, torch.from_numpy(_colors(mesh, faces, weights)), faces)


def middles_of(mesh: Mesh) -> Places:
    """The middle of every face."""
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(2 * face_areas(mesh)[:, None], 1e-30)
    faces = np.arange(len(mesh.faces))
    colors = _colors(mesh, faces, np.full((len(faces), 3), 1 / 3))
    arrays = (torch.from_numpy(values.astype(np.float32)) for values in (face_middles(mesh), normals, colors))
    return Places(*arrays, faces)


def both(one: Places, other: Places) -> Places:
    """Places one after the other."""
    joined = (torch.cat(pair) for pair in zip(_tensors(one), _tensors(other), strict=True))
    return Places(*joined, np.concatenate([one.faces, other.faces]))


def _tensors(places: Places) -> tuple[Tensor, Tensor, Tensor]:
    return places.points, places.normals, places.colors


def _colors(mesh: Mesh, faces: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float32]:
    if mesh.colors is None:
        return np.full((len(faces), 3), GREY, np.float32)
    corners = mesh.colors[:, :3].astype(np.float64)[mesh.faces[faces]] / 255
    return np.einsum("pc,pci->pi", weights, corners).astype(np.float32)
