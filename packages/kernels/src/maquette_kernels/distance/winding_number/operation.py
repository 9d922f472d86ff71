"""The specification of ``winding_number``: cost, test inputs, error bound, implementations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from maquette_kernels.call import Call
from maquette_kernels.distance import meshes
from maquette_kernels.distance.winding_number.reference import reference
from maquette_kernels.implementation import twins
from maquette_kernels.operation import NoSettings, Operation

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

FLOPS = 110
"""Of one point against one triangle."""
ROUNDING = 2e-6
EXPANSION = 0.25
"""What the sum of far nodes may be off by at an accuracy of 1, times the root of the number of faces (a soup's
errors are independent); it falls with the third power of the accuracy.
"""


def allowed(accuracy: float, faces: int) -> float:
    """The stated bound of the error of a winding number."""
    expansion = EXPANSION / accuracy**3 if accuracy > 0 else 0.0
    return float((ROUNDING + expansion) * max(faces, 1) ** 0.5)


def validate(call: Call) -> str | None:
    """What is wrong with a call, or None."""
    accuracy = call.scalars["accuracy"]
    if not (accuracy == 0 or 1 < accuracy):
        return f"accuracy is {accuracy}; give 0 for exact numbers, or more than 1 (2 is usual)"
    return meshes.validate(call)


def fake(points: Tensor, vertices: Tensor, faces: Tensor, accuracy: float) -> tuple[Tensor]:
    """One number a point."""
    return (points[:, 0],)


def cost(call: Call) -> tuple[int, int]:
    """Every point against every face, which a tree undercuts by far; each tensor is read or written once."""
    points, faces = call["points"], call["faces"]
    results = points.shape[0] * points.dtype.itemsize
    return FLOPS * points.shape[0] * faces.shape[0], sum(operand.bytes for operand in call.given.values()) + results


def judge(arguments: tuple[Any, ...], results: tuple[Tensor, ...], oracles: tuple[Tensor, ...]) -> str | None:
    """Within the stated bound."""
    _, _, faces, accuracy = arguments
    (number,), (truth,) = results, oracles
    if number.shape != truth.shape or not torch.equal(number.isnan(), truth.isnan()):
        return "numbers are NaN where the reference's are not, or the other way round"
    error = (number.double() - truth).nan_to_num(0).abs().max().item() if len(truth) else 0.0
    bound = allowed(accuracy, len(faces))
    return None if error <= bound else f"the number is off by {error:.2e}, allowed {bound:.2e}"


def reversed_faces(run: Callable[..., tuple[Tensor, ...]], arguments: tuple[Any, ...]) -> None:
    """Faces that look the other way count the other way."""
    points, vertices, faces, accuracy = arguments
    before, after = run(*arguments)[0], run(points, vertices, faces.flip(1), accuracy)[0]
    error = (before + after).nan_to_num(0).abs().max().item() if len(points) else 0.0
    assert error <= 2 * allowed(accuracy, len(faces)), f"reversed faces do not count the other way: {error:.2e}"


def additive(run: Callable[..., tuple[Tensor, ...]], arguments: tuple[Any, ...]) -> None:
    """The numbers of two halves of the faces add up to that of all."""
    points, vertices, faces, accuracy = arguments
    half = len(faces) // 2
    parts = (run(points, vertices, some, accuracy)[0] for some in (faces[:half], faces[half:]))
    error = (sum(parts) - run(*arguments)[0]).nan_to_num(0).abs().max().item() if len(points) else 0.0
    assert error <= 3 * allowed(accuracy, len(faces)), f"halves do not add up: {error:.2e}"


def example(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """Points around a small torus."""
    return *meshes.example(device, dtype), 2.0


def workload(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """100,000 points around a torus of 20,000 faces."""
    return *meshes.workload(device, dtype), 2.0


def inputs(dtype: torch.dtype) -> SearchStrategy[tuple[Any, ...]]:
    """Meshes of all kinds, exact numbers twice as often as approximate ones."""
    from hypothesis import strategies as st

    accuracies = st.sampled_from([0.0, 0.0, 2.0])
    return st.tuples(meshes.inputs(dtype), accuracies).map(lambda drawn: (*drawn[0], drawn[1]))


WINDING_NUMBER = Operation(
    name="winding_number",
    reference=reference,
    constants=("points", "vertices", "faces"),
    fake=fake,
    validate=validate,
    inputs=inputs,
    example=example,
    workload=workload,
    cost=cost,
    dtypes=(torch.float32,),
    judge=judge,
    laws=(reversed_faces, additive),
    implementations=twins(__package__, meshes.for_triton),
)


def build(config: NoSettings) -> Operation:
    """Generalised winding numbers of a triangle mesh: 1 inside a closed outward surface, 0 outside."""
    return WINDING_NUMBER
