"""Samples that follow a given shape are told from samples that follow another of its class."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from maquette.errors import MaquetteError
from maquette.types import Asset, Request
from maquette_models.decoders.marching_cubes import MarchingCubes, MarchingCubesConfig
from maquette_models.evaluation.shape_to_shape import evaluate_shape_to_shape
from tests.models import toy_shapes as toy
from tests.models.conditioners import pictured_shapes as pictured

pictured.install()
HELD_OUT = range(0, 24, 4)


class Follower:
    """Gives the shape whose mesh it was given, or another one of its class."""

    def __init__(self, right: bool) -> None:
        self.config = type("Config", (), {"max_batch": 4})
        self.right = right
        extract = MarchingCubes(MarchingCubesConfig())
        self.meshes = {number: extract(toy.shape(number)[0][0]) for number in HELD_OUT}

    def batch_with_fields(self, requests: list[Request]) -> list[tuple[Asset, torch.Tensor]]:
        return [(Asset(request.mesh), self.answer(request)) for request in requests]

    def answer(self, request: Request) -> torch.Tensor:
        number = next(n for n, mesh in self.meshes.items() if np.array_equal(mesh.vertices, request.mesh.vertices))
        return toy.shape(number if self.right else (number + 8) % 24)[0][None]


class Deaf(Follower):
    """Cannot use a mesh."""

    def batch_with_fields(self, requests: list[Request]) -> list[tuple[MaquetteError, torch.Tensor]]:
        return [(MaquetteError("this run cannot use a mesh"), torch.empty(0)) for _ in requests]


def test_who_follows_the_mesh_and_who_does_not() -> None:
    right = evaluate_shape_to_shape(Follower(True), "toy", reader="pictured_shapes")
    wrong = evaluate_shape_to_shape(Follower(False), "toy", reader="pictured_shapes")
    assert right["matched_iou"].value == 1.0 and right["matched_iou"].n == len(HELD_OUT)
    assert right["matched_above_mismatched"].interval[0] > 0.1 > wrong["matched_above_mismatched"].value
    assert evaluate_shape_to_shape(Follower(True), "toy", count=2, reader="pictured_shapes")["matched_iou"].n == 2


def test_a_run_that_cannot_follow_is_an_error() -> None:
    with pytest.raises(MaquetteError, match="cannot use a mesh"):
        evaluate_shape_to_shape(Deaf(True), "toy", reader="pictured_shapes")
