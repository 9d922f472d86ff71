"""Attention of ragged batches and windows against independent oracles: masks, closed forms, brute force."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from maquette.errors import MaquetteError
from maquette_kernels.resolution import fixed
from maquette_kernels.transformer import functions
from maquette_kernels.transformer.functions import ragged_attention, window_offsets, windowed_attention
from maquette_kernels.transformer.ragged_attention import RAGGED_ATTENTION, cpu

IMPLEMENTATIONS = ["cpu", "reference"]


def rows(count: int, *, heads: int = 2, dim: int = 4, seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, count, heads, dim, generator=generator, dtype=torch.float64).unbind(0)


def under_mask(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor, scale: float | None = None) -> Tensor:
    """Attention of all to all under a mask [T, S], by torch; a row that may see nothing gives zeros."""
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed, scale=scale)
    return out[0].transpose(0, 1).nan_to_num(0.0)


def ids(lengths: list[int]) -> Tensor:
    return torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@settings(max_examples=25, deadline=None)
@given(pairs=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=6), seed=st.integers(0, 99))
def test_ragged_attention_is_attention_under_a_block_mask(
    implementation: str, pairs: list[tuple[int, int]], seed: int
) -> None:
    q_lengths, k_lengths = [a for a, _ in pairs], [b for _, b in pairs]
    q, _, _ = (x.requires_grad_() for x in rows(sum(q_lengths), seed=seed))
    _, k, v = (x.requires_grad_() for x in rows(sum(k_lengths), seed=seed + 1))
    allowed = ids(q_lengths)[:, None] == ids(k_lengths)[None, :]
    offsets = [torch.tensor([0, *lengths]).cumsum(0) for lengths in (q_lengths, k_lengths)]
    with fixed(RAGGED_ATTENTION, implementation):
        out = ragged_attention(q, k, v, *offsets, scale=0.7)
        above = torch.randn(out.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        found = torch.autograd.grad(out, (q, k, v), above)
    torch.testing.assert_close(out, under_mask(q, k, v, allowed, 0.7))
    if len(q) and len(k):  # rows that see nothing give NaN gradients under torch's mask, so they are left out there
        seen = allowed.any(1)
        expected = torch.autograd.grad(under_mask(q[seen], k, v, allowed[seen], 0.7), (q, k, v), above[seen])
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_closed_forms(implementation: str) -> None:
    _, _, v = rows(6)
    nothing, offsets = torch.zeros_like(v), torch.tensor([0, 2, 2, 6])
    with fixed(RAGGED_ATTENTION, implementation):
        out = ragged_attention(nothing, nothing, v, offsets)
        alone = ragged_attention(*rows(6), torch.arange(7))
        _, sums = RAGGED_ATTENTION.handle.call((nothing, nothing, v, offsets, offsets, 4, 4, 1.0), False)
    torch.testing.assert_close(out[:2], v[:2].mean(0).expand(2, -1, -1))
    torch.testing.assert_close(out[2:], v[2:].mean(0).expand(4, -1, -1))
    torch.testing.assert_close(alone, rows(6)[2])
    torch.testing.assert_close(sums, torch.tensor([2.0] * 2 + [4.0] * 4, dtype=torch.float64).log().expand(2, 6))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_one_key_that_outweighs_all_is_what_comes_out(implementation: str) -> None:
    q, k, v = rows(5, heads=1)
    k = k.clone()
    k[3] = 200 * q[1]
    with fixed(RAGGED_ATTENTION, implementation):
        out = ragged_attention(q[1:2], k, v, torch.tensor([0, 1]), torch.tensor([0, 5]), scale=1.0)
    torch.testing.assert_close(out[0], v[3])


@pytest.mark.parametrize("lengths", [[300, 300, 7], [600], [5] * 40, [130, 4, 130, 130, 4]])
def test_the_bfloat16_path_is_off_in_the_mean_square_as_torchs_is(lengths: list[int]) -> None:
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    wide = [x.float().requires_grad_() for x in rows(sum(lengths), heads=3, dim=16)]
    above = torch.randn(wide[0].shape, generator=torch.Generator().manual_seed(1)).bfloat16()
    narrow = [x.detach().bfloat16().requires_grad_() for x in wide]
    exact = [x.detach().double().requires_grad_() for x in narrow]

    def results(operands: list[Tensor], function: Any) -> list[Tensor]:
        out = function(*operands)
        return [out.double(), *(g.double() for g in torch.autograd.grad(out, operands, above.to(out.dtype)))]

    def torchs(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        parts = zip(*(x.split(lengths) for x in (q, k, v)), strict=True)
        return torch.cat(
            [under_mask(*part, torch.ones(len(part[0]), len(part[0]), dtype=torch.bool)) for part in parts]
        )

    ours, theirs = results(narrow, lambda *x: ragged_attention(*x, offsets)), results(narrow, torchs)
    for own, other, right in zip(ours, theirs, results(exact, torchs), strict=True):
        assert (own - right).norm() <= 1.5 * (other - right).norm()


def test_groups_of_equal_lengths_cover_each_sequence_once() -> None:
    q_offsets, k_offsets = torch.tensor([0, 3, 6, 6, 8, 11]), torch.tensor([0, 2, 4, 9, 9, 11])
    found = {}
    for own, keys, count in cpu._groups(q_offsets, k_offsets):
        found[count] = [torch.arange(11)[places].tolist() for places in (own, keys)]
    assert found == {3: [[0, 1, 2, 3, 4, 5, 8, 9, 10], [0, 1, 2, 3, 9, 10]]}


def test_dense_sequences_by_torch_are_the_same() -> None:
    q, k, v = rows(1536)
    offsets = torch.tensor([0, 768, 1536])
    assert functions._is_dense(q, k, 2, 768, 768)
    assert not functions._is_dense(q, k, 2, 769, 768)
    assert not functions._is_dense(q, k, 6, 256, 256)
    with fixed(RAGGED_ATTENTION, "cpu"):
        assert not functions._is_dense(q, k, 2, 768, 768)
        call = (q, k, v, offsets, offsets, 768, 768, 0.5)
        torch.testing.assert_close(functions._dense(call, 2), ragged_attention(q, k, v, offsets, scale=0.5))
        with pytest.raises(MaquetteError, match="kernel 'ragged_attention'"):
            functions._dense((q, k, v[:, :, :1], *call[3:]), 2)


@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=5), window=st.integers(1, 5), shift=st.integers(0, 4))
def test_windows_are_cut_as_by_hand(lengths: list[int], window: int, shift: int) -> None:
    shift = shift % window
    expected, first = [], 0
    for length in lengths:
        edges = [first, *range(first + (shift or window), first + length, window)]
        expected += edges if length else []
        first += length
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    found = window_offsets(offsets, sum(lengths), window, shift).tolist()
    assert found[: len(expected)] == expected
    assert set(found[len(expected) :]) == {sum(lengths)}
    assert len(found) <= 1 + (sum(lengths) + len(lengths) * (2 * window - 2)) // window


@pytest.mark.parametrize(("window", "shift"), [(4, 0), (4, 1), (5, 3), (1, 0), (64, 0)])
def test_windowed_attention_is_attention_under_a_mask_in_the_curves_order(window: int, shift: int) -> None:
    lengths = [11, 0, 6]
    q, k, v = (x.requires_grad_() for x in rows(17))
    generator = torch.Generator().manual_seed(3)
    order = torch.cat([torch.randperm(11, generator=generator), 11 + torch.randperm(6, generator=generator)])
    place = torch.empty_like(order)
    place[order] = torch.arange(17)
    own = torch.where(place < 11, place, place - 11)
    number = (own + (window - shift) % window) // window + 1000 * ids(lengths)
    allowed = number[:, None] == number[None, :]
    out = windowed_attention(q, k, v, order, window=window, shift=shift, offsets=torch.tensor([0, 11, 11, 17]))
    expected = under_mask(q, k, v, allowed)
    torch.testing.assert_close(out, expected)
    above = torch.randn(out.shape, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(
        torch.autograd.grad(out, (q, k, v), above), torch.autograd.grad(expected, (q, k, v), above)
    )


def test_windows_compile_into_one_graph() -> None:
    q, k, v = (x.float().requires_grad_() for x in rows(12))
    order = torch.arange(12).flip(0)

    def step(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return windowed_attention(q, k, v, order, window=5, shift=2) + ragged_attention(q, k, v, torch.tensor([0, 12]))

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    plain, graph = ((f(q, k, v), *torch.autograd.grad(f(q, k, v).sum(), (q, k, v))) for f in (step, compiled))
    assert all(torch.equal(a, b) for a, b in zip(plain, graph, strict=True))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda q, o: ragged_attention(q[0], q, q, o), r"q must be \[T, H, D\]"),
        (lambda q, o: ragged_attention(q, q[:, :1], q[:, :1], o), "with H and D of q"),
        (lambda q, o: ragged_attention(q, q, q.float(), o), "share a floating-point dtype"),
        (lambda q, o: ragged_attention(q, q, q, o.int()), r"q_offsets must be int64 \[B \+ 1\]"),
        (lambda q, o: ragged_attention(q, q, q, o, o[:2]), "equally many sequences, got 2 and 1"),
        (lambda q, o: windowed_attention(q, q, q, window=0), "window 0 and shift 0"),
        (lambda q, o: windowed_attention(q, q, q, window=4, shift=4), "0 <= shift < window"),
        (lambda q, o: windowed_attention(q, q, q, torch.arange(3), window=4), r"order must be \[6\], got \[3\]"),
    ],
)
def test_calls_that_do_not_fit_are_told(call: Any, message: str) -> None:
    with pytest.raises(MaquetteError, match=message) as caught:
        call(rows(6)[0], torch.tensor([0, 2, 6]))
    assert "\n" not in str(caught.value)
