"""The specification of ``ragged_attention``: shapes, cost, test inputs, laws, and its implementations in order of
preference.
"""

# Implementations take all arguments by position, as torch's operators do.
# ruff: noqa: PLR0917
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from maquette_kernels import triton_support
from maquette_kernels.call import Call
from maquette_kernels.implementation import twins
from maquette_kernels.operation import NoSettings, Operation
from maquette_kernels.tolerance import Verdict, flash_attention_rule
from maquette_kernels.transformer.ragged_attention.reference import reference, residuals, working_dtype

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

MAX_DIM = 256


def validate(call: Call) -> str | None:
    """What is wrong with the shapes of a call, or None."""
    q, k, v = call["q"], call["k"], call["v"]
    if len(q.shape) != 3 or len(k.shape) != 3 or k.shape != v.shape or q.shape[1:] != k.shape[1:]:
        told = f"{tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}"
        return f"q must be [T, H, D], k and v [S, H, D], with H and D of q; got {told}"
    if not (q.dtype == k.dtype == v.dtype and q.dtype.is_floating_point):
        return f"q, k and v must share a floating-point dtype, got {q.dtype}, {k.dtype} and {v.dtype}"
    if 0 in q.shape[1:]:
        return f"q is {tuple(q.shape)}; there must be a head and a channel"
    for name in ("q_offsets", "k_offsets"):
        if len(call[name].shape) != 1 or call[name].dtype != torch.int64 or call[name].shape[0] == 0:
            return f"{name} must be int64 [B + 1], got {call[name].dtype} {tuple(call[name].shape)}"
    if call["q_offsets"].shape != call["k_offsets"].shape:
        told = f"{call['q_offsets'].shape[0] - 1} and {call['k_offsets'].shape[0] - 1}"
        return f"q_offsets and k_offsets must hold equally many sequences, got {told}"
    return None


def fake(
    q: Tensor, k: Tensor, v: Tensor, q_offsets: Tensor, k_offsets: Tensor, max_q: int, max_k: int, scale: float
) -> tuple[Tensor, Tensor]:
    """One output like q, then a logarithm of sums for each head and row."""
    return q.new_empty(q.shape), q.new_empty((q.shape[1], q.shape[0]), dtype=working_dtype(q))


def cost(call: Call) -> tuple[int, int]:
    """Two products over pairs of a row and a key, of which there are at most ``T * max_k``; q, k, v and out once."""
    q = call["q"]
    rest = sum(operand.bytes for operand in call.given.values())
    return 4 * q.numel * min(call.scalars["max_k"], call["k"].shape[0]), rest + q.bytes


def example(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """Three sequences of a small transformer; q, k and v are views of one projection."""
    offsets = torch.tensor([0, 5, 5, 17], device=device)
    fused = torch.randn(17, 3, 2, 8, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    return *fused.unbind(1), offsets, offsets.clone(), 12, 12, 8**-0.5


def workload(device: torch.device, dtype: torch.dtype) -> tuple[Any, ...]:
    """Windows of 256 tokens, the last of each sequence shorter; on a GPU 12 heads of 128 channels."""
    windows, heads, dim = (32, 4, 64) if device.type == "cpu" else (512, 12, 128)
    offsets = torch.tensor([0, *([256] * (windows - 1) + [100])]).cumsum(0)
    fused = torch.randn(int(offsets[-1]), 3, heads, dim, generator=torch.Generator().manual_seed(0))
    offsets = offsets.to(device)
    return *fused.to(device, dtype).unbind(1), offsets, offsets.clone(), 256, 256, dim**-0.5


def inputs(dtype: torch.dtype) -> SearchStrategy[tuple[Any, ...]]:
    """Lengths 0, 1 and neighbours of the interpreter's block; keys apart from queries or as many; bounds that are
    tight or not; large scores.
    """
    from hypothesis import strategies as st

    @st.composite
    def draw_arguments(draw: Any) -> tuple[Any, ...]:
        few = st.lists(st.sampled_from([0, 1, 2, 7, 15, 16, 17]), min_size=0, max_size=2)
        lengths = draw(few | st.sampled_from([[33], [5, 2, 5], [0, 3, 0, 2]]))
        others = st.lists(st.sampled_from([0, 1, 3, 15, 16, 17]), min_size=len(lengths), max_size=len(lengths))
        keys = list(draw(st.just(lengths) | others))
        if lengths and max(keys) < 2:  # with one key each, gradients of q are zero but for rounding: nothing to compare
            keys[lengths.index(max(lengths))] = 3
        heads, dim = draw(st.sampled_from([(1, 16), (2, 5), (1, 33), (1, 8), (2, 4)]))
        generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
        q = draw(st.sampled_from([1.0, 4.0])) * torch.randn(sum(lengths), heads, dim, generator=generator)
        k, v = torch.randn(2, sum(keys), heads, dim, generator=generator)
        offsets = [torch.tensor([0, *given], dtype=torch.int64).cumsum(0) for given in (lengths, keys)]
        slack = draw(st.sampled_from([0, 0, 1, 5]))
        bounds = [max(given, default=0) + slack for given in (lengths, keys)]
        return q.to(dtype), k.to(dtype), v.to(dtype), *offsets, *bounds, draw(st.sampled_from([dim**-0.5, 0.3]))

    return draw_arguments()


def keys_may_be_permuted(run: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """The order of the keys within a sequence does not matter."""
    q, k, v, q_offsets, k_offsets, *rest = arguments
    reverse = torch.arange(k.shape[0], device=k.device)
    for first, behind in zip(k_offsets[:-1].tolist(), k_offsets[1:].tolist(), strict=True):
        reverse[first:behind] = reverse[first:behind].flip(0)
    plain = run(*arguments)[0].float()
    permuted = run(q, k[reverse], v[reverse], q_offsets, k_offsets, *rest)[0].float()
    _near(plain, permuted, arguments, "keys in reverse order change the result")


def sequences_are_alone(run: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """A batch is its sequences side by side: the last one alone gives what it gives among others."""
    q, k, v, q_offsets, k_offsets, *rest = arguments
    if len(q_offsets) < 2:
        return
    q_first, k_first = int(q_offsets[-2]), int(k_offsets[-2])
    last = (q_offsets[-2:] - q_first, k_offsets[-2:] - k_first)
    (alone,) = run(q[q_first:], k[k_first:], v[k_first:], *last, *rest)
    (among,) = run(*arguments)
    _near(among[q_first:].float(), alone.float(), arguments, "the last sequence gives something else when it is alone")


def _near(a: Tensor, b: Tensor, arguments: tuple[Any, ...], message: str) -> None:
    largest = arguments[2].float().abs().amax().item() if arguments[2].numel() else 0.0
    bound = 1e-4 if arguments[0].dtype == torch.float32 else 0.05
    assert not a.numel() or (a - b).abs().max().item() <= bound * max(largest, 1.0), message


def tolerance(result: Tensor, baselines: Sequence[Tensor], oracle: Tensor) -> Verdict:
    """The common rule and, in float32, two times 2^-20 more, as torch's kernel for CPUs has exponentials of 20 bits.

    Logarithms of sums [H, T] are float32 in narrow calls too, whose exponentials are worse: they may be off by 2^-13,
    which changes weights by as much, a small part of a narrow dtype's unit.
    """
    verdict = flash_attention_rule(result, baselines, oracle)
    if not oracle.numel():
        return verdict
    if result.dim() == 2 and result.dtype == torch.float32:
        return Verdict(verdict.error, verdict.allowed + 2.0**-13)
    if result.dtype == torch.float32:
        return Verdict(verdict.error, verdict.allowed + 2 * 2.0**-20 * oracle.abs().max().item())
    return verdict


def _supports_triton(call: Call) -> str | None:
    dim = call["q"].shape[-1]
    if dim > MAX_DIM:
        return f"D is {dim}; a program's tiles hold at most {MAX_DIM}"
    return triton_support.refusal(call, rows=("q", "k", "v", "q_offsets", "k_offsets"))


RAGGED_ATTENTION = Operation(
    name="ragged_attention",
    reference=reference,
    residuals=residuals,
    keeps=(0,),
    constants=("q_offsets", "k_offsets"),
    fake=fake,
    validate=validate,
    inputs=inputs,
    example=example,
    cost=cost,
    tolerance=tolerance,
    laws=(keys_may_be_permuted, sequences_are_alone),
    linear=("v",),
    workload=workload,
    implementations=twins(__package__, _supports_triton, backward=True, kernels="triton_launch"),
)


def build(config: NoSettings) -> Operation:
    """Attention within each sequence of a ragged batch, or within windows."""
    return RAGGED_ATTENTION
