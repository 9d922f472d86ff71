"""When a kernel's result counts as right."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Verdict:
    """Largest error of a result against the fp64 oracle, beside the largest that is allowed."""

    error: float
    allowed: float

    @property
    def holds(self) -> bool:
        """Whether the result is close enough; an error of nan never is."""
        return self.error <= self.allowed


Tolerance = Callable[[torch.Tensor, Sequence[torch.Tensor], torch.Tensor], Verdict]
"""``rule(result, baselines, oracle)``: the oracle is the reference in fp64, the baselines are the reference
in the call's own dtype, once as called, the others with :func:`nudge`-d arguments.
"""


def flash_attention_rule(result: torch.Tensor, baselines: Sequence[torch.Tensor], oracle: torch.Tensor) -> Verdict:
    """``err(result) <= 2 * err(baseline) + quantum``, errors being largest absolute differences from the fp64
    oracle.

    Two things keep luck out of it where tensors are small. The quantum is two units in the last place of the
    largest value: FlashAttention samples it as ``2 * max|x + 0.3 - 0.3 - x|``, which may be 0 for few
    elements, and whose floor at 0.3 hides small gradients. And the baseline's error is the largest of several
    runs, the others with arguments off by one unit in the last place, so that an ill-conditioned call (a
    large mean, little noise) is judged as such.

    Source: the tests of FlashAttention (Dao et al.), https://github.com/Dao-AILab/flash-attention.
    """
    if oracle.numel() == 0:
        return Verdict(0.0, 0.0)
    quantum = 2 * torch.finfo(result.dtype).eps * oracle.abs().max()
    baseline_error = max((baseline.double() - oracle).abs().max() for baseline in baselines)
    return Verdict((result.double() - oracle).abs().max().item(), (2 * baseline_error + quantum).item())


def nudge(x: torch.Tensor, seed: int) -> torch.Tensor:
    """``x`` with every element moved to a neighbouring float32, up or down at random; other dtypes unchanged.

    Narrow dtypes are left alone: there the rounding of results outweighs that of arguments.
    """
    if x.dtype != torch.float32:
        return x
    up = torch.rand(x.shape, generator=torch.Generator().manual_seed(seed)).to(x.device) < 0.5
    infinity = torch.tensor(float("inf"), device=x.device)
    return torch.where(up, torch.nextafter(x, infinity), torch.nextafter(x, -infinity))
