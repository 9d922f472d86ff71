"""Order of convergence on a flow whose solution is known, time shift, and guidance."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from maquette import plugins
from maquette.errors import MaquetteError
from maquette_models.samplers.euler import Euler, EulerConfig
from maquette_models.samplers.euler import step as euler_step
from maquette_models.samplers.guidance import Guided
from maquette_models.samplers.heun import Heun, HeunConfig
from maquette_models.samplers.heun import step as heun_step
from maquette_models.samplers.timesteps import timesteps

MEAN, STD = 1.5, 0.4


def gaussian_velocity(x: Tensor, t: Tensor) -> Tensor:
    """E[eps - x0 | x_t] for x0 ~ N(MEAN, STD^2), x_t = (1-t) x0 + t eps."""
    variance = (1 - t) ** 2 * STD**2 + t**2
    slope = (t - (1 - t) * STD**2) / variance
    return -MEAN + slope * (x - (1 - t) * MEAN)


def error(sampler: Euler | Heun, steps: int) -> float:
    """Distance to the exact end of the flow, which carries N(0,1) to N(MEAN, STD^2) monotonically."""
    noise = torch.linspace(-2, 2, 41, dtype=torch.float64)
    return (sampler.sample(gaussian_velocity, noise, steps) - (MEAN + STD * noise)).abs().max().item()


def test_euler_is_first_order() -> None:
    sampler = Euler(EulerConfig())
    ratio = error(sampler, 40) / error(sampler, 80)
    assert ratio == pytest.approx(2, rel=0.15)


def test_heun_is_second_order() -> None:
    sampler = Heun(HeunConfig())
    ratio = error(sampler, 40) / error(sampler, 80)
    assert ratio == pytest.approx(4, rel=0.2)
    assert error(sampler, 40) < 0.1 * error(Euler(EulerConfig()), 80)


def test_steps_on_a_constant_field_are_exact() -> None:
    x, t, t_next = torch.ones(2, 3), torch.tensor(0.7), torch.tensor(0.2)
    for step in (euler_step, heun_step):
        torch.testing.assert_close(step(lambda x, t: torch.full_like(x, 2.0), x, t, t_next), x - 1.0)


def test_timesteps() -> None:
    t = timesteps(10, 3.0)
    assert t[0] == 1 and t[-1] == 0 and (t.diff() < 0).all()
    assert t[5].item() == pytest.approx(3 * 0.5 / (1 + 2 * 0.5))
    torch.testing.assert_close(timesteps(4), torch.tensor([1.0, 0.75, 0.5, 0.25, 0.0]))


@pytest.mark.parametrize("block", [{"name": "euler", "steps": 0}, {"name": "heun", "steps": 4, "shift": 0.0}])
def test_bad_settings_are_refused(block: dict[str, object]) -> None:
    with pytest.raises(MaquetteError, match="sampler"):
        plugins.build("samplers", block)


class Field(nn.Module):
    """Velocity = condition's value; counts rows."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []

    def forward(self, x: Tensor, t: Tensor, condition: dict[str, Tensor]) -> Tensor:
        assert t.shape == (len(x),)
        self.rows.append(len(x))
        return torch.zeros_like(x) + condition["value"].view(-1, 1)


def guided(field: Field, scale: float, interval: tuple[float, float] = (0.0, 1.0)) -> Guided:
    condition, null = {"value": torch.tensor([3.0, 5.0])}, {"value": torch.tensor([1.0, 1.0])}
    return Guided(field, condition, null, torch.full((2,), scale), interval)


def test_guidance_extrapolates_in_one_pass() -> None:
    field = Field()
    out = guided(field, 3.0)(torch.zeros(2, 4), torch.tensor(0.5))
    torch.testing.assert_close(out[:, 0], torch.tensor([1 + 3 * 2.0, 1 + 3 * 4.0]))
    assert field.rows == [4]


def test_guidance_of_one_and_outside_the_interval_is_conditional() -> None:
    for own, t in ((1.0, 0.5), (3.0, 0.9)):
        field = Field()
        out = guided(field, own, (0.2, 0.8))(torch.zeros(2, 4), torch.tensor(t))
        torch.testing.assert_close(out[:, 0], torch.tensor([3.0, 5.0]))
        assert field.rows == [2]
