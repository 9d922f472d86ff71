"""Classifier-free guidance, Ho & Salimans 2022, within an interval of times, Kynkaanniemi et al. 2024.

Rescaled after Lin et al., "Common Diffusion Noise Schedules and Sample Steps Are Flawed", 2023; with the optimised
scale of Fan et al., "CFG-Zero*", 2025.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from maquette_models.samplers.prediction import prediction_of, steepness, takes_guidance, velocity_of
from maquette_models.samplers.sampler import over


@dataclass(frozen=True)
class Guided:
    """A velocity field that is pushed away from the unconditional one.

    The velocity is what comes out whatever the model predicts. A model that takes the scale as an input is given
    it, and evaluated once: interval, rescale and zero_star are those it was distilled with.

    Args:
        model: `model(x, t [B], condition)`.
        condition: tensors with leading B.
        null: the same for no condition at all.
        scale: [B]; 1 is the conditional velocity itself.
        interval: guidance acts where start <= t <= end.
        rescale: by how much, from 0 to 1, the guided x0 is brought back to the standard deviation of the conditional
            one, sample by sample: against the oversaturation of large scales.
        zero_star: the unconditional velocity is first scaled to be as near as it can be to the conditional one.
    """

    model: nn.Module
    condition: Mapping[str, Tensor]
    null: Mapping[str, Tensor]
    scale: Tensor
    interval: tuple[float, float] = (0.0, 1.0)
    rescale: float = 0.0
    zero_star: bool = False

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        """The guided velocity of x [B,...] at times scalar or [B]; one forward pass, in which the rows that are guided
        have a second row without condition."""
        t = t.expand(len(x))
        if takes_guidance(self.model):
            return self.velocity(x, t, {**self.condition, "guidance": self.scale})
        pushed = (self.scale != 1) & (t >= self.interval[0]) & (t <= self.interval[1])
        if not bool(pushed.any()):
            return self.velocity(x, t, self.condition)
        index = pushed.nonzero().squeeze(1)
        both = {key: torch.cat([value, self.null[key][index]]) for key, value in self.condition.items()}
        velocity = self.velocity(torch.cat([x, x[index]]), torch.cat([t, t[index]]), both)
        return velocity[: len(x)].index_copy(0, index, self.push(velocity[: len(x)], velocity[len(x) :], x, t, index))

    def velocity(self, x: Tensor, t: Tensor, condition: Mapping[str, Tensor]) -> Tensor:
        """The model's own velocity [B,...] under a condition."""
        predicted = self.model(x, t, condition).to(x.dtype)  # models may compute in less than the state has
        return velocity_of(prediction_of(self.model), predicted, x, t)

    def given(self, **fields: Tensor) -> Guided:
        """The same field with more tensors [B,...] in both conditions: for samplers whose models ask for more than a
        time."""
        return replace(self, condition={**self.condition, **fields}, null={**self.null, **fields})

    def push(self, conditional: Tensor, without: Tensor, x: Tensor, t: Tensor, index: Tensor) -> Tensor:
        """The guided velocity of some rows, from the conditional velocity of all and the unconditional one of those."""
        conditional, x, t = conditional[index], x[index], t[index]
        mask = self.condition["token_mask"][index] if "token_mask" in self.condition else None
        if self.zero_star:
            without = without * over(projection(conditional, without, mask), x)
        guided = conditional + over(self.scale[index] - 1, x) * (conditional - without)
        if not self.rescale:
            return guided
        time = over(t, x)
        x0 = x - time * guided
        ratio = deviation(x - time * conditional, mask) / deviation(x0, mask).clamp(min=1e-6)
        return guided + over(self.rescale * (1 - ratio), x) * x0 / steepness(x, t)


def projection(onto: Tensor, from_: Tensor, mask: Tensor | None) -> Tensor:
    """The factor [B] that brings `from_` nearest to `onto`, [B,...] both; of tokens [B,N,C], over those that count."""
    kept = from_ if mask is None else from_ * mask[..., None]
    inner, own = ((kept * other).flatten(1).sum(dim=1) for other in (onto, from_))
    return inner / own.clamp(min=1e-12)


def deviation(x: Tensor, mask: Tensor | None) -> Tensor:
    """The standard deviation [B] of each sample's values; of tokens [B,N,C], over those that count."""
    if mask is None:
        return x.flatten(1).std(dim=1, correction=0)
    keep = mask[..., None]
    count = keep.sum(dim=(1, 2)) * x.shape[-1]
    mean = (x * keep).sum(dim=(1, 2)) / count
    return (((x - over(mean, x)) * keep).square().sum(dim=(1, 2)) / count).sqrt()
