"""The specification of ``inside_mesh``: cost, test inputs, what may be undecided, implementations."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from maquette_kernels.call import Call
from maquette_kernels.distance import meshes
from maquette_kernels.distance.inside_mesh.reference import reference
from maquette_kernels.distance.winding_number.operation import FLOPS
from maquette_kernels.distance.winding_number.reference import reference as winding_number
from maquette_kernels.implementation import twins
from maquette_kernels.operation import NoSettings, Operation

UNDECIDED = 0.02
"""Distance of the winding number from one half within which an approximate one may say either."""


def fake(points: Tensor, vertices: Tensor, faces: Tensor) -> tuple[Tensor]:
    """One truth a point."""
    return (points.new_empty(len(points), dtype=torch.bool),)


def cost(call: Call) -> tuple[int, int]:
    """Every point against every face, which a tree undercuts by far; each tensor is read or written once."""
    points, faces = call["points"].shape[0], call["faces"].shape[0]
    return FLOPS * points * faces, sum(operand.bytes for operand in call.given.values()) + points


def judge(arguments: tuple[Any, ...], results: tuple[Tensor, ...], oracles: tuple[Tensor, ...]) -> str | None:
    """The same wherever the exact winding number is not close to one half."""
    points, vertices, faces = arguments
    number = winding_number(points.double(), vertices.double(), faces, 0.0)
    wrong = (results[0] != oracles[0]) & ~((number - 0.5).abs() <= UNDECIDED)
    return f"{wrong.sum().item()} of {len(wrong)} points are on the wrong side" if wrong.any() else None


INSIDE_MESH = Operation(
    name="inside_mesh",
    reference=reference,
    constants=("points", "vertices", "faces"),
    fake=fake,
    validate=meshes.validate,
    inputs=partial(meshes.inputs, closed=True),
    example=meshes.example,
    workload=meshes.workload,
    cost=cost,
    dtypes=(torch.float32,),
    judge=judge,
    implementations=twins(__package__, meshes.for_triton, kernels="triton_path"),
)


def build(config: NoSettings) -> Operation:
    """Whether points are inside a triangle mesh: the winding number is over one half."""
    return INSIDE_MESH
