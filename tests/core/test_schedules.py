"""Learning-rate schedules, parameter groups, and the refusal of bad settings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maquette.blocks import instantiate
from maquette.engine.optimizers import learning_rate, set_learning_rate
from maquette.engine.optimizers.adamw import AdamW, AdamWConfig
from maquette.engine.optimizers.muon import MuonConfig
from maquette.engine.optimizers.settings import SCHEDULES, GroupConfig, OptimizerConfig
from maquette.errors import MaquetteError
from maquette.testing import TinyTransformer

# --- schedules


@given(
    st.sampled_from(SCHEDULES),
    st.integers(1, 400),
    st.integers(0, 100),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_a_schedule_rises_then_never_rises_again_and_ends_at_its_minimum(schedule, steps, warmup, share, least):
    config = OptimizerConfig(
        learning_rate=2.0, warmup_steps=warmup, schedule=schedule, decay_share=share, min_ratio=least
    )
    rates = [learning_rate(step, steps, config) for step in range(steps + 5)]
    assert all(0 < rate <= 2.0 for rate in rates[:warmup])
    assert rates[:warmup] == sorted(rates[:warmup])
    after = rates[warmup:]
    assert after == sorted(after, reverse=True)
    assert all(rate >= least * 2.0 * (1 - 1e-12) for rate in after)
    falls = schedule in ("linear", "cosine") or (schedule == "wsd" and round(share * steps) > 0)
    if steps > warmup and falls:
        assert rates[steps] == pytest.approx(least * 2.0)


def test_wsd_is_stable_until_its_decay_share():
    config = OptimizerConfig(learning_rate=1.0, warmup_steps=10, schedule="wsd", decay_share=0.25, min_ratio=0.1)
    rates = [learning_rate(step, 100, config) for step in range(101)]
    assert set(rates[10:76]) == {1.0}
    assert rates[76] < 1.0 and rates[100] == pytest.approx(0.1)


# --- groups and settings


def test_only_matrices_decay_and_groups_overrule_that():
    model = TinyTransformer()
    config = AdamWConfig(
        weight_decay=0.1,
        groups=[
            GroupConfig(match="layers.0.*", learning_rate_scale=0.5),
            GroupConfig(match="layers.*.table", weight_decay=0.3),
            GroupConfig(match="head.*", weight_decay=0.0),
        ],
    )
    model.time.weight.requires_grad_(False)
    optimizer = AdamW(config)(dict(model.named_parameters()))
    set_learning_rate(optimizer, 0.01)
    found = {
        name: (group["lr"], group["weight_decay"]) for group in optimizer.param_groups for name in group["param_names"]
    }
    assert found["embed.weight"] == (0.01, 0.1) and found["embed.bias"] == (0.01, 0.0)
    assert found["layers.0.mlp.up.weight"] == (0.005, 0.1) and found["layers.0.table"] == (0.005, 0.0)
    assert found["layers.1.table"] == (0.01, 0.3)
    assert found["head.weight"] == (0.01, 0.0)
    assert "time.weight" not in found
    assert len(found) == sum(1 for p in model.parameters() if p.requires_grad)
    assert optimizer.param_groups[0]["lr"] == 0.01


def test_a_group_that_matches_nothing_is_refused():
    factory = AdamW(AdamWConfig(groups=[GroupConfig(match="haed.*")]))
    with pytest.raises(MaquetteError, match=r"haed\.\*.*matches no parameter"):
        factory.check(["head.weight", "embed.weight"])


@pytest.mark.parametrize(
    ("config", "values", "message"),
    [
        (AdamWConfig, {"betas": [0.9]}, "optimizer.betas"),
        (AdamWConfig, {"schedule": "cosin"}, "known: constant, linear, cosine, wsd"),
        (AdamWConfig, {"min_ratio": 2.0}, r"optimizer.min_ratio.*\[0, 1\]"),
        (AdamWConfig, {"groups": [{"learning_rate_scale": 2.0}]}, "match"),
        (AdamWConfig, {"groups": [{"match": "a", "weight_decay": -1.0}]}, "weight_decay"),
        (MuonConfig, {"scale": "other"}, "known: match_rms_adamw, original"),
        (MuonConfig, {"iterations": 0}, "optimizer.iterations"),
    ],
)
def test_bad_settings_are_one_line(config, values, message):
    with pytest.raises(MaquetteError, match=message) as caught:
        instantiate(config, values, where="the optimizer")
    assert "\n" not in str(caught.value)
