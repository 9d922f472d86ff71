"""Following a flow where part of the sample is known, or from a sample that is known but for some noise.

Lugmayr et al., "RePaint", 2022, for flows; Meng et al., "SDEdit", 2022.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]
"""velocity(x [B,...], t scalar) -> [B,...]"""


def inpaint(
    velocity: Velocity, known: Tensor, free: Tensor, times: Tensor, *, rounds: int, generator: torch.Generator
) -> Tensor:
    """Samples [B,...] that are `known` where they are not free, and go with it where they are.

    At every time what is known is put in with the noise of that time. Each step is made `rounds` times, with noise in
    between that leads from its end back to its start, so that the two parts agree.

    Args:
        velocity: of the flow.
        known: data [B,...].
        free: bool, of the shape of `known` or one that broadcasts to it.
        times: falling, from 1 to 0.
        rounds: at least 1.
        generator: of all noise.
    """
    noise = _normal(known, generator)
    x = _normal(known, generator)
    for t, t_next in pairwise(times.to(known.device)):
        last = float(t_next) == 0.0
        for again in reversed(range(1 if last else rounds)):
            x = torch.where(free, x, blend(known, noise, t))
            x = x + (t_next - t) * velocity(x, t)
            if again:
                noise = _normal(known, generator)
                x = noisier(x, t_next, t, _normal(known, generator))
    return torch.where(free, x, known)


def vary(
    velocity: Velocity,
    known: Tensor,
    strength: float,
    times: Tensor,
    generator: torch.Generator,
    *,
    free: Tensor | None = None,
    settle: float = 0.0,
) -> Tensor:
    """Samples [B,...] that share with `known` what noise of the time `strength` leaves of it.

    `times` fall from 1 to 0; only as much of the way is gone as has to be, in steps as fine. From the time `settle` on
    what is known is put in where it is not `free` (bool, or a shape that broadcasts), as `inpaint` does at all times:
    late enough not to speak against what is wanted, early enough for the rest to join it.
    """
    noise = _normal(known, generator)
    steps = torch.stack([torch.tensor(strength), *[t for t in times if float(t) < strength]]).to(known.device)
    x = blend(known, noise, steps[0])
    for t, t_next in pairwise(steps):
        if free is not None and float(t) <= settle:
            x = torch.where(free, x, blend(known, noise, t))
        x = x + (t_next - t) * velocity(x, t)
    return torch.where(free, x, known) if free is not None and settle else x


def blend(data: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """The point of the flow's straight line at a time: data at 0, noise at 1."""
    return (1 - t) * data + t * noise


def noisier(x: Tensor, t: Tensor, later: Tensor, noise: Tensor) -> Tensor:
    """A sample of time t taken back to a later, noisier time: of the distribution that the flow has there."""
    kept = (1 - later) / (1 - t)
    return kept * x + (later**2 - (kept * t) ** 2).clamp(min=0).sqrt() * noise


def slerp(one: Tensor, other: Tensor, share: float) -> Tensor:
    """Between two latents [B,...] on an arc, sample by sample: lengths of Gaussian vectors are kept."""
    a, b = one.flatten(1), other.flatten(1)
    cosine = (a * b).sum(dim=1) / (a.norm(dim=1) * b.norm(dim=1)).clamp(min=1e-12)
    angle = torch.arccos(cosine.clamp(-1, 1)).clamp(min=1e-4)
    shape = (-1, *[1] * (one.ndim - 1))
    weights = [torch.sin(part * angle) / torch.sin(angle) for part in (1 - share, share)]
    return weights[0].view(shape) * one + weights[1].view(shape) * other


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator).to(like.device)
