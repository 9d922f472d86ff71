"""MeanFlow, a plugin outside the package: it is installed, its derivative is right, one step reaches the data."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from maquette import plugins
from maquette.engine.randomness import drawing
from maquette.errors import MaquetteError
from maquette.testing import check_architecture
from maquette_models.samplers.guidance import Guided

PACKAGE = Path(__file__).parents[2] / "examples" / "plugins" / "maquette-meanflow"
CONDITIONER = {"name": "class_caption", "classes": ["chair", "table"], "width": 16, "heads": 2, "max_words": 2}
DIT = {"latent_channels": 2, "latent_resolution": 4, "width": 32, "depth": 2, "conditioner": CONDITIONER}


@pytest.fixture(scope="module", autouse=True)
def plugin() -> Iterator[ModuleType]:
    """The package's plugin, loaded from its sources."""
    sys.path.insert(0, str(PACKAGE / "src"))
    try:
        import maquette_meanflow.plugin as module

        if "meanflow" not in plugins.manager().statuses:
            plugins.manager().add(module, "meanflow")
        yield module
    finally:
        sys.path.remove(str(PACKAGE / "src"))


def objective(**keys: Any) -> Any:
    return plugins.build("objectives", {"name": "mean_flow", **keys})


def awake() -> nn.Module:
    """The transformer with its zero-initialised layers filled, as after some training."""
    torch.manual_seed(0)
    model = plugins.build("architectures", {"name": "mean_flow_dit", **DIT})
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.abs().sum() > 0:
                parameter.normal_(std=0.05)
    return model


def batch(size: int = 8) -> dict[str, Any]:
    latent = torch.randn(size, 2, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    return {"latent": latent, "class_id": torch.arange(size) % 2}


def test_is_installed_like_any_other(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target"]
    done = subprocess.run([*pip, tmp_path, PACKAGE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    listing = [sys.executable, "-m", "maquette.cli", "plugins"]
    listed = subprocess.run(listing, env=environment, capture_output=True, text=True, check=False).stdout
    assert "maquette-meanflow" in listed and "mean_flow_dit (meanflow)" in listed


def test_transformer_and_objective_keep_their_promises() -> None:
    model = plugins.build("architectures", {"name": "mean_flow_dit", **DIT})
    check_architecture(model, objective(), batch())
    plain = plugins.build("architectures", {"name": "dit", **DIT})
    more = set(model.state_dict()) - set(plain.state_dict())
    assert more and all(name.startswith(tuple(model.new_weights())) for name in more)


def test_the_derivative_is_that_along_the_path() -> None:
    """Against central differences, in float64, through the transformer and its kernels."""
    model, data = awake().double().eval(), batch(4)
    x, velocity = data["latent"].double(), torch.randn(4, 2, 4, 4, 4, dtype=torch.float64)
    t, span = torch.tensor([0.9, 0.8, 0.5, 0.4]).double(), torch.tensor([0.5, 0.25, 0.0, 0.1]).double()
    condition = model.encode_condition(model.conditioner.prepare(data))
    condition = {key: value.detach() for key, value in condition.items()}
    found = objective().slopes(model, x, velocity, (t, span), condition)
    step = 2e-5  # the fastest time feature turns by 1000 a unit of time; times are float32 inside the model

    def ahead(sign: float) -> Tensor:
        change = sign * step
        return model(x + change * velocity, t + change, {**condition, "span": span + change})

    expected = (ahead(1) - ahead(-1)) / (2 * step)
    assert (found[2] == 0).all(), "a sample without a span needs none"
    kept = torch.tensor([0, 1, 3])
    error = (found[kept] - expected[kept]).abs().max() / expected[kept].abs().max()
    assert expected[kept].abs().max() > 1 and error < 0.02


class Line(nn.Module):
    """Knows x0: the mean velocity of a straight line is its velocity, over any span."""

    def __init__(self, x0: Tensor) -> None:
        super().__init__()
        self.x0 = x0
        self.conditioner = self

    def prepare(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return {"row": torch.arange(len(batch["latent"]))}

    def encode_condition(self, prepared: dict[str, Tensor]) -> dict[str, Tensor]:
        return prepared

    def forward(self, x: Tensor, t: Tensor, condition: dict[str, Tensor]) -> Tensor:
        return (x - self.x0[condition["row"]]) / t.view(-1, *[1] * (x.ndim - 1))


def test_straight_lines_have_no_error() -> None:
    data = batch(64)
    with drawing(seed=0, keys=range(64)):
        terms = objective(instants=0.2)(Line(data["latent"]), data)
    assert terms["velocity"].item() < 1e-6 and terms["per_sample"]["t"].shape == (64,)


def test_spans_lie_within_the_flow() -> None:
    with drawing(seed=0, keys=range(2000)):
        t, span = objective(instants=0.6).draw_times({"latent": torch.zeros(2000, 1)})
    assert (span >= 0).all() and (span <= t).all() and (t < 1).all()
    assert (span == 0).float().mean().item() == pytest.approx(0.6, abs=0.04)


class Toy(nn.Module):
    """A small network on points [B,2]."""

    def __init__(self) -> None:
        super().__init__()
        self.conditioner = self
        self.net = nn.Sequential(nn.Linear(8, 96), nn.SiLU(), nn.Linear(96, 96), nn.SiLU(), nn.Linear(96, 2))

    def prepare(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return {}

    def encode_condition(self, prepared: dict[str, Tensor]) -> dict[str, Tensor]:
        return prepared

    def forward(self, x: Tensor, t: Tensor, condition: dict[str, Tensor]) -> Tensor:
        span = condition.get("span", torch.zeros_like(t))
        times = torch.stack([t, span], dim=1)
        waves = [(math.pi * times).sin(), (math.pi * times).cos()]
        return self.net(torch.cat([x, *waves, times], dim=1))


def test_one_step_reaches_both_modes() -> None:
    """Where one step of the velocity alone ends between them."""
    torch.manual_seed(0)
    model, flow = Toy(), objective(instants=0.5, mu=1.0, sigma=2.0, weight_power=0.0)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(900):
        side = (torch.randint(0, 2, (256, 1)) * 2 - 1).float()
        latent = torch.cat([1.5 * side, torch.zeros_like(side)], dim=1) + 0.1 * torch.randn(256, 2)
        flow(model, {"latent": latent})["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
    field = Guided(model, {}, {}, torch.ones(1000))
    noise = torch.randn(1000, 2)
    with torch.no_grad():
        one = plugins.build("samplers", {"name": "mean_flow", "steps": 1}).sample(field, noise)
        plain = plugins.build("samplers", {"name": "euler", "steps": 1}).sample(field, noise)
    near = (one[:, 0].abs() - 1.5).abs() < 0.5
    assert near.float().mean() > 0.7
    assert 0.35 < (one[near, 0] > 0).float().mean() < 0.65
    assert ((plain[:, 0].abs() - 1.5).abs() < 0.5).float().mean() < 0.1


def test_mistakes_are_named() -> None:
    with pytest.raises(MaquetteError, match="share from 0 to 1"):
        objective(instants=2.0)
    with pytest.raises(MaquetteError, match="Guided"):
        plugins.build("samplers", {"name": "mean_flow"}).sample(lambda x, t: x, torch.zeros(1, 2))
