"""The flow objective and the transformer: conventions, gradients, conditions, and that they learn."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maquette import plugins
from maquette.errors import MaquetteError
from maquette.testing import check_architecture
from maquette_models.objectives.flow_matching import FlowMatching, FlowMatchingConfig
from maquette_models.transformer.attention import attend
from maquette_models.transformer.dit import DiT, DiTConfig

CONDITIONER = {
    "name": "class_caption",
    "classes": ["chair", "table"],
    "vocabulary": ["red", "chair", "table"],
    "width": 16,
    "heads": 2,
    "max_words": 4,
}
SMALL = DiTConfig(latent_channels=3, latent_resolution=4, width=32, depth=2, heads=2, conditioner=CONDITIONER)


def batch(size: int = 4) -> dict[str, Any]:
    torch.manual_seed(1)
    captions = ["red chair", "table"] * (size // 2)
    return {"latent": torch.randn(size, 3, 4, 4, 4), "class_id": torch.arange(size) % 2, "caption": captions}


def awake(model: DiT) -> DiT:
    """The model with its zero-initialised layers filled, as after some training."""
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.abs().sum() > 0:
                parameter.normal_(std=0.05)
    return model


def test_starts_at_zero_velocity() -> None:
    data = batch()
    model = DiT(SMALL).eval()
    prepared = model.conditioner.prepare(data)
    assert torch.equal(model(data["latent"], torch.full((4,), 0.5), prepared), torch.zeros_like(data["latent"]))


def test_tokens_and_grid_are_inverse() -> None:
    model, x = DiT(SMALL), torch.randn(2, 3, 4, 4, 4)
    assert model.tokens(x).shape == (2, 8, 24)
    assert torch.equal(model.grid(model.tokens(x)), x)


def test_architecture_contract() -> None:
    check_architecture(DiT(SMALL), FlowMatching(FlowMatchingConfig()), batch())


def test_gradient_reaches_every_parameter() -> None:
    model = awake(DiT(SMALL))
    FlowMatching(FlowMatchingConfig())(model, batch(16))["loss"].backward()
    # The bias of keys moves all scores of a query alike, which the softmax does not see; norms of keys lift
    # that.
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not dead, dead


def test_every_input_matters() -> None:
    model, data = awake(DiT(SMALL)).eval(), batch()
    x, t = data["latent"], torch.full((4,), 0.5)
    prepared = model.conditioner.prepare(data)
    base = model(x, t, prepared)
    assert not torch.allclose(base, model(x, t + 0.2, prepared))
    assert not torch.allclose(base, model(x, t, prepared | {"class_id": 1 - prepared["class_id"]}))
    assert not torch.allclose(base, model(x, t, prepared | {"words": prepared["words"].flip(0)}))
    torch.testing.assert_close(base, model(x, t, model.encode_condition(prepared)))


def test_row_is_the_same_alone_and_in_a_batch() -> None:
    model, data = awake(DiT(SMALL)).eval(), batch()
    condition = model.encode_condition(model.conditioner.prepare(data))
    t = torch.tensor([0.1, 0.4, 0.7, 0.9])
    together = model(data["latent"], t, condition)
    for i in range(4):
        alone = model(data["latent"][i : i + 1], t[i : i + 1], {k: v[i : i + 1] for k, v in condition.items()})
        torch.testing.assert_close(alone[0], together[i], atol=1e-5, rtol=0)


def test_attention_against_torch() -> None:
    q, k, v = torch.randn(2, 5, 3, 8), torch.randn(2, 7, 3, 8), torch.randn(2, 7, 3, 8)
    mask = torch.rand(2, 7) < 0.6
    mask[:, 0] = True
    expected = F.scaled_dot_product_attention(*(x.transpose(1, 2) for x in (q, k, v)), attn_mask=mask[:, None, None])
    torch.testing.assert_close(attend(q, k, v, mask), expected.transpose(1, 2))


class Exact(nn.Module):
    """Knows x0 and gives the velocity of the straight line, per the convention x_t = (1-t) x0 + t eps."""

    def __init__(self, x0: Tensor) -> None:
        super().__init__()
        self.x0 = x0
        self.conditioner = self
        self.times: list[Tensor] = []

    def prepare(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return {}

    def forward(self, x: Tensor, t: Tensor, condition: dict[str, Tensor]) -> Tensor:
        self.times.append(t)
        noise = (x - (1 - t.view(-1, 1, 1, 1, 1)) * self.x0) / t.view(-1, 1, 1, 1, 1)
        return noise - self.x0


@pytest.mark.parametrize("time", ["logit_normal", "uniform"])
def test_objective_has_the_convention(time: str) -> None:
    data = batch()
    model = Exact(data["latent"])
    loss = FlowMatching(FlowMatchingConfig(time=time))(model, data)["loss"]
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert (0 < model.times[0]).all() and (model.times[0] < 1).all()


def test_times_are_distributed_as_configured() -> None:
    torch.manual_seed(0)
    times = FlowMatching(FlowMatchingConfig(mu=0.5, sigma=0.8)).draw_times(20_000)
    logits = torch.logit(times.double())
    assert logits.mean().item() == pytest.approx(0.5, abs=0.03)
    assert logits.std().item() == pytest.approx(0.8, abs=0.03)
    uniform = FlowMatching(FlowMatchingConfig(time="uniform")).draw_times(20_000)
    assert uniform.mean().item() == pytest.approx(0.5, abs=0.01)


def test_overfits_a_tiny_batch() -> None:
    torch.manual_seed(0)
    model, data = DiT(SMALL), batch()
    objective = FlowMatching(FlowMatchingConfig())
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    losses = []
    for _ in range(150):
        loss = objective(model, data)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) < 0.5 * sum(losses[:10])


def test_mistakes_are_named() -> None:
    with pytest.raises(MaquetteError, match="heads"):
        DiT(DiTConfig(width=30, heads=4, conditioner=CONDITIONER))
    with pytest.raises(MaquetteError, match="of patch 2"):
        DiT(DiTConfig(latent_resolution=7, conditioner=CONDITIONER))
    with pytest.raises(MaquetteError, match="uniform"):
        plugins.build("objectives", {"name": "flow_matching", "time": "cosine"})
