"""The mixture of experts: against a loop over tokens, its balance, and that it trains inside the transformer."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from maquette.errors import MaquetteError
from maquette_models.objectives.flow_matching import FlowMatching, FlowMatchingConfig
from maquette_models.transformer.dit import DiT, DiTConfig
from maquette_models.transformer.grouped_product import grouped_outer, grouped_product
from maquette_models.transformer.mixture_of_experts import MLP, MixtureConfig, MixtureOfExperts, balance_loss

CONDITIONER = {"name": "class_caption", "classes": ["a", "b"], "vocabulary": ["red"], "width": 16, "max_words": 3}


def by_token(mixture: MixtureOfExperts, x: Tensor) -> Tensor:
    """The definition, a token and an expert at a time."""
    out = torch.zeros_like(x) if mixture.shared is None else mixture.shared(x)
    probabilities = (x @ mixture.router.weight.T).softmax(-1)
    rows = []
    for token, chances in zip(x.flatten(0, 1), probabilities.flatten(0, 1), strict=True):
        best = chances.topk(mixture.top_k)
        up, down = mixture.experts.up, mixture.experts.down
        parts = [g * F.gelu(token @ up[e], approximate="tanh") @ down[e] for g, e in zip(*best, strict=True)]
        rows.append(torch.stack(parts).sum(0))
    return out + torch.stack(rows).view_as(x)


@settings(max_examples=25, deadline=None)
@given(
    experts=st.integers(1, 6),
    top_k=st.integers(1, 3),
    shared=st.integers(0, 2),
    tokens=st.integers(1, 9),
    sharpness=st.sampled_from([0.0, 1.0, 100.0]),
)
def test_equals_the_definition(experts: int, top_k: int, shared: int, tokens: int, sharpness: float) -> None:
    """Also where all tokens want the same expert: none is dropped."""
    torch.manual_seed(experts + 10 * tokens)
    top_k = min(top_k, experts)
    mixture = MixtureOfExperts(8, 12, MixtureConfig(experts, top_k, shared))
    with torch.no_grad():
        mixture.router.weight.mul_(sharpness)
        if sharpness == 0.0:  # ties go to whoever topk likes; break them
            mixture.router.weight.add_(torch.linspace(0, 0.01, experts)[:, None])
    x = torch.randn(2, tokens, 8, requires_grad=True)
    weights = [x, *mixture.parameters()]
    found, expected = mixture(x), by_token(mixture, x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    probe = torch.randn_like(found)
    ours = torch.autograd.grad((found * probe).sum(), weights, allow_unused=True)
    theirs = torch.autograd.grad((expected * probe).sum(), weights, allow_unused=True)
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, torch.zeros_like(one) if two is None else two, rtol=1e-3, atol=1e-5)


def test_balance_is_one_when_even_and_the_number_of_experts_when_not() -> None:
    even, one = torch.full((2, 4), 0.25), torch.tensor([[0.0, 0.0, 1.0, 0.0]])
    torch.testing.assert_close(balance_loss(even, even), torch.ones(2))
    torch.testing.assert_close(balance_loss(one, one), torch.tensor([4.0]))
    mixture = MixtureOfExperts(8, 8, MixtureConfig(4, top_k=1))
    with torch.no_grad():
        mixture.router.weight.copy_(torch.eye(4, 8) * 100)
    x = torch.stack([torch.eye(8)[torch.arange(12) % 4], torch.eye(8)[torch.full((12,), 3)]])
    mixture(x)
    torch.testing.assert_close(mixture.take_balance(), torch.tensor([1.0, 4.0]))


def test_balance_pulls_towards_even_use() -> None:
    torch.manual_seed(0)
    mixture, x = MixtureOfExperts(8, 8, MixtureConfig(4, 1, 0)), torch.randn(4, 64, 8) + 1
    optimizer = torch.optim.SGD(mixture.router.parameters(), 0.5)
    values = []
    for _ in range(60):
        mixture.balance = None
        mixture(x)
        loss = mixture.take_balance().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] - 1 < 0.25 * (values[0] - 1)


def model(**changes: Any) -> DiT:
    torch.manual_seed(0)
    sizes = {"latent_channels": 3, "latent_resolution": 4, "width": 32, "depth": 3, "mlp_hidden": 32}
    return DiT(DiTConfig(**sizes, mlp="moe", moe=MixtureConfig(experts=4, last=2), conditioner=CONDITIONER, **changes))


def batch() -> dict[str, Any]:
    torch.manual_seed(1)
    return {"latent": torch.randn(4, 3, 4, 4, 4), "class_id": torch.arange(4) % 2, "caption": ["red"] * 4}


def test_last_blocks_have_experts_and_the_objective_adds_their_balance() -> None:
    own = model()
    assert [isinstance(block.mlp, MLP) for block in own.blocks()] == [True, False, False]
    assert [experts.up.shape for experts in own.expert_layers()] == [(4, 32, 32)] * 2
    terms = FlowMatching(FlowMatchingConfig(balance_weight=0.5))(own, batch())
    assert terms["loss"].item() == pytest.approx(terms["velocity"].item() + 0.5 * terms["balance"].item())
    assert terms["balance"].item() >= 0.9
    terms["loss"].backward()
    assert all(mixture.router.weight.grad.abs().sum() > 0 for mixture in own.mixtures())
    copy.deepcopy(own)  # as averaging weights does: no graph may be left inside


def test_plan_of_tensor_parallelism_leaves_experts_whole() -> None:
    plan = model().tensor_parallel_plan()
    assert "layers.0.mlp.up" in plan and not any(name.startswith("layers.2.mlp") for name in plan)


def test_learns_a_tiny_batch() -> None:
    own, data = model(), batch()
    objective = FlowMatching(FlowMatchingConfig())
    optimizer = torch.optim.AdamW(own.parameters(), 5e-3)
    losses = []
    for _ in range(120):
        terms = objective(own, data)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        losses.append(terms["velocity"].item())
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])


@pytest.mark.parametrize("recomputed", [False, True])
def test_recomputing_changes_no_gradient_and_leaves_no_graph(recomputed: bool) -> None:
    own, data = model(), batch()
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    reference = copy.deepcopy(own)
    if recomputed:
        for block in own.blocks():
            plain = block.forward
            block.forward = lambda *a, plain=plain: checkpoint(plain, *a, use_reentrant=False)
    for each in (own, reference):
        torch.manual_seed(5)
        FlowMatching(FlowMatchingConfig())(each, data)["loss"].backward()
    for (name, one), two in zip(own.named_parameters(), reference.parameters(), strict=True):
        assert torch.equal(one.grad, two.grad), name
    assert all(mixture.balance is not None and not mixture.balance.requires_grad for mixture in own.mixtures())


def test_compiles_into_one_graph() -> None:
    torch.manual_seed(0)
    one = MixtureOfExperts(16, 16, MixtureConfig(4))
    two, x = copy.deepcopy(one), torch.randn(2, 5, 16)
    one.compile(backend="aot_eager", fullgraph=True)
    for each in (one, two):
        (each(x).square().mean() + each.take_balance().mean()).backward()
    for (name, parameter), other in zip(one.named_parameters(), two.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_operators_tell_compilers_the_truth() -> None:
    ends = torch.tensor([2, 2, 5], dtype=torch.int32)
    rows, matrices, others = torch.randn(5, 4), torch.randn(3, 4, 8), torch.randn(5, 8)
    for one in (rows, matrices):
        one.requires_grad_()
    torch.library.opcheck(grouped_product, (rows, matrices, ends))
    torch.library.opcheck(grouped_outer, (rows.detach(), others, ends))
    expected = torch.stack([rows[:2].T @ others[:2], torch.zeros(4, 8), rows[2:].T @ others[2:]])
    torch.testing.assert_close(grouped_outer(rows.detach(), others, ends), expected.detach())


def test_mistakes_are_named() -> None:
    with pytest.raises(MaquetteError, match="top_k 3 of 2 experts"):
        MixtureConfig(experts=2, top_k=3)
    with pytest.raises(MaquetteError, match="use dense or moe"):
        DiT(DiTConfig(mlp="sparse", conditioner=CONDITIONER))
    with pytest.raises(MaquetteError, match="before a forward pass"):
        model().balance()
