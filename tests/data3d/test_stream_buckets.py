"""Bucketing by the number of tokens: little padding, nothing lost, the same batches for every number of processes."""

from __future__ import annotations

import json
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maquette.errors import MaquetteError
from maquette_data3d.stream.bucketing import fitted_edges
from maquette_data3d.stream.dataset import ShardsConfig
from maquette_data3d.stream.feed import Feed
from maquette_data3d.stream.plan import Buckets, Plan
from tests.data3d.stream_folders import batches, opened, write_folder


class Index:
    """As much of a reader as the plan asks for."""

    def __init__(self, tokens):
        self.tokens, self.shard_of = np.asarray(tokens), np.zeros(len(tokens), int)

    def split(self, name):
        return np.arange(len(self.tokens))


def plan_of(tokens, how, seed=0):
    return Plan([Feed(Index(tokens), "train", 0, shuffle="full", seed=seed)], [1.0], how)


def walk(plan, at, count):
    found = []
    for _ in range(count):
        batch, at = plan.next(at)
        found.append(batch)
    return found, at


def lognormal(sigma, count=6000, seed=0):
    drawn = np.exp(np.random.default_rng(seed).normal(7, sigma, count)).astype(np.int64)
    return drawn.clip(16, 40_000)


def padded_to_edges(tokens, edges):
    return int(np.asarray(edges)[np.searchsorted(edges, tokens)].sum())


@pytest.mark.parametrize("sigma", [0.3, 0.6, 1.0])
def test_less_than_five_percent_of_a_batch_is_padding(sigma):
    tokens = lognormal(sigma)
    edges = fitted_edges(tokens, 0.05)
    plan = plan_of(tokens, Buckets.even(edges, max(1 << 16, 4 * edges[-1]), 4))
    for world in (1, 4):
        real = padded = 0
        for batch in walk(plan, plan.begin(), 400)[0]:
            for rank in range(world):
                own = tokens[batch.share(rank, world).place]
                real, padded = real + own.sum(), padded + own.max() * len(own)
        assert 1 - real / padded < 0.05
    assert len(edges) < 60


@given(st.lists(st.integers(0, 12), min_size=1, max_size=30), st.sampled_from([0.0, 0.05, 0.2, 0.5]))
def test_no_fewer_buckets_would_do(tokens, waste):
    tokens = np.maximum(tokens, 1)
    edges = fitted_edges(tokens, waste)
    allowed = tokens.sum() / (1 - waste) * (1 + 1e-12)
    assert edges == sorted(set(edges)) and edges[-1] == tokens.max()
    assert padded_to_edges(tokens, edges) <= allowed
    others = sorted(set(tokens.tolist()) - {edges[-1]})
    for fewer in combinations(others, len(edges) - 2) if len(edges) > 1 else ():
        assert padded_to_edges(tokens, [*fewer, edges[-1]]) > tokens.sum() / (1 - waste) * (1 - 1e-12)


@given(st.integers(1, 2000), st.floats(0.1, 1.5), st.integers(0, 99))
def test_edges_hold_every_sample_and_keep_to_the_share(count, sigma, seed):
    tokens = lognormal(sigma, count, seed)
    edges = fitted_edges(tokens, 0.1)
    assert padded_to_edges(tokens, edges) * 0.9 <= tokens.sum() * (1 + 1e-9)
    assert np.array_equal(edges, fitted_edges(tokens[::-1], 0.1))


@given(
    st.lists(st.integers(1, 64), min_size=4, max_size=60),
    st.integers(0, 10),
    st.tuples(st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4])),
    st.integers(0, 5),
)
def test_resuming_at_another_number_of_processes_continues_the_sequence(tokens, crash, worlds, seed):
    """Buckets, in the middle of an epoch: the samples, their order and their keys of randomness."""
    buckets = Buckets.even(fitted_edges(np.array(tokens), 0.1), 256, 4)
    whole, _ = walk(plan_of(tokens, buckets, seed), plan_of(tokens, buckets).begin(), 12)
    first, second = worlds
    plan = plan_of(tokens, buckets, seed)
    before, at = walk(plan, plan.begin(), crash)
    state = json.loads(json.dumps(plan.saved(at)))
    resumed = plan_of(tokens, buckets, seed)
    after, _ = walk(resumed, resumed.restored(state), 12 - crash)
    shares = [[batch.share(rank, first) for rank in range(first)] for batch in before]
    shares += [[batch.share(rank, second) for rank in range(second)] for batch in after]
    place = 0
    for batch, parts in zip(whole, shares, strict=True):
        for name in ("source", "position", "place"):
            assert np.array_equal(getattr(batch, name), np.concatenate([getattr(part, name) for part in parts]))
        numbers = [number for part in parts for number in range(part.first, part.first + len(part.place))]
        assert numbers == list(range(place, place + len(batch.place)))
        place += len(batch.place)


@given(st.lists(st.integers(1, 64), min_size=2, max_size=40), st.integers(0, 9))
def test_every_sample_comes_once_an_epoch(tokens, seed):
    buckets = Buckets.even(fitted_edges(np.array(tokens), 0.1), 128, 1)
    plan = plan_of(tokens, buckets, seed)
    at, seen = plan.begin(), []
    while at.positions[0] < 3 * len(tokens):
        batch, at = plan.next(at)
        seen += list(zip(batch.position.tolist(), batch.place.tolist(), strict=True))
    seen += [(row[1], row[2]) for row in at.pending.tolist()]
    for epoch in range(3):
        places = [place for position, place in seen if position // len(tokens) == epoch]
        assert sorted(places) == list(range(len(tokens)))


def test_a_dataset_chooses_its_buckets_itself(tmp_path):
    folder = write_folder(tmp_path / "a")
    settings = {"bucket_waste": 0.2, "tokens_per_batch": 36, "divisible_by": 4, "fields": ["voxels"]}
    whole = batches(opened(folder, **settings), 10)
    sizes = {len(batch["id"]) for batch in whole}
    assert len(sizes) > 1 and all(size % 4 == 0 for size in sizes)
    ranks = [batches(opened(folder, rank, 2, prefetch=rank * 2, **settings), 10) for rank in range(2)]
    for batch, *shares in zip(whole, *ranks, strict=True):
        assert batch["id"] == [name for share in shares for name in share["id"]]
    with pytest.raises(MaquetteError, match="takes the place of 'buckets'"):
        opened(folder, buckets=[9], **settings)
    with pytest.raises(MaquetteError, match="needs at least 36"):
        opened(folder, **{**settings, "tokens_per_batch": 32})
    with pytest.raises(MaquetteError, match="more than 128 buckets; allow more padding"):
        fitted_edges(np.arange(1, 4000), 0.0)
    assert ShardsConfig("a", bucket_waste=0.0).fitted(np.array([1])).buckets == []
