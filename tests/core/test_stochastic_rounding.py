"""Rounding to bf16 by chance: right in the mean, from bits that nothing but (name, step, element) decides."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from maquette.engine.optimizers.adamw import AdamW, AdamWConfig
from maquette.engine.optimizers.stochastic_rounding import random_bits, round_stochastically
from maquette.testing import TinyTransformer


@given(st.floats(-(2.0**127), 2.0**127, width=32, allow_subnormal=False))
def test_stochastic_rounding_is_right_in_the_mean(value):
    exact = torch.full((65536,), value)
    rounded = round_stochastically(exact, torch.arange(65536, dtype=torch.int32)).double()
    unit = abs(value) * 2**-7
    assert (rounded - exact.double()).abs().max() <= unit
    assert rounded.mean().item() == pytest.approx(float(exact[0]), rel=1e-6)
    # What bf16 can hold must stay.
    again = round_stochastically(rounded.float(), torch.arange(65536, dtype=torch.int32))
    assert torch.equal(again.double(), rounded)


def test_stochastic_rounding_keeps_what_is_not_finite():
    exact = torch.tensor([float("inf"), float("-inf"), float("nan"), -float("nan")])
    rounded = round_stochastically(exact, torch.full((4,), 65535, dtype=torch.int32))
    assert torch.equal(rounded[:2].float(), exact[:2]) and rounded[2:].isnan().all()


def test_the_bits_are_uniform_and_unrelated_between_elements_steps_and_names():
    numbers = torch.arange(1 << 16)
    draws = [
        random_bits(numbers, name, torch.tensor(float(step))).double() / 65536
        for name, step in (("a", 1), ("a", 2), ("b", 1))
    ]
    for draw in draws:
        counts = torch.histc(draw, 64, 0, 1)
        # Chi-square with 63 degrees of freedom: mean 63, deviation 11.
        assert ((counts - 1024).square() / 1024).sum() < 63 + 6 * 11.3
        assert torch.corrcoef(torch.stack([draw[1:], draw[:-1]]))[0, 1].abs() < 0.02
    assert torch.corrcoef(torch.stack(draws)).fill_diagonal_(0).abs().max() < 0.02


def test_plain_bf16_loses_small_updates_and_stochastic_rounding_keeps_them_in_the_mean():
    ends = {}
    for rounding in (False, True):
        weight = nn.Parameter(torch.ones(4096, dtype=torch.bfloat16))
        config = AdamWConfig(learning_rate=1e-4, weight_decay=0.0, stochastic_rounding=rounding)
        optimizer = AdamW(config)({"weight": weight})
        for _ in range(100):
            weight.grad = torch.ones_like(weight)
            optimizer.step()
        ends[rounding] = weight.detach().float().mean().item()
    assert ends[False] == 1.0
    assert ends[True] == pytest.approx(1 - 100 * 1e-4, abs=5e-4)


def test_stochastic_rounding_leaves_fp32_weights_alone():
    model, twin = TinyTransformer(), TinyTransformer()
    twin.load_state_dict(model.state_dict())
    for one, rounding in ((model, True), (twin, False)):
        optimizer = AdamW(AdamWConfig(stochastic_rounding=rounding))(dict(one.named_parameters()))
        for parameter in one.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
