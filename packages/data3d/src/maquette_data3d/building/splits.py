"""Which samples train and which are held out: by group, so that copies of a shape never stand on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from maquette_data3d.building.outcome import Outcome

TRAIN, VALIDATION, UNSEEN_PAIRS = "train", "validation", "unseen_pairs"


def splits(outcomes: Sequence[Outcome], leaders: Sequence[int], held_out: float) -> list[str]:
    """The split of each kept sample, by the hash of its group's content.

    Where both sides can have something, they have: the hash nearest to the border moves over.

    Args:
        outcomes: of the kept samples.
        leaders: for each of them the first one of its group.
        held_out: share of the groups for validation.
    """
    of_group: dict[int, set[str]] = {}
    for leader, outcome in zip(leaders, outcomes, strict=True):
        of_group.setdefault(leader, set()).add(outcome.content)
    place = {leader: int(_hash(contents)[:16], 16) / 2**64 for leader, contents in of_group.items()}
    border = held_out
    if held_out > 0 and len(place) > 1:
        ordered = sorted(place.values())
        border = min(max(border, float(np.nextafter(ordered[0], 2.0))), ordered[-1])
    return [VALIDATION if place[leader] < border else TRAIN for leader in leaders]


def _hash(contents: set[str]) -> str:
    """One hash for a group, as even as those of its members: the least of them would favour one side."""
    if len(contents) == 1:
        return next(iter(contents))
    return hashlib.sha256("".join(sorted(contents)).encode()).hexdigest()
