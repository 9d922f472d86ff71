"""Flows with a known part, on Gaussian data, whose velocity is known."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from maquette_models.editing.inpainting import blend, inpaint, noisier, slerp, vary
from maquette_models.samplers.timesteps import timesteps

CORRELATION = 0.9
COVARIANCE = torch.tensor([[1.0, CORRELATION], [CORRELATION, 1.0]])


def velocity(x: Tensor, t: Tensor) -> Tensor:
    """E[eps - x0 | x_t = x] for x0 of two correlated normal numbers, [B,2]."""
    variance = (1 - t) ** 2 * COVARIANCE + t**2 * torch.eye(2)
    gain = torch.linalg.solve(variance, t * torch.eye(2) - (1 - t) * COVARIANCE)
    return x @ gain


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_what_is_known_stays_and_the_rest_goes_with_it() -> None:
    known = torch.tensor([[1.5, 0.0]]).expand(4000, 2)
    free = torch.tensor([[False, True]])
    made = {
        rounds: inpaint(velocity, known, free, timesteps(30), rounds=rounds, generator=generator()) for rounds in (1, 8)
    }
    for rounds in made:
        assert torch.equal(made[rounds][:, 0], known[:, 0])
    wanted, deviation = 1.5 * CORRELATION, (1 - CORRELATION**2) ** 0.5
    assert abs(made[8][:, 1].mean() - wanted) < 0.1
    assert abs(made[8][:, 1].std() - deviation) < 0.15
    assert abs(made[1][:, 1].mean() - wanted) > abs(made[8][:, 1].mean() - wanted)  # rounds are what joins the two


def test_noise_is_a_function_of_the_generator() -> None:
    known, free = torch.zeros(3, 2), torch.tensor([[True, True]])
    one, two, other = (
        inpaint(velocity, known, free, timesteps(4), rounds=2, generator=generator(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(one, two) and not torch.equal(one, other)


@pytest.mark.parametrize(("t", "later"), [(0.0, 0.3), (0.2, 0.9), (0.5, 1.0)])
def test_noise_leads_back_to_the_distribution_of_the_later_time(t: float, later: float) -> None:
    data, fresh, more = (
        torch.randn(200_000, generator=generator(seed)) * scale for seed, scale in ((0, 2), (1, 1), (2, 1))
    )
    x = noisier(blend(data, fresh, torch.tensor(t)), torch.tensor(t), torch.tensor(later), more)
    expected = ((1 - later) ** 2 * 4 + later**2) ** 0.5
    assert abs(float(x.std()) - expected) < 0.01
    assert abs(float((x * data).mean()) - (1 - later) * 4) < 0.05


def test_a_variation_is_the_same_at_strength_0_and_another_at_1() -> None:
    known = torch.randn(2000, 2, generator=generator()) @ torch.linalg.cholesky(COVARIANCE).T
    assert torch.equal(vary(velocity, known, 0.0, timesteps(10), generator()), known)
    distances = [
        float((vary(velocity, known, strength, timesteps(30), generator(1)) - known).square().mean())
        for strength in (0.2, 0.5, 0.8)
    ]
    assert distances == sorted(distances)
    whole = vary(velocity, known, 1.0, timesteps(60), generator(1))
    assert abs(float((whole * known).mean())) < 0.1
    assert torch.allclose(whole.T.cov(), COVARIANCE, atol=0.15)


def test_what_is_put_in_late_stays_and_the_rest_joins_it_the_more_the_earlier() -> None:
    known, free = torch.tensor([[2.0, 0.0]]).expand(4000, 2), torch.tensor([[False, True]])
    never, late, early = (
        vary(velocity, known, 1.0, timesteps(30), generator(), free=free, settle=settle) for settle in (0.0, 0.4, 0.9)
    )
    assert torch.equal(never, vary(velocity, known, 1.0, timesteps(30), generator()))
    assert torch.equal(late[:, 0], known[:, 0]) and torch.equal(early[:, 0], known[:, 0])
    assert abs(never[:, 1].mean()) < 0.2 < late[:, 1].mean() < early[:, 1].mean()


def test_between_two_latents_lengths_are_kept() -> None:
    one, other = torch.randn(2, 3, 4, 4, 4, generator=generator()), torch.randn(2, 3, 4, 4, 4, generator=generator(1))
    torch.testing.assert_close(slerp(one, other, 0.0), one)
    torch.testing.assert_close(slerp(one, other, 1.0), other)
    middle = slerp(one, other, 0.5)
    assert ((middle.flatten(1).norm(dim=1) / one.flatten(1).norm(dim=1)) - 1).abs().max() < 0.1
    assert torch.isfinite(slerp(one, one, 0.3)).all()
