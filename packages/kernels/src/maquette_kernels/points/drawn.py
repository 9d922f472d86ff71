"""Clouds that property tests draw, on lattices whose squared distances are exact in float32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_STEP = 1 / 64


def clouds(
    draw: Any, generator: torch.Generator, count: int | None, sizes: Sequence[int], side: int
) -> tuple[Tensor, Tensor | None]:
    """Points float32 [N, 3], multiples of 1/64 no further than ``side`` steps from one of up to two centres, and
    offsets int64 [count + 1] (None for one cloud, where ``count`` is None).

    The coordinates are below 2^11 steps: sums of three squares of their differences stay below 2^24.
    """
    from hypothesis import strategies as st

    size = st.sampled_from(list(sizes))
    lengths = draw(st.lists(size, min_size=count or 0, max_size=count or 0)) if count is not None else [draw(size)]
    points = torch.randint(-side, side + 1, (sum(lengths), 3), generator=generator)
    offsets = None if count is None else torch.tensor([0, *lengths]).cumsum(0)
    centres = torch.tensor(draw(st.sampled_from([[0, 0], [1000, 1000], [0, 1000]])))
    which = torch.randint(0, 2, (len(points), 1), generator=generator)
    return (points + centres[which]) * _STEP, offsets
