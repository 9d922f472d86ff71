"""The specification of ``closest_on_mesh``: shapes, cost, test inputs, what counts as right, implementations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from maquette_kernels.call import Call
from maquette_kernels.distance import meshes
from maquette_kernels.distance.closest_on_mesh.reference import reference, residuals
from maquette_kernels.implementation import twins
from maquette_kernels.operation import NoSettings, Operation

FLOPS = 110
"""Of one point against one triangle."""
SLACK = 16
"""Units in the last place of the call's dtype, at the size of distance and faces, that results may be off by."""


def fake(points: Tensor, vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Distance, face, weights; and the direction that is kept."""
    return points[:, 0], points.new_empty(len(points), dtype=torch.int32), points, points


def cost(call: Call) -> tuple[int, int]:
    """Every point against every face, which a tree undercuts by far; each tensor is read or written once."""
    points, faces = call["points"], call["faces"]
    results = points.shape[0] * (points.dtype.itemsize * 7 + 4)
    return FLOPS * points.shape[0] * faces.shape[0], sum(operand.bytes for operand in call.given.values()) + results


def judge(arguments: tuple[Any, ...], results: tuple[Tensor, ...], oracles: tuple[Tensor, ...]) -> str | None:
    """Distances are the oracle's; the face and weights may be another's that is as near, as told by themselves."""
    (distance, face, weights), (truth, known, _) = results, oracles
    found = known >= 0
    if distance.shape != truth.shape or not torch.equal(face >= 0, found):
        return "faces are found where the reference finds none, or the other way round"
    if not torch.equal(distance[~found].nan_to_num(-1), truth[~found].to(distance.dtype).nan_to_num(-1)):
        return "distances are not those of the reference where there is no face"
    if weights[~found].any():
        return "weights are not 0 where there is no face"
    return _judge_found(arguments, (distance[found], face[found], weights[found]), truth[found], found)


def _judge_found(arguments: Any, results: tuple[Tensor, ...], truth: Tensor, found: Tensor) -> str | None:
    """The same where there is a face."""
    points, vertices, faces = (value.double() for value in arguments)
    distance, face, weights = results
    if (face >= len(faces)).any() or (weights < 0).any():
        return "a face is not one of the mesh, or a weight is negative"
    epsilon = torch.finfo(distance.dtype).eps
    if ((weights.double().sum(1) - 1).abs() > SLACK * epsilon).any():
        return "weights do not add up to 1"
    corners = vertices[faces.long()[face.long()]]
    allowed = SLACK * epsilon * (corners - points[found, None]).norm(dim=-1).amax(1)
    own = (points[found] - torch.einsum("pc,pcd->pd", weights.double(), corners)).norm(dim=1)
    for what, values in (("the distance", distance.double()), ("the distance of face and weights", own)):
        error = (values - truth).abs() - allowed
        if not (error <= 0).all():
            return f"{what} is off by {error.max().item():.2e} more than allowed"
    return None


def reordered_and_doubled(run: Callable[..., tuple[Tensor, ...]], arguments: tuple[Any, ...]) -> None:
    """A scene of twice the size, points and faces in another order, has distances twice as large, up to the
    rounding of another face that is equally near.
    """
    points, vertices, faces = arguments
    generator = torch.Generator().manual_seed(len(points))
    order, turn = (torch.randperm(count, generator=generator).to(points.device) for count in (len(points), len(faces)))
    before, after = run(*arguments)[0], run(2 * points[order], 2 * vertices, faces[turn])[0]
    size = vertices.abs().max() + points.abs().max() if len(points) else 0.0
    assert torch.allclose(2 * before[order], after, rtol=1e-5, atol=1e-6 * float(size)), "distances depend on the order"


CLOSEST_ON_MESH = Operation(
    name="closest_on_mesh",
    reference=reference,
    residuals=residuals,
    keeps=(1, 2),
    constants=("faces",),
    fake=fake,
    validate=meshes.validate,
    inputs=meshes.inputs,
    example=meshes.example,
    workload=meshes.workload,
    cost=cost,
    dtypes=(torch.float32,),
    judge=judge,
    laws=(reordered_and_doubled,),
    implementations=twins(__package__, meshes.for_triton, backward=True),
)


def build(config: NoSettings) -> Operation:
    """The nearest point of a triangle mesh to each point: distance, face and barycentric weights."""
    return CLOSEST_ON_MESH
