"""The specification of ``quantise_rowwise``: shapes, cost, test inputs, laws, and its implementations in order of
preference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from maquette_kernels import triton_support
from maquette_kernels.call import Call
from maquette_kernels.implementation import twins
from maquette_kernels.operation import NoSettings, Operation
from maquette_kernels.transformer.quantise_rowwise.reference import E4M3, reference

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

MAX_DIM = 32768


def validate(call: Call) -> str | None:
    """What is wrong with a call, or None."""
    x = call["x"]
    if not x.shape or not x.dtype.is_floating_point:
        return f"x must be a floating-point [..., D], got {x.dtype} {tuple(x.shape)}"
    return None


def fake(x: Tensor, power_of_two: bool) -> tuple[Tensor, Tensor]:
    """Bytes like x, and a scale for each row."""
    return x.new_empty(x.shape, dtype=E4M3), x.new_empty(x.shape[:-1], dtype=torch.float32)


def cost(call: Call) -> tuple[int, int]:
    """Magnitude, comparison, product and rounding of each element; x read, a byte an element and the scales written."""
    x = call["x"]
    return 4 * x.numel, x.bytes + x.numel + 4 * (x.numel // max(x.shape[-1], 1))


def example(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """A few rows of a small model."""
    return torch.randn(2, 5, 48, generator=torch.Generator().manual_seed(0)).to(device, dtype), True


def workload(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """Activations of a large model's block: on a GPU 64 MB in bfloat16."""
    rows = 4096 if device.type == "cpu" else 21888
    return torch.randn(rows, 1536, generator=torch.Generator().manual_seed(0)).to(device, dtype), True


def inputs(dtype: torch.dtype) -> SearchStrategy[tuple[Any, ...]]:
    """Sizes 0, 1, primes and neighbours of powers of two; rows of zeros, of powers of two (ties, exact scales), tiny,
    huge, and with infinities and NaN.
    """
    from hypothesis import strategies as st

    @st.composite
    def draw_arguments(draw: Any) -> tuple[Any, ...]:
        shape = draw(st.sampled_from([(0, 8), (1, 1), (3, 7), (2, 5, 33), (17, 16), (5, 130), (1, 4), (2, 0)]))
        generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
        x = torch.randn(shape, generator=generator)
        if draw(st.booleans()):
            x = x.abs().log2().round().exp2() * x.sign() * draw(st.sampled_from([1.0, 448.0, 17.0]))
        x = x * draw(st.sampled_from([1.0, 1.0, 2.0**-120, 1e-30, 1e30, 0.0]))
        spread = torch.randint(-14, 1, shape, generator=generator).float().exp2()  # so that there are subnormals
        x = (x * spread).to(dtype)
        flaw = draw(st.sampled_from([None, None, None, float("nan"), float("inf"), -float("inf")]))
        if flaw is not None and x.numel():
            x.view(-1)[draw(st.integers(0, x.numel() - 1))] = flaw
        return x, draw(st.booleans())

    return draw_arguments()


def judge(arguments: tuple[Any, ...], results: tuple[Tensor, ...], oracles: tuple[Tensor, ...]) -> str | None:
    """Bits must be equal: every step is exact or one rounding; any NaN is as good as another."""
    values, scale = results
    expected, expected_scale = oracles
    if values.shape != expected.shape or scale.shape != expected_scale.shape:
        return f"shapes {list(values.shape)}, {list(scale.shape)} differ from the reference's"
    if not torch.equal(scale.nan_to_num(-1.0), expected_scale.nan_to_num(-1.0)):
        return f"scales differ in {(scale != expected_scale).sum().item()} of {scale.numel()} rows"
    wrong = (values.float().nan_to_num(1e9) != expected.float().nan_to_num(1e9)).sum().item()
    return f"values differ in {wrong} of {values.numel()} elements" if wrong else None


def values_come_back(run: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """``values * scale`` is x within 1/16 of each element or 2^-10 of a scale; no finite row overflows."""
    x = arguments[0].float()
    values, scale = run(*arguments)
    finite = x.isfinite().all(-1, keepdim=True)
    error = (values.float() * scale.unsqueeze(-1) - x).abs()
    allowed = x.abs() / 16 + scale.unsqueeze(-1) * 2.0**-10
    assert bool(((error <= allowed * 1.0001) | ~finite).all()), "values times scale are further from x than rounding"
    assert bool((values.float().isnan().all(-1, keepdim=True) | finite).all()), "a flawed row does not show"


def powers_of_two_pass_through(run: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """With scales that are powers of two, doubling x doubles the scales and keeps the values."""
    x, power_of_two = arguments
    if power_of_two and x.numel() and 1e-20 < x.float().abs().amax() < 1e20 and x.float().abs().amin() > 1e-30:
        values, scale = run(x, True)
        again, doubled = run(x * 2, True)
        large = x.float().abs().amax(-1) > 1e-25
        assert torch.equal(values.view(torch.uint8)[large], again.view(torch.uint8)[large]), "doubling changes values"
        assert torch.equal(2 * scale[large], doubled[large]), "doubling does not double the scales"


def _supports_triton(call: Call) -> str | None:
    dim = call["x"].shape[-1]
    if dim > MAX_DIM:
        return f"D is {dim}; one program holds at most {MAX_DIM}"
    return triton_support.refusal(call, rows=("x",))


QUANTISE_ROWWISE = Operation(
    name="quantise_rowwise",
    reference=reference,
    constants=("x",),
    fake=fake,
    validate=validate,
    inputs=inputs,
    example=example,
    cost=cost,
    judge=judge,
    laws=(values_come_back, powers_of_two_pass_through),
    workload=workload,
    implementations=twins(__package__, _supports_triton),
)


def build(config: NoSettings) -> Operation:
    """Rows in 8 bits (e4m3), each with a scale of its own."""
    return QUANTISE_ROWWISE
