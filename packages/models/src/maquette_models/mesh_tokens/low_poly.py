"""From a mesh or points to a low-poly mesh that follows them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from omegaconf import MISSING
from torch import Tensor

from maquette.errors import MaquetteError, unknown_name
from maquette.inference_device import inference_device
from maquette.runs import load_run
from maquette.types import Asset, Mesh, Request
from maquette_models.mesh_tokens.augmentation import LONGEST, frame, place
from maquette_models.mesh_tokens.choice import Choice
from maquette_models.mesh_tokens.edge_points import points_with_edges
from maquette_models.mesh_tokens.grammar import Grammar
from maquette_models.mesh_tokens.mesh_transformer import MeshTransformer
from maquette_models.mesh_tokens.quantise import restore
from maquette_models.mesh_tokens.writing_meshes import Written, write_meshes

MOST_A_FACE = 6  # tokens, of a fan with one face whose corners lie in three blocks
OPTIONS = ("points", "normals", "faces", "temperature", "top_k", "top_p")


@dataclass
class LowPolyConfig:
    """`run` is the folder of a run of architecture `mesh_transformer`. `temperature`, `top_k` and `top_p` as in
    `Choice`; a request may change them, and say how many `faces` it wants where the run was trained on their number.
    `max_faces` 0 means the dataset's; `max_tokens` 0 as many as so many faces can take.

    Always `rows` sequences are computed together, filled up where there are fewer requests.
    """

    run: str = MISSING
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 0.95
    min_faces: int = 4
    max_faces: int = 0
    max_tokens: int = 0
    rows: int = 8


@dataclass(frozen=True)
class Order:
    """A request read: what the conditioner is given, a batch of one row with `surface` and `normals` [1, P, 3] in the
    model's cube, and how they lie in the user's."""

    request: Request
    condition: Mapping[str, Tensor]
    centre: np.ndarray
    scale: float
    choice: Choice


class LowPoly:
    """A request's mesh depends on that request alone, not on what is asked for beside it."""

    def __init__(self, config: LowPolyConfig) -> None:
        self.config = config
        run = load_run(config.run, inference_device())
        if not isinstance(run.model, MeshTransformer):
            raise MaquetteError(
                f"'{config.run}' is no run of a mesh transformer; give one whose model is 'mesh_transformer'"
            )
        self.model = run.model.requires_grad_(False)
        self.points, self.edge_share = int(run.facts["mesh_points"]), float(run.facts.get("mesh_edge_share", 0.0))
        most = config.max_faces or int(run.facts["mesh_max_faces"])
        tokens = config.max_tokens or 2 + MOST_A_FACE * most
        self.grammar = Grammar(self.model.vocabulary, config.min_faces, most, tokens)

    @property
    def takes_face_count(self) -> bool:
        """Whether a request may say how many faces it wants."""
        return "face_count" in self.model.conditioner.example_batch(1)

    def __call__(self, request: Request) -> Asset:
        """The asset of one request, where the mesh or the points of the request are.

        Raises:
            MaquetteError: the request gives nothing to follow, or something that this pipeline cannot follow.
        """
        asset = self.batch([request])[0]
        if isinstance(asset, MaquetteError):
            raise asset
        return asset

    def batch(self, requests: Sequence[Request]) -> list[Asset | MaquetteError]:
        """The assets of several requests, in order; where one cannot be followed, its error in its place."""
        orders: dict[int, Order] = {}
        results: dict[int, Asset | MaquetteError] = {}
        for i, request in enumerate(requests):
            try:
                orders[i] = self._order(request)
            except MaquetteError as error:
                results[i] = error
        written: dict[int, Written] = {}
        for choice in dict.fromkeys(order.choice for order in orders.values()):
            numbers = [i for i, order in orders.items() if order.choice == choice]
            for start in range(0, len(numbers), self.config.rows):
                chunk = numbers[start : start + self.config.rows]
                written |= zip(chunk, self._write([orders[i] for i in chunk]), strict=True)
        results |= {i: self._asset(order, written[i]) for i, order in orders.items()}
        return [results[i] for i in range(len(requests))]

    @torch.inference_mode()
    def _write(self, orders: Sequence[Order]) -> list[Written]:
        # Conditions are encoded one by one: what a row's encoding is must not depend on the rows beside it.
        encoded = [self.model.encode_condition(self.model.conditioner.prepare(order.condition)) for order in orders]
        condition = {key: torch.cat([one[key] for one in encoded]) for key in encoded[0]}
        seeds = [order.request.seed for order in orders]
        return write_meshes(self.model, condition, seeds, self.grammar, orders[0].choice, rows=self.config.rows)

    def _order(self, request: Request) -> Order:
        check(request)
        options = request.options
        choice = Choice(
            **{
                key: type(getattr(self.config, key))(options.get(key, getattr(self.config, key)))
                for key in ("temperature", "top_k", "top_p")
            }
        )
        if request.mesh is not None:
            centre, scale = frame(request.mesh)
            surface, normals = points_with_edges(place(request.mesh, centre, scale), self.points, self.edge_share)
        else:
            surface, normals, centre, scale = given_points(options, self.points)
        condition = {"surface": surface[None], "normals": normals[None], **self._face_count(options)}
        return Order(request, condition, centre, scale, choice)

    def _face_count(self, options: Mapping[str, Any]) -> dict[str, Tensor]:
        """How many faces are asked for, where that is said."""
        if "faces" not in options:
            return {}
        count = options["faces"]
        if not isinstance(count, int) or count < 1:
            raise MaquetteError(f"pipeline 'low_poly': option 'faces' is {count!r}; give a whole number of at least 1")
        if not self.takes_face_count:
            raise MaquetteError(
                f"'{self.config.run}' was not trained on numbers of faces; give its conditioner a part 'face_count'"
            )
        return {"face_count": torch.tensor([count])}

    def _asset(self, order: Order, written: Written) -> Asset:
        mesh = restore(written.faces, self.model.vocabulary.levels)
        vertices = mesh.vertices.astype(np.float64) / order.scale + order.centre
        metadata = {
            "prompt": order.request.prompt,
            "seed": order.request.seed,
            "faces": len(mesh.faces),
            "tokens": len(written.tokens),
            "cut": written.cut,
            "tokens_sha256": hashlib.sha256(written.tokens.tobytes()).hexdigest(),
        }
        return Asset(Mesh(vertices.astype(np.float32), mesh.faces), metadata)


def check(request: Request) -> None:
    """Refuse what this pipeline cannot follow.

    Raises:
        MaquetteError: neither a mesh nor points, or pictures, guidance, steps or unknown options.
    """
    for name in request.options:
        if name not in OPTIONS:
            raise unknown_name("option", name, OPTIONS, where="in a request to pipeline 'low_poly'")
    if (request.mesh is None) == ("points" not in request.options):
        raise MaquetteError("pipeline 'low_poly' follows a mesh or points: give 'mesh' or the option 'points'")
    if request.images or request.guidance is not None or request.steps is not None:
        raise MaquetteError("pipeline 'low_poly' follows a mesh or points; it takes no pictures, guidance or steps")


def given_points(options: Mapping[str, Any], count: int) -> tuple[Tensor, Tensor, np.ndarray, float]:
    """Points and normals, float32 [count, 3] each, of a user's points in the model's cube; their centre and scale.

    Where there are fewer points than `count` they are taken several times, where there are more evenly among them.

    Raises:
        MaquetteError: not finite points [P, 3] with normals [P, 3], or no extent.
    """
    points, normals = (np.asarray(options.get(key, ()), np.float64) for key in ("points", "normals"))
    if points.ndim != 2 or points.shape[1:] != (3,) or points.shape != normals.shape or not len(points):
        raise MaquetteError(
            f"pipeline 'low_poly' needs 'points' [P, 3] and 'normals' [P, 3], not {points.shape} and {normals.shape}"
        )
    extent = np.ptp(points, axis=0).max()
    if not np.isfinite(points).all() or not np.isfinite(normals).all() or not extent > 0:
        raise MaquetteError("pipeline 'low_poly': points and normals must be finite, and not all in one place")
    centre, scale = (points.min(axis=0) + points.max(axis=0)) / 2, float(LONGEST / extent)
    chosen = np.linspace(0, len(points) - 1, count).round().astype(np.int64)
    lengths = np.linalg.norm(normals, axis=1, keepdims=True).clip(min=1e-12)
    placed, unit = (points - centre) * scale, normals / lengths
    return torch.from_numpy(placed[chosen]).float(), torch.from_numpy(unit[chosen]).float(), centre, scale
