"""Guidance: extrapolation by row, interval, rescale, the optimised scale; models that take it or predict x0."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from maquette_models.samplers.guidance import Guided, deviation, projection


class Field(nn.Module):
    """Velocity = condition's value; remembers the rows and the guidance it was given."""

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.config = SimpleNamespace(**config)
        self.rows: list[int] = []
        self.guidance: list[Tensor | None] = []

    def forward(self, x: Tensor, t: Tensor, condition: dict[str, Tensor]) -> Tensor:
        assert t.shape == (len(x),) and all(len(value) == len(x) for value in condition.values())
        self.rows.append(len(x))
        self.guidance.append(condition.get("guidance"))
        return torch.zeros_like(x) + condition["value"].view(-1, *[1] * (x.ndim - 1))


CONDITION, NULL = {"value": torch.tensor([3.0, 5.0])}, {"value": torch.tensor([1.0, 1.0])}


def guided(field: nn.Module, scale: float | list[float], interval: tuple[float, float] = (0.0, 1.0)) -> Guided:
    return Guided(field, CONDITION, NULL, torch.tensor(scale).expand(2), interval)


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


def test_rows_have_their_own_scale_and_time() -> None:
    field = Field()
    out = guided(field, [1.0, 2.0])(torch.zeros(2, 4), torch.tensor(0.5))
    torch.testing.assert_close(out[:, 0], torch.tensor([3.0, 1 + 2 * 4.0]))
    out = guided(field, 2.0, (0.0, 0.6))(torch.zeros(2, 4), torch.tensor([0.5, 0.7]))
    torch.testing.assert_close(out[:, 0], torch.tensor([1 + 2 * 2.0, 5.0]))
    assert field.rows == [3, 3]  # rows that are not pushed have no second one


def test_a_model_that_takes_guidance_is_evaluated_once() -> None:
    field = Field(guidance_embedding=True)
    out = guided(field, [1.0, 4.0])(torch.zeros(2, 4), torch.tensor(0.5))
    torch.testing.assert_close(out[:, 0], torch.tensor([3.0, 5.0]))
    assert field.rows == [2] and torch.equal(field.guidance[0], torch.tensor([1.0, 4.0]))


def test_a_model_that_predicts_x0_gives_the_velocity() -> None:
    x, t = torch.full((2, 4), 7.0), torch.tensor([0.5, 0.25])
    out = guided(Field(prediction="x0"), 1.0)(x, t)
    torch.testing.assert_close(out[:, 0], torch.tensor([(7 - 3) / 0.5, (7 - 5) / 0.25]))
    strong = guided(Field(prediction="x0"), 3.0)(x, t)  # guidance is linear: the same in x0
    torch.testing.assert_close(strong[:, 0], torch.tensor([(7 - 7) / 0.5, (7 - 13) / 0.25]))


class Linear(nn.Module):
    """Velocity = x times the condition's value."""

    def forward(self, x: Tensor, t: Tensor, condition: dict[str, Tensor]) -> Tensor:
        return x * condition["value"].view(-1, *[1] * (x.ndim - 1))


@pytest.mark.parametrize("shape", [(2, 3, 4, 4, 4), (2, 12, 5)])
def test_full_rescale_restores_the_deviation_of_the_conditional_x0(shape: tuple[int, ...]) -> None:
    x, t = torch.randn(shape, generator=torch.Generator().manual_seed(0)), torch.tensor([0.5, 0.3])
    mask = {"token_mask": torch.arange(12).expand(2, 12) < torch.tensor([[12], [7]])} if len(shape) == 3 else {}
    condition, null = {"value": torch.tensor([0.4, -0.3]), **mask}, {"value": torch.tensor([0.1, 0.2]), **mask}
    time = t.view(-1, *[1] * (x.ndim - 1))

    def x0(rescale: float, scale: float) -> Tensor:
        return x - time * Guided(Linear(), condition, null, torch.full((2,), scale), rescale=rescale)(x, t)

    keep = mask.get("token_mask")
    conditional, plain, half, full = (deviation(x0(*how), keep) for how in ((0, 1.0), (0, 4.0), (0.5, 4.0), (1, 4.0)))
    assert (plain - conditional).abs().min() > 0.05
    torch.testing.assert_close(full, conditional)
    torch.testing.assert_close(half, (plain + conditional) / 2)


def test_the_deviation_of_tokens_does_not_see_padding() -> None:
    x = torch.randn(1, 6, 3)
    padded = torch.cat([x, torch.full((1, 4, 3), 1e3)], dim=1)
    mask = torch.arange(10)[None] < 6
    torch.testing.assert_close(deviation(padded, mask), x.flatten(1).std(dim=1, correction=0))


def test_zero_star_needs_no_push_where_both_velocities_are_parallel() -> None:
    """The optimised scale makes them equal, so that any guidance gives the conditional one."""
    out = Guided(Field(), CONDITION, NULL, torch.tensor([4.0, 9.0]), zero_star=True)(
        torch.zeros(2, 4), torch.tensor(0.5)
    )
    torch.testing.assert_close(out[:, 0], torch.tensor([3.0, 5.0]))


def test_projection_is_the_nearest_multiple() -> None:
    onto, from_ = torch.randn(3, 2, 5), torch.randn(3, 2, 5)
    rest = onto - projection(onto, from_, None).view(-1, 1, 1) * from_
    torch.testing.assert_close((rest * from_).sum(dim=(1, 2)), torch.zeros(3), atol=1e-5, rtol=0)


def test_given_reaches_both_conditions() -> None:
    field = guided(Field(), 3.0).given(span=torch.ones(2))
    assert torch.equal(field.condition["span"], torch.ones(2)) and torch.equal(field.null["span"], torch.ones(2))
    field(torch.zeros(2, 4), torch.tensor(0.5))
