"""Independent oracles and metamorphic properties: facts that hold whatever the reference says."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from maquette_kernels import ops
from maquette_kernels.registry import use

IMPLEMENTATIONS = ["cpu", "reference"]


def queries(seed: int, *, batch: int = 2, tokens: int = 5, heads: int = 3, dim: int = 20) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    q, k = torch.randn(2, batch, tokens, heads, dim, generator=generator, dtype=torch.float64)
    q_weight, k_weight = 1 + 0.3 * torch.randn(2, dim, generator=generator, dtype=torch.float64)
    positions = 10 * torch.rand(tokens, 3, generator=generator) - 5
    return q, k, q_weight, k_weight, positions


def streams(seed: int, lengths: list[int], dim: int = 9) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    x, h = torch.randn(2, sum(lengths), dim, generator=generator, dtype=torch.float64)
    gate, scale, shift = torch.randn(3, len(lengths), dim, generator=generator, dtype=torch.float64)
    return x, h, gate, scale, shift, torch.tensor([0, *lengths]).cumsum(0)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@given(seed=st.integers(0, 1000))
def test_rotation_is_a_product_of_complex_numbers(implementation: str, seed: int) -> None:
    q, k, q_weight, k_weight, positions = queries(seed)
    with use("qk_norm_rope", implementation):
        rotated, _ = ops.qk_norm_rope(q, k, q_weight, k_weight, positions, theta=100.0)
    normed = functional.rms_norm(q, (20,), q_weight, eps=1e-6)
    turns = torch.ones(5, 10, dtype=torch.complex128)
    for axis in range(3):
        for j in range(3):  # 10 pairs: three an axis and one left over
            turns[:, 3 * axis + j] = torch.exp(1j * positions[:, axis].double() * 100.0 ** (-j / 3))
    expected = torch.complex(normed[..., :10], normed[..., 10:]) * turns[:, None, :]
    torch.testing.assert_close(rotated, torch.cat([expected.real, expected.imag], -1))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@given(seed=st.integers(0, 1000), shift=st.tuples(*[st.integers(-20, 20)] * 3))
def test_products_depend_on_differences_of_positions(implementation: str, seed: int, shift: tuple[int, ...]) -> None:
    q, k, q_weight, k_weight, positions = queries(seed)
    positions = positions.round()  # so that shifted positions are exact in float32
    with use("qk_norm_rope", implementation):
        here = ops.qk_norm_rope(q, k, q_weight, k_weight, positions)
        there = ops.qk_norm_rope(q, k, q_weight, k_weight, positions + torch.tensor(shift))
    products = [torch.einsum("bnhd,bmhd->bhnm", *pair) for pair in (here, there)]
    torch.testing.assert_close(*products, rtol=1e-9, atol=1e-9)
    if any(shift):
        assert not torch.allclose(here[0], there[0])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@given(seed=st.integers(0, 1000))
def test_rotation_commutes_with_permuting_tokens_and_keeps_lengths(implementation: str, seed: int) -> None:
    q, k, q_weight, k_weight, positions = queries(seed)
    order = torch.randperm(5, generator=torch.Generator().manual_seed(seed))
    with use("qk_norm_rope", implementation):
        plain = ops.qk_norm_rope(q, k, q_weight, k_weight, positions)
        permuted = ops.qk_norm_rope(q[:, order], k[:, order], q_weight, k_weight, positions[order])
        by_sample = ops.qk_norm_rope(q, k, q_weight, k_weight, positions.expand(2, 5, 3).contiguous())
        unmoved = ops.qk_norm_rope(q, k, q_weight, k_weight, torch.zeros(5, 3))
    for a, b, c, still in zip(plain, permuted, by_sample, unmoved, strict=True):
        torch.testing.assert_close(a[:, order], b)
        torch.testing.assert_close(a, c)
        torch.testing.assert_close(a.norm(dim=-1), still.norm(dim=-1))
    torch.testing.assert_close(unmoved[1], functional.rms_norm(k, (20,), k_weight, eps=1e-6))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_modulation_is_torchs_layer_norm(implementation: str) -> None:
    x, h, gate, scale, shift, _ = streams(0, [7])
    with use("gated_norm_modulate", implementation):
        y, out = ops.gated_norm_modulate(x[None], h[None], gate, scale, shift, eps=1e-5)
    torch.testing.assert_close(y[0], x + gate * h)
    torch.testing.assert_close(out[0], functional.layer_norm(y[0], (9,), eps=1e-5) * (1 + scale) + shift)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@given(lengths=st.lists(st.sampled_from([0, 1, 4, 7]), min_size=1, max_size=5), seed=st.integers(0, 1000))
def test_a_ragged_batch_is_its_sequences_side_by_side(implementation: str, lengths: list[int], seed: int) -> None:
    x, h, gate, scale, shift, offsets = (t.requires_grad_(t.is_floating_point()) for t in streams(seed, lengths))
    above = torch.randn(2, *x.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    leaves = [x, h, gate, scale, shift]
    with use("gated_norm_modulate", implementation):
        together = ops.gated_norm_modulate(x, h, gate, scale, shift, offsets)
        gradients = torch.autograd.grad(together, leaves, list(above))
        parts = [
            ops.gated_norm_modulate(x[None, a:b], h[None, a:b], gate[i : i + 1], scale[i : i + 1], shift[i : i + 1])
            for i, (a, b) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True))
        ]
        apart = [torch.cat([part[i][0] for part in parts]) for i in range(2)]
        expected = torch.autograd.grad(apart, leaves, list(above))
    torch.testing.assert_close(list(together), apart)
    torch.testing.assert_close(gradients, expected)
    for gradient in gradients[2:]:
        assert not gradient[[i for i, n in enumerate(lengths) if n == 0]].any()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_equal_lengths_are_a_dense_batch(implementation: str) -> None:
    x, h, gate, scale, shift, offsets = streams(3, [6, 6, 6])
    with use("gated_norm_modulate", implementation):
        ragged = ops.gated_norm_modulate(x, h, gate, scale, shift, offsets)
        dense = ops.gated_norm_modulate(x.view(3, 6, 9), h.view(3, 6, 9), gate, scale, shift)
    for a, b in zip(ragged, dense, strict=True):
        torch.testing.assert_close(a, b.flatten(0, 1))


def test_a_large_mean_keeps_its_digits() -> None:
    generator = torch.Generator().manual_seed(0)
    x = 1000 + torch.randn(2, 50, 64, generator=generator)
    nothing = torch.zeros(2, 64)
    for dtype, tolerance in ((torch.float32, 2e-3), (torch.float64, 1e-10)):
        _, out = ops.gated_norm_modulate(*(t.to(dtype) for t in (x, x, nothing, nothing, nothing)))
        expected = functional.layer_norm(x.double(), (64,), eps=1e-6)
        torch.testing.assert_close(out.double(), expected, rtol=tolerance, atol=tolerance)


def test_autocast_and_compilation_take_mixed_dtypes() -> None:
    torch.manual_seed(0)
    projection = torch.nn.Linear(48, 3 * 48)
    weights = [torch.nn.Parameter(torch.rand(16)) for _ in range(2)]
    condition = torch.nn.Linear(8, 3 * 48)
    positions = 4 * torch.rand(6, 3)

    def block(x: Tensor, c: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            q, k, v = projection(x).view(2, 6, 3, 3, 16).unbind(2)
            q, k = ops.qk_norm_rope(q, k, *weights, positions)
            h = functional.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v)))
            y, out = ops.gated_norm_modulate(x.bfloat16(), h.transpose(1, 2).flatten(2), *condition(c).chunk(3, -1))
        assert q.dtype == out.dtype == torch.bfloat16
        return (y + out).float().square().mean()

    x, c = torch.randn(2, 6, 48), torch.randn(2, 8)
    parameters = [*projection.parameters(), *weights, *condition.parameters()]
    plain = torch.autograd.grad(block(x, c), parameters)
    assert all(gradient.dtype == torch.float32 and gradient.isfinite().all() for gradient in plain)
    torch.compiler.reset()
    compiled = torch.autograd.grad(torch.compile(block, fullgraph=True, backend="aot_eager")(x, c), parameters)
    torch.testing.assert_close(plain, compiled, rtol=2e-2, atol=1e-3)


def test_modes_see_one_operator_and_the_same_numbers() -> None:
    seen = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    x, h, gate, scale, shift, offsets = streams(5, [4, 2])
    x.requires_grad_()
    plain = ops.gated_norm_modulate(x, h, gate, scale, shift, offsets)
    with Watch():
        watched = ops.gated_norm_modulate(x, h, gate, scale, shift, offsets)
    assert "maquette.gated_norm_modulate.default" in seen
    for a, b in zip(plain, watched, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(*(torch.autograd.grad(outputs[1].sin().sum(), x)[0] for outputs in (plain, watched)))


def test_checkpointing_and_second_derivatives() -> None:
    x, h, gate, scale, shift, offsets = streams(5, [4, 2])
    x.requires_grad_()
    plain = torch.autograd.grad(ops.gated_norm_modulate(x, h, gate, scale, shift, offsets)[1].sin().sum(), x)[0]
    outputs = checkpoint(ops.gated_norm_modulate, x, h, gate, scale, shift, offsets, use_reentrant=False)
    assert torch.equal(torch.autograd.grad(outputs[1].sin().sum(), x)[0], plain)
    first = torch.autograd.grad(
        ops.gated_norm_modulate(x, h, gate, scale, shift, offsets)[1].sin().sum(), x, create_graph=True
    )[0]
    with pytest.raises(RuntimeError):
        torch.autograd.grad(first.sum(), x)
