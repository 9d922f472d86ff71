"""The names of parts that a model tells apart, and the labels of points in them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

UNLABELLED = -1
"""The label of points whose part the model has no name for; they do not count."""
_NUMBER = re.compile(r"[\s_.-]*\d+$")


def kind_of_part(name: str) -> str:
    """A part's name without the number that tells it from others of its kind: "stone 2" is a "stone"."""
    return _NUMBER.sub("", name).strip().lower() or name.lower()


def kinds_of_parts(names: Sequence[str]) -> list[str]:
    """All kinds among names, sorted."""
    return sorted({kind_of_part(name) for name in names})


def point_labels(batch: Mapping[str, Any], kinds: Sequence[str]) -> Tensor:
    """Places in `kinds`, int64 [B,P], of a batch's `surface_part` [B,P], which counts in the `part_names` of each
    sample; `UNLABELLED` where there is no such kind."""
    places = {kind: place for place, kind in enumerate(kinds)}
    rows = []
    for parts, names in zip(batch["surface_part"], batch["part_names"], strict=True):
        table = [places.get(kind_of_part(name), UNLABELLED) for name in names] or [UNLABELLED]
        rows.append(torch.tensor(table, device=parts.device)[parts.long().clamp(max=len(table) - 1)])
    return torch.stack(rows)
