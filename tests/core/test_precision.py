"""The words of precision: what they refuse, and what parameters, gradients and products become under them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from maquette.config import TrainConfig
from maquette.engine.randomness import drawing
from maquette.errors import MaquetteError
from maquette.parallel.layout import Layout
from maquette.parallel.mesh import Mesh
from maquette.parallel.sharded import ShardedConfig, Zero3
from maquette.precision import Precision
from maquette.precision.fp8 import apply_fp8
from maquette.testing import TinyObjective, TinyTransformer, run_ranks, tiny_batch

WORDS = ("fp32", "bf16", "fp8")
TINY = 16


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"word": "bf61"}, "known: fp32, bf16, fp8"),
        ({"parameters": "fp16"}, "known: fp32, bf16"),
        ({"parameters": "bf16"}, "train.precision=bf16"),
        ({"recipe": "tensorwise"}, "known: rowwise"),
        ({"checkpointing": "some"}, "known: none, full"),
        ({"checkpointing": "budget"}, "train.compile=true"),
        ({"memory_budget": 1.5}, "[0, 1]"),
    ],
)
def test_words_that_mean_nothing_are_refused_with_those_that_do(words, expected):
    with pytest.raises(MaquetteError) as error:
        Precision(**words)
    assert expected in str(error.value)
    assert "\n" not in str(error.value)


@given(
    st.sampled_from(WORDS), st.booleans(), st.sampled_from(("none", "full", "selective")), st.floats(0.1, 1), st.data()
)
def test_a_runs_configuration_says_it_all(word, compiled, checkpointing, budget, data):
    storage = "fp32" if word == "fp32" else data.draw(st.sampled_from(("fp32", "bf16")))
    train = TrainConfig(
        precision=word, parameters=storage, compile=compiled, compile_backend="aot_eager",
        activation_checkpointing=checkpointing, memory_budget=budget,
    )  # fmt: skip
    precision = Precision.of(train)
    assert precision.fp8 == (word == "fp8")
    assert precision.storage == (torch.bfloat16 if storage == "bf16" else torch.float32)
    assert (precision.compile, precision.backend) == (compiled, "aot_eager")
    assert (precision.checkpointing, precision.memory_budget) == (checkpointing, budget)


@pytest.mark.parametrize("word", WORDS)
def test_products_have_the_words_dtype_and_norms_stay_exact(word):
    precision = Precision(word)
    linear, x = nn.Linear(4, 4), torch.randn(2, 4)
    with precision.context("cpu"):
        assert linear(x).dtype == (torch.float32 if word == "fp32" else torch.bfloat16)
        assert nn.functional.layer_norm(x, (4,)).dtype == torch.float32
    with precision.context("cpu", sharded=True):
        assert linear(x).dtype == torch.float32, "under FSDP2 the parameters decide"
    policy = precision.policy()
    assert policy.reduce_dtype == torch.float32
    assert policy.cast_forward_inputs is False
    assert policy.param_dtype == (None if word == "fp32" else torch.bfloat16)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_only_parameters_are_stored_in_another_dtype(device):
    with torch.device(device):
        model = TinyTransformer()
        model.register_buffer("grid", torch.linspace(0, 1, 300))
    names = list(model.state_dict())
    model.embed.weight.requires_grad_(False)
    Precision("bf16", parameters="bf16").store(model)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert {p.device.type for p in model.parameters()} == {device}
    assert model.grid.dtype == torch.float32
    assert list(model.state_dict()) == names
    assert not model.embed.weight.requires_grad
    assert model.head.weight.requires_grad


def gradients(word: str, storage: str, sharded: bool) -> dict[str, np.ndarray]:
    """Of the tiny model on four rows, or on this rank's two of them; with the loss under an empty name."""
    precision = Precision(word, parameters=storage, min_width=TINY)
    torch.manual_seed(0)
    model = TinyTransformer(width=TINY)
    precision.store(model)
    apply_fp8(model, precision)
    batch, share = tiny_batch(4), 1.0
    if sharded:
        mesh = Mesh(Layout(shard=2))
        Zero3(ShardedConfig()).apply(model, mesh, precision)
        batch = {key: value[2 * mesh.rank : 2 * mesh.rank + 2] for key, value in batch.items()}
        share = 0.5
    with drawing(1, batch["position"].tolist()), precision.context("cpu", sharded=sharded):
        loss = TinyObjective()(model, batch)["loss"] * share
    loss.backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    whole = {name: (grad.full_tensor() if sharded else grad).float().numpy() for name, grad in found.items()}
    return {**whole, "": np.array(loss.item())}


def all_gradients() -> list[dict[str, np.ndarray]]:
    return [gradients(*words, True) for words in CASES]


CASES = (("fp32", "fp32"), ("bf16", "fp32"), ("fp8", "fp32"), ("bf16", "bf16"), ("fp8", "bf16"))


def distance(a, b):
    """The length of the difference of all gradients, as a share of the length of b."""
    names = [name for name in b if name]
    flat_a, flat_b = (np.concatenate([each[name].ravel() for name in names]) for each in (a, b))
    return np.linalg.norm(flat_a - flat_b) / np.linalg.norm(flat_b)


def test_sharded_over_two_processes_every_word_gives_one_processs_gradients():
    ranks = run_ranks(all_gradients, 2)
    exact = gradients("fp32", "fp32", False)
    # The two ways of bf16 (autocast, FSDP2's casts) round at different places; fp8 then scales other rows.
    bounds = {"fp32": 1e-6, "bf16": 0.02, "fp8": 0.15}
    for case, first, second in zip(CASES, *ranks, strict=True):
        one = gradients(*case, False)
        assert distance(first, one) < bounds[case[0]], case
        assert distance(one, exact) < bounds[case[0]], case
        assert first[""] + second[""] == pytest.approx(float(one[""]), rel=bounds[case[0]])
        for name in one:
            assert name == "" or np.array_equal(first[name], second[name]), (case, name)
    assert distance(gradients("fp8", "fp32", False), exact) > 1e-3, "fp8 must do something"
