"""What a flow predicts and at which times it is trained: x0 or velocity, shifts for many tokens."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from maquette import plugins
from maquette.engine.randomness import drawing, normal
from maquette.errors import MaquetteError
from maquette_models.objectives.flow_matching import FlowMatching, FlowMatchingConfig
from maquette_models.samplers.guidance import Guided
from maquette_models.samplers.prediction import SMALLEST_TIME, velocity_of

DIT = {
    "name": "dit",
    "latent_channels": 3,
    "latent_resolution": 4,
    "width": 32,
    "depth": 2,
    "conditioner": {"name": "class_caption", "classes": ["chair", "table"], "width": 16, "heads": 2, "max_words": 2},
}


def batch(size: int = 4) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    return {"latent": torch.randn(size, 3, 4, 4, 4, generator=generator), "class_id": torch.arange(size) % 2}


class Fixed(nn.Module):
    """Gives the same function as a velocity or as x0."""

    def __init__(self, prediction: str) -> None:
        super().__init__()
        self.config = SimpleNamespace(prediction=prediction)
        self.conditioner = self

    def prepare(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return {}

    def forward(self, x: Tensor, t: Tensor, condition: dict[str, Tensor]) -> Tensor:
        velocity, time = x.sin(), t.view(-1, 1, 1, 1, 1)
        return velocity if self.config.prediction == "v" else x - time * velocity


def loss(model: nn.Module, data: dict[str, Any], **keys: Any) -> dict[str, Any]:
    with drawing(seed=0, keys=range(len(data["latent"]))):
        return plugins.build("objectives", {"name": "flow_matching", **keys})(model, data)


def test_the_loss_of_x0_is_that_of_the_velocity_it_means() -> None:
    data = batch(64)
    as_velocity = loss(Fixed("v"), data)["per_sample"]
    as_data = loss(Fixed("x0"), data, prediction="x0")["per_sample"]
    usual = as_velocity["t"] >= SMALLEST_TIME
    assert usual.sum() > 50
    torch.testing.assert_close(as_data["loss"][usual], as_velocity["loss"][usual], rtol=1e-4, atol=1e-5)


def test_small_times_do_not_blow_up() -> None:
    x, t = torch.ones(1, 2), torch.tensor([1e-6])
    torch.testing.assert_close(velocity_of("x0", torch.zeros(1, 2), x, t), x / SMALLEST_TIME)


def test_the_default_is_the_mean_squared_error_of_the_velocity_to_the_bit() -> None:
    data, model = batch(), Fixed("v")
    with drawing(seed=0, keys=range(4)):
        noise, t = normal("noise", data["latent"].shape), torch.sigmoid(normal("time", (4,)))
    spread = t.view(-1, 1, 1, 1, 1)
    velocity = model((1 - spread) * data["latent"] + spread * noise, t, {})
    assert torch.equal(loss(model, data)["loss"], F.mse_loss(velocity, noise - data["latent"]))


@pytest.mark.parametrize("prediction", ["v", "x0"])
def test_a_mix_up_is_refused_in_training(prediction: str) -> None:
    other = {"v": "x0", "x0": "v"}[prediction]
    with pytest.raises(MaquetteError, match=r"model\.prediction and objective\.prediction"):
        loss(Fixed(prediction), batch(), prediction=other)


def test_a_trained_x0_model_is_sampled_to_its_data() -> None:
    """Two classes of one latent each: Guided finds in the model's config what it predicts."""
    torch.manual_seed(0)
    model, data = plugins.build("architectures", {**DIT, "prediction": "x0"}), batch(2)
    flow = plugins.build("objectives", {"name": "flow_matching", "prediction": "x0"})
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    many = {key: value.repeat(4, *[1] * (value.ndim - 1)) for key, value in data.items()}
    for _ in range(150):
        flow(model, many)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()
    condition = model.encode_condition(model.conditioner.prepare(data))
    field = Guided(model, condition, condition, torch.ones(2))
    with torch.no_grad():
        sample = plugins.build("samplers", {"name": "heun", "steps": 8}).sample(field, torch.randn(2, 3, 4, 4, 4))
    assert (sample - data["latent"]).square().mean() < 0.5 * (sample - data["latent"].flip(0)).square().mean()


def test_both_parts_of_a_pipeline_give_the_loss_of_x0() -> None:
    model, data = plugins.build("architectures", {**DIT, "prediction": "x0"}).eval(), batch()
    flow = plugins.build("objectives", {"name": "flow_matching", "prediction": "x0"})
    with drawing(seed=0, keys=range(4)):
        whole = flow(model, data)["loss"]
        parts = flow.loss(model(*flow.inputs(model, data)), flow.target(data))["loss"]
    assert torch.equal(whole, parts)


@given(shift=st.floats(0.2, 8.0))
@settings(max_examples=10, deadline=None)
def test_a_shift_moves_the_logits_of_times_by_its_logarithm(shift: float) -> None:
    data = {"latent": torch.zeros(64, 1, 2, 2, 2)}
    with drawing(seed=0, keys=range(64)):
        plain = FlowMatching(FlowMatchingConfig()).draw(data)[1].double()
        moved = FlowMatching(FlowMatchingConfig(shift=shift)).draw(data)[1].double()
    expected = torch.logit(plain) + torch.tensor(shift, dtype=torch.float64).log()
    torch.testing.assert_close(torch.logit(moved), expected, atol=1e-3, rtol=1e-3)


def test_times_follow_the_number_of_tokens_that_count() -> None:
    mask = torch.arange(16).expand(2, 16) < torch.tensor([[4], [16]])
    data = {"latent": torch.zeros(2, 16, 3), "positions": torch.zeros(2, 16, 3), "token_mask": mask}
    plain, moved = FlowMatching(FlowMatchingConfig()), FlowMatching(FlowMatchingConfig(reference_tokens=4))
    with drawing(seed=0, keys=range(2)):
        before, after = torch.logit(plain.draw(data)[1]), torch.logit(moved.draw(data)[1])
    torch.testing.assert_close(after - before, torch.tensor([1.0, 2.0]).log(), atol=1e-4, rtol=0)
    grid = {"latent": torch.zeros(2, 3, 4, 4, 4)}
    with drawing(seed=0, keys=range(2)):
        torch.testing.assert_close(torch.logit(moved.draw(grid)[1]) - before, torch.tensor([4.0, 4.0]).log())


@pytest.mark.parametrize(
    ("keys", "message"),
    [({"prediction": "eps"}, "use v or x0"), ({"shift": 0.0}, "shift"), ({"reference_tokens": -1}, "reference_tokens")],
)
def test_bad_settings_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(MaquetteError, match=message):
        plugins.build("objectives", {"name": "flow_matching", **keys})
    if "prediction" in keys:
        with pytest.raises(MaquetteError, match=message):
            plugins.build("architectures", {**DIT, **keys})
