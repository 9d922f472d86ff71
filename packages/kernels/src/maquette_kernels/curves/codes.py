"""What the specifications of all curves share: a code for each voxel, and back."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from maquette_kernels import triton_support
from maquette_kernels.call import Call, on_cpu
from maquette_kernels.implementation import Implementation
from maquette_kernels.operation import Operation

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

MAX_BITS = 21
"""Three sides of 21 bits fill the 63 bits of a code that is not negative."""
INTEGERS = (torch.int32, torch.int64)


def encoder(name: str, package: str, reference: Callable[..., Any], steps: Callable[[int], int]) -> Operation:
    """The operation that turns voxels into codes.

    Args:
        name: of the operation.
        package: holds ``cpu`` and ``triton_kernels`` with their function ``encode``.
        reference: ``reference(coords, bits)``.
        steps: arithmetic steps a voxel for a number of bits.
    """

    def cost(call: Call) -> tuple[int, int]:
        coords = call["coords"]
        return coords.shape[0] * steps(call.scalars["bits"]), coords.bytes + 8 * coords.shape[0]

    return Operation(
        name=name,
        reference=reference,
        inputs=_draw_voxels,
        example=_example_voxels,
        workload=lambda device, dtype: (_voxels(1 << 22, 1024, device), 16),
        cost=cost,
        implementations=_implementations(package, "encode"),
        constants=("coords",),
        fake=lambda coords, bits: (coords.new_empty(coords.shape[0], dtype=torch.int64),),
        validate=_refuse_voxels,
        dtypes=(torch.float32,),
        laws=(rows_are_independent, coordinates_wrap_round),
    )


def decoder(name: str, package: str, reference: Callable[..., Any], steps: Callable[[int], int]) -> Operation:
    """The operation that turns codes into voxels; arguments as for :func:`encoder`."""

    def cost(call: Call) -> tuple[int, int]:
        count = call["codes"].shape[0]
        return count * steps(call.scalars["bits"]), count * (8 + 4 * _columns(call.scalars["batched"]))

    return Operation(
        name=name,
        reference=reference,
        inputs=_draw_codes,
        example=_example_codes,
        workload=lambda device, dtype: (_codes(1 << 22, 48, device), 16, False),
        cost=cost,
        implementations=_implementations(package, "decode"),
        constants=("codes",),
        fake=_fake_voxels,
        validate=_refuse_codes,
        dtypes=(torch.float32,),
        laws=(rows_are_independent,),
    )


def _implementations(package: str, function: str) -> tuple[Implementation, ...]:
    return (
        Implementation("cpu", _late(f"{package}.cpu", function), supports=on_cpu),
        Implementation(
            "triton",
            _late(f"{package}.triton_kernels", function),
            supports=lambda call: triton_support.refusal(call, rows=()),
            compilations=lambda: import_module(f"{package}.triton_kernels").compilations()[function],
        ),
    )


def _late(module: str, function: str) -> Callable[..., Any]:
    """A function whose module is imported when it first runs; as ``lazy``, for modules with two functions."""

    def run(*arguments: Any) -> Any:
        with torch.cuda.device_of(arguments[0]):
            return getattr(import_module(module), function)(*arguments)

    return run


def _columns(batched: bool) -> int:
    return 4 if batched else 3


def _fake_voxels(codes: Tensor, bits: int, batched: bool) -> tuple[Tensor]:
    return (codes.new_empty((codes.shape[0], _columns(batched)), dtype=torch.int32),)


def _refuse_bits(bits: int, batched: bool) -> str | None:
    most = MAX_BITS - batched
    if 1 <= bits <= most:
        return None
    return f"bits is {bits}; a side has 1 to {most} bits {'beside a batch index' if batched else ''}".rstrip()


def _refuse_voxels(call: Call) -> str | None:
    coords = call["coords"]
    if len(coords.shape) != 2 or coords.shape[1] not in (3, 4) or coords.dtype not in INTEGERS:
        return f"coords must be int32 [N, 3] or [N, 4] (batch, x, y, z), got {coords.dtype} {list(coords.shape)}"
    return _refuse_bits(call.scalars["bits"], coords.shape[1] == 4)


def _refuse_codes(call: Call) -> str | None:
    codes = call["codes"]
    if len(codes.shape) != 1 or codes.dtype != torch.int64:
        return f"codes must be int64 [N], got {codes.dtype} {list(codes.shape)}"
    return _refuse_bits(call.scalars["bits"], call.scalars["batched"])


def _voxels(count: int, side: int, device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, side, (count, 3), generator=generator, dtype=torch.int32).to(device)


def _codes(count: int, bits: int, device: torch.device) -> Tensor:
    return torch.randint(0, 1 << bits, (count,), generator=torch.Generator().manual_seed(0)).to(device)


def _example_voxels(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    return _voxels(64, 256, device), 8


def _example_codes(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    return _codes(64, 24, device), 8, False


COUNTS = (513, 512, 511, 61, 33, 2, 1, 0)
BITS = (1, 2, 3, 8, 16, 20, 21)


def _draw_voxels(dtype: torch.dtype) -> SearchStrategy[tuple[Any, ...]]:
    """Corners of the cube and voxels in it, some with a batch index, some outside, which wrap round."""
    from hypothesis import strategies as st

    @st.composite
    def draw_arguments(draw: Any) -> tuple[Any, ...]:
        bits, batched = draw(st.sampled_from(BITS)), draw(st.booleans())
        bits = min(bits, MAX_BITS - batched)
        generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
        shape = (draw(st.sampled_from(COUNTS)), 3)
        coords = torch.randint(0, 1 << bits, shape, generator=generator)
        if draw(st.booleans()):
            coords = torch.randint(0, 2, shape, generator=generator) * ((1 << bits) - 1)
        coords = coords - draw(st.sampled_from([0, 0, 1 << (bits - 1)]))
        if batched:
            elements = min(1 << (63 - 3 * bits), 1 << 15)
            coords = torch.cat([torch.randint(0, elements, (shape[0], 1), generator=generator), coords], 1)
        return coords.to(draw(st.sampled_from(INTEGERS))), bits

    return draw_arguments()


def _draw_codes(dtype: torch.dtype) -> SearchStrategy[tuple[Any, ...]]:
    """Codes of all lengths, the first and the last among them."""
    from hypothesis import strategies as st

    @st.composite
    def draw_arguments(draw: Any) -> tuple[Any, ...]:
        bits, batched = draw(st.sampled_from(BITS)), draw(st.booleans())
        bits = min(bits, MAX_BITS - batched)
        last = (1 << (63 if batched else 3 * bits)) - 1
        generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
        codes = torch.randint(0, last, (draw(st.sampled_from(COUNTS)),), generator=generator)
        codes[:1], codes[1:2] = last, 0
        return codes, bits, batched

    return draw_arguments()


def rows_are_independent(run: Callable[..., tuple[Tensor, ...]], arguments: tuple[Any, ...]) -> None:
    """Each row is dealt with by itself."""
    first, *rest = arguments
    assert torch.equal(run(first.flip(0), *rest)[0], run(first, *rest)[0].flip(0)), "rows are not independent"


def coordinates_wrap_round(run: Callable[..., tuple[Tensor, ...]], arguments: tuple[Any, ...]) -> None:
    """Coordinates count modulo ``2 ** bits``."""
    coords, bits = arguments
    around = coords.clone()
    around[:, -3:] += 1 << bits
    assert torch.equal(run(around, bits)[0], run(coords, bits)[0]), "coordinates do not wrap round"
