"""The specification of ``sparse_conv3d``: shapes, cost, test inputs, laws, and its implementations."""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from maquette_kernels import triton_support
from maquette_kernels.call import Call
from maquette_kernels.implementation import twins
from maquette_kernels.operation import NoSettings, Operation
from maquette_kernels.sparse.clouds import shell, voxels
from maquette_kernels.sparse.map_order import invert_map, mask_order
from maquette_kernels.sparse.neighbour_map import NEIGHBOUR_MAP
from maquette_kernels.sparse.sparse_conv3d.reference import reference

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy


def validate(call: Call) -> str | None:
    """What is wrong with shapes and dtypes of a call, or None."""
    features, weight, neighbours = call["features"], call["weight"], call["neighbours"]
    if len(features.shape) != 2 or len(weight.shape) != 3 or weight.shape[1] != features.shape[1]:
        return f"features must be [N, Ci] and weight [V, Ci, Co], got {features.shape} and {weight.shape}"
    if len(neighbours.shape) != 2 or neighbours.shape[1] != weight.shape[0]:
        return f"neighbours must be [M, {weight.shape[0]}], one column a tap of weight, got {neighbours.shape}"
    if weight.dtype != features.dtype or (call.has("bias") and call["bias"].dtype != features.dtype):
        return f"weight and bias must have the features' dtype {features.dtype}; cast them or use autocast"
    outputs, inputs_ = (neighbours.shape[0],), (features.shape[0],)
    wanted = {
        "bias": (weight.shape[2],),
        "reverse": (*inputs_, weight.shape[0]),
        "order": outputs,
        "reverse_order": inputs_,
    }
    for name, shape in wanted.items():
        if call.has(name) and call[name].shape != shape:
            return f"{name} must be {list(shape)}, got {list(call[name].shape)}"
    for name in ("neighbours", "reverse", "order", "reverse_order"):
        if call.has(name) and call[name].dtype != torch.int32:
            return f"{name} must be int32, got {call[name].dtype}"
    return None


def fake(
    features: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    neighbours: Tensor,
    reverse: Tensor | None,
    order: Tensor | None,
    reverse_order: Tensor | None,
) -> Tensor:
    """One row an output."""
    return features.new_empty(neighbours.shape[0], weight.shape[2])


def cost(call: Call) -> tuple[int, int]:
    """As if every tap had a neighbour, for what is there is known to the data only; each tensor moved once."""
    weight, neighbours = call["weight"], call["neighbours"]
    read = sum(call[name].bytes for name in ("features", "weight", "bias", "neighbours") if call.has(name))
    written = neighbours.shape[0] * weight.shape[2] * weight.dtype.itemsize
    return 2 * neighbours.shape[0] * weight.numel, read + written


def _submanifold(coords: Tensor, channels: tuple[int, int], device: torch.device, dtype: torch.dtype) -> Any:
    coords = coords.to(device)
    neighbours = NEIGHBOUR_MAP(coords, None, 3, 3, 3, 1, 1)
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(len(coords), channels[0], generator=generator)
    weight = torch.randn(27, *channels, generator=generator) / (13 * channels[0]) ** 0.5
    bias = torch.randn(channels[1], generator=generator)
    order = mask_order(neighbours)
    floats = (x.to(device, dtype) for x in (features, weight, bias))
    return (*floats, neighbours, neighbours.flip(1).contiguous(), order, order)


def example(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """Submanifold, 3^3 taps, half of the places of two 4^3 grids."""
    return _submanifold(voxels(64, side=4, batch=2, seed=0), (16, 24), device, dtype)


def workload(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """Submanifold on a spherical shell: 64 across with 64 channels on a CPU, 512 with 128 on a GPU."""
    if device.type == "cpu":
        return _submanifold(shell(64), (64, 64), device, dtype)
    return _submanifold(shell(512), (128, 128), device, dtype)


def random_map(outputs: int, inputs_: int, taps: int, share: float, seed: int) -> Tensor:
    """A map between unlike sets: through each tap, about a share of the outputs read an input of their own."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.full((outputs, taps), -1, dtype=torch.int32)
    for tap in range(taps):
        count = int(share * min(outputs, inputs_) + 0.5)
        rows = torch.randperm(outputs, generator=generator)[:count]
        found[rows, tap] = torch.randperm(inputs_, generator=generator)[:count].int()
    return found


def inputs(dtype: torch.dtype) -> SearchStrategy[tuple[Any, ...]]:
    """Maps of random pairs between sets of unlike sizes, none, few and all taps present; with and without bias,
    reverse map and orders.
    """
    from hypothesis import strategies as st

    @st.composite
    def draw_arguments(draw: Any) -> tuple[Any, ...]:
        sizes = st.sampled_from([0, 1, 2, 17, 31, 32, 33, 67])
        outputs, count = draw(sizes), draw(sizes)
        taps = draw(st.sampled_from([1, 2, 3, 5]))
        seed = draw(st.integers(0, 2**31))
        neighbours = random_map(outputs, count, taps, draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])), seed)
        channels = st.sampled_from([1, 3, 16, 17, 33])
        ci, co = draw(channels), draw(channels)
        generator = torch.Generator().manual_seed(seed)
        features = torch.randn(count, ci, generator=generator) + draw(st.sampled_from([0.0, 10.0]))
        weight = torch.randn(taps, ci, co, generator=generator)
        bias = torch.randn(co, generator=generator).to(dtype) if draw(st.booleans()) else None
        reverse = invert_map(neighbours, count) if draw(st.booleans()) else None
        order = mask_order(neighbours) if draw(st.booleans()) else None
        back = mask_order(reverse) if reverse is not None and draw(st.booleans()) else None
        return features.to(dtype), weight.to(dtype), bias, neighbours, reverse, order, back

    return draw_arguments()


def outputs_do_not_meet(run: Any, arguments: tuple[Any, ...]) -> None:
    """Each output depends on its own row of the map only: without the first row, the others stay as they are."""
    features, weight, bias, neighbours, *_ = arguments
    if not len(neighbours):
        return
    bits = torch.finfo(features.dtype).eps
    (whole,) = run(features, weight, bias, neighbours, None, None, None)
    (part,) = run(features, weight, bias, neighbours[1:], None, None, None)
    scale = whole.float().abs().max() * bits * 64
    assert bool(((whole[1:] - part).float().abs() <= scale).all()), "an output depends on another's neighbours"


def _supports_triton(call: Call) -> str | None:
    if call["weight"].shape[0] > 1024:
        return f"{call['weight'].shape[0]} taps; a tile lists at most 1024"
    return triton_support.refusal(call, rows=("features",))


SPARSE_CONV3D = Operation(
    name="sparse_conv3d",
    reference=reference,
    constants=("neighbours", "reverse", "order", "reverse_order"),
    fake=fake,
    validate=validate,
    inputs=inputs,
    example=example,
    workload=workload,
    cost=cost,
    laws=(outputs_do_not_meet,),
    linear=("features", "weight", "bias"),
    implementations=twins(__package__, _supports_triton, backward=True),
)


def build(config: NoSettings) -> Operation:
    """Sparse convolution over a kernel map: submanifold, strided, dilated or inverse."""
    return SPARSE_CONV3D
