"""Weights that are stored small: near, smaller, the same bits each time, alone and in company."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from maquette.errors import MaquetteError
from maquette_models.adapters import low_rank
from maquette_models.pipelines.compact_weights import CompactLinear, compact, stored_bytes
from maquette_models.pipelines.exact_batches import ExactBatches
from maquette_models.samplers.guidance import Guided
from tests.models.pipelines.tiny_dit import inputs, model

CLOSE = {"bf16": 0.004, "int8": 0.01, "fp8": 0.05}


@pytest.mark.parametrize("kind", CLOSE)
def test_outputs_are_near_and_take_less_memory(kind):
    plain, small = model(), model()
    compact(small, kind)
    x, t, condition = inputs(plain, 5)
    expected, got = plain(x, t, condition), small(x, t, condition)
    assert 0 < (got - expected).norm() / expected.norm() < CLOSE[kind]
    blocks = sum(m.weight.numel() for b in plain.blocks() for m in b.modules() if type(m) is nn.Linear)
    saved = stored_bytes(plain) - stored_bytes(small)
    assert saved > blocks * (1.9 if kind == "bf16" else 2.5)
    rows = ExactBatches(small)(x, t, condition)
    alone = [small(x[i : i + 1], t[i : i + 1], {k: v[i : i + 1] for k, v in condition.items()}) for i in range(5)]
    assert torch.equal(rows, torch.cat(alone))


def test_int8_is_off_by_half_a_step_at_most():
    layer = nn.Linear(64, 8)
    small = CompactLinear(layer, "int8")
    step = layer.weight.abs().amax(dim=1, keepdim=True) / 127
    assert ((small.weight - layer.weight).abs() <= step * 0.5001).all()


def test_products_in_bf16_are_near_and_rows_keep_their_bits():
    made = model()
    x, t, condition = inputs(made, 5)
    low = ExactBatches(made, precision="bf16")
    rows, expected = low(x, t, condition), made(x, t, condition)
    assert 0 < (rows.float() - expected).norm() / expected.norm() < 0.02
    alone = [low(x[i : i + 1], t[i : i + 1], {k: v[i : i + 1] for k, v in condition.items()}) for i in range(5)]
    assert torch.equal(rows, torch.cat(alone))
    field = Guided(low, condition, condition, torch.full((5,), 3.0))
    assert field(x, t).dtype == torch.float32  # the state of a flow is not rounded


def test_what_cannot_be_done_is_said():
    with pytest.raises(MaquetteError, match="unknown precision 'fp16'"):
        ExactBatches(model(), precision="fp16")
    small = model()
    with pytest.raises(MaquetteError, match="unknown weights 'int4'"):
        compact(small, "int4")
    low_rank.check_weights_as_trained(small)
    compact(small, "int8")
    with pytest.raises(MaquetteError, match="leave --weights away"):
        low_rank.check_weights_as_trained(small)
