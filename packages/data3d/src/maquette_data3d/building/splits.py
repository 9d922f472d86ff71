"""Which samples train and which are held out: by group, so that copies of a shape never stand on both sides."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

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


def joined(leaders: Sequence[int], collections: Sequence[str]) -> list[int]:
    """For each sample the first one of all that it hangs together with, by groups and by collections.

    Args:
        leaders: for each sample the first one of its group.
        collections: what each sample is a part of; an empty one joins nothing.
    """
    first: dict[str, int] = {}
    whole = [first.setdefault(name, number) if name else number for number, name in enumerate(collections)]
    own = list(range(len(leaders)))
    links = coo_array((np.ones(2 * len(own), bool), (own * 2, [*leaders, *whole])), shape=(len(own),) * 2)
    _, labels = connected_components(links, directed=False)
    _, leader, member = np.unique(labels, return_index=True, return_inverse=True)
    return [int(number) for number in leader[member.reshape(-1)]]


def splits_of_collections(leaders: Sequence[int], collections: Sequence[str], held_out: float) -> list[str]:
    """The split of each kept sample where collections stay whole: in the order of the hashes of their names, up to
    the share of the samples.

    Collections are few and of unlike sizes: a border among hashes could hold out any share. The one that lies across
    the border goes where most of it is. Both sides have something where there are two.
    """
    names: dict[int, str] = {}
    for leader, name in zip(leaders, collections, strict=True):
        names[leader] = min(names.get(leader, name), name)
    keys = {leader: (hashlib.sha256(name.encode()).hexdigest(), leader) for leader, name in names.items()}
    order = sorted(names, key=keys.__getitem__)
    sizes = np.array([list(leaders).count(leader) for leader in order])
    away = np.cumsum(sizes) - sizes / 2 < held_out * len(leaders)
    if held_out > 0 and len(order) > 1:
        away[0], away[-1] = True, False
    held = {leader for leader, gone in zip(order, away, strict=True) if gone}
    return [VALIDATION if leader in held else TRAIN for leader in leaders]


def _hash(contents: set[str]) -> str:
    """One hash for a group, as even as those of its members: the least of them would favour one side."""
    if len(contents) == 1:
        return next(iter(contents))
    return hashlib.sha256("".join(sorted(contents)).encode()).hexdigest()
