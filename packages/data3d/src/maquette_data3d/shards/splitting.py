"""Who may not be told apart by a split: samples of one group, their duplicates, and equal contents."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from maquette.errors import MaquetteError


def families(table: pa.Table) -> np.ndarray:
    """int64 ``[n]``: equal for samples that have to be on one side of every split.

    Samples belong together by ``group``, by ``content``, and by naming each other in ``duplicate_of``.
    """
    count = len(table)
    if not count:
        return np.zeros(0, np.int64)
    edges = [_links(table.column(name)) for name in ("group", "content")]
    origin = pc.index_in(table.column("duplicate_of"), table.column("id").combine_chunks())
    has = np.flatnonzero(origin.is_valid().to_numpy(zero_copy_only=False))
    edges.append(np.stack([has, origin.drop_null().to_numpy().astype(np.int64)]))
    rows, columns = np.concatenate(edges, axis=1)
    graph = coo_array((np.ones(len(rows), np.int8), (rows, columns)), shape=(count, count))
    return connected_components(graph, directed=False)[1].astype(np.int64)


def shared_out(table: pa.Table, shares: Mapping[str, float], seed: int) -> list[str]:
    """Which split each sample is in: families in an order that (seed, their names) decide, cut at the shares.

    A split gets its share of the samples, but for the family at the border; the order of the rows plays no part.

    Raises:
        MaquetteError: the shares are no parts of a whole.
    """
    total = sum(shares.values())
    if not shares or any(not name for name in shares) or min(shares.values()) < 0 or abs(total - 1) > 1e-6:
        told = ", ".join(f"{name}: {share:g}" for name, share in shares.items())
        raise MaquetteError(f"splits: shares must be positive and sum to 1, got {told or 'none'}")
    family = families(table)
    names = _family_names(table, family)
    keys = [hashlib.sha256(f"{seed}|{name}".encode()).digest() for name in names]
    order = sorted(range(len(names)), key=lambda number: (keys[number], names[number]))
    sizes = np.bincount(family, minlength=len(names))[order]
    middle = (np.cumsum(sizes) - sizes / 2) / max(len(table), 1)
    borders = np.cumsum(list(shares.values()))[:-1]
    side = np.empty(len(names), np.int64)
    side[order] = np.searchsorted(borders, middle, side="right")
    known = list(shares)
    return [known[number] for number in side[family]]


def kept_together(table: pa.Table) -> tuple[list[str], int]:
    """Splits in which no family is divided: each takes that of its first sample; and how many samples moved."""
    family = families(table)
    splits = table.column("split").to_pylist()
    first: dict[int, str] = {}
    settled = [first.setdefault(int(number), split) for number, split in zip(family, splits, strict=True)]
    return settled, sum(new != old for new, old in zip(settled, splits, strict=True))


def _links(column: pa.ChunkedArray) -> np.ndarray:
    """int64 ``[2, k]``: every row that has a value, and the first row with the same one."""
    codes = column.combine_chunks().dictionary_encode()
    has = np.flatnonzero(pc.fill_null(pc.not_equal(column, ""), False).to_numpy(zero_copy_only=False))
    numbers = codes.indices.to_numpy(zero_copy_only=False)[has].astype(np.int64)
    _, place, back = np.unique(numbers, return_index=True, return_inverse=True)
    return np.stack([has, has[place][back]])


def _family_names(table: pa.Table, family: np.ndarray) -> list[str]:
    """A name for each family that no order of the rows changes: the smallest of its groups, or of its ids."""
    found: dict[int, str] = {}
    groups, ids = table.column("group").to_pylist(), table.column("id").to_pylist()
    for number, group, name in zip(family.tolist(), groups, ids, strict=True):
        own = group or name
        found[number] = min(found.get(number, own), own)
    return [found[number] for number in range(len(found))]
