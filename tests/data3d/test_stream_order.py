"""Order, mixture and plan: numbers only, no file is read."""

from __future__ import annotations

import json
from itertools import islice

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from maquette.errors import MaquetteError
from maquette_data3d.shards.format import ShardFile
from maquette_data3d.stream.curriculum import Stage, StepConfig, Steps, StepsConfig
from maquette_data3d.stream.feed import Feed
from maquette_data3d.stream.mixture import Mixture
from maquette_data3d.stream.order import below, draws, epoch_order
from maquette_data3d.stream.plan import Buckets, Plan

EDGES = (4, 8, 16)


class Index:
    """As much of a reader as the plan asks for."""

    def __init__(self, count, per_shard=4, tokens=None):
        self.shard_of = np.arange(count) // per_shard
        self.tokens = np.ones(count, np.int32) if tokens is None else np.asarray(tokens, np.int32)
        self.shards = [ShardFile(f"shard_{i}", 1, "", per_shard) for i in range(-(-count // per_shard))]

    def split(self, name):
        return np.arange(len(self.shard_of))


def feeds(counts, shuffle="full", seed=0, damaged=(), **about):
    settings = {"shuffle": shuffle, "seed": seed, "damaged": damaged}
    return [Feed(Index(count, **about), "train", place, **settings) for place, count in enumerate(counts)]


def walk(plan, at, batches):
    """Samples as (source, position), batch by batch, and where the plan is then."""
    found = []
    for _ in range(batches):
        batch, at = plan.next(at)
        found.append(list(zip(batch.source.tolist(), batch.position.tolist(), strict=True)))
    return found, at


def again(plan, at):
    """The position as a checkpoint holds it."""
    return plan.restored(json.loads(json.dumps(plan.saved(at))))


@given(st.sampled_from(["full", "window", "none"]), st.integers(1, 200), st.integers(1, 20), st.integers(0, 9))
def test_every_order_is_a_permutation_that_its_key_alone_decides(shuffle, count, per_shard, seed):
    shards = np.arange(count) // per_shard
    order = epoch_order(shuffle, (seed, 3, 0), shards, window=5)
    assert sorted(order.tolist()) == list(range(count))
    assert np.array_equal(order, epoch_order(shuffle, (seed, 3, 0), shards, window=5))
    assume(shuffle != "none" and count > 30)
    assert not np.array_equal(order, epoch_order(shuffle, (seed, 4, 0), shards, window=5))
    assert not np.array_equal(order, epoch_order(shuffle, (seed, 3, 1), shards, window=5))


@given(st.integers(1, 60), st.integers(0, 99))
def test_a_window_moves_no_sample_further_than_it_says(window, seed):
    shards = np.arange(640) // 16
    order = epoch_order("window", (seed, 0, 0), shards, window)
    by_shard = [np.flatnonzero(shards[order] == shard) for shard in range(40)]
    # A shard's samples lie within its own length and two windows on either side.
    assert max(int(ranks.max() - ranks.min()) for ranks in by_shard) <= 16 + 4 * window


def test_a_windowed_batch_touches_nearly_as_many_shards_as_a_shuffled_one():
    for count in (2048, 65536):
        shards = np.arange(count) // 64
        touched = {}
        for shuffle in ("full", "window"):
            batches = shards[epoch_order(shuffle, (0, 0, 0), shards)].reshape(-1, 16)
            touched[shuffle] = np.mean([len(set(batch)) for batch in batches.tolist()])
        assert touched["window"] >= 0.8 * touched["full"]
    at_hand = [len(set(part)) for part in shards[epoch_order("window", (0, 0, 0), shards)].reshape(-1, 512).tolist()]
    assert max(at_hand) < 100 < len(set(shards.tolist()))


def test_draws_are_even_and_differ_by_every_key():
    found = draws(0, 1, np.arange(20_000), 7)
    assert len(set(found.tolist())) == 20_000
    counts = np.bincount(below(found, 10), minlength=10)
    assert counts.min() > 1800 and counts.max() < 2200
    assert abs(np.mean((found >> np.uint64(63)).astype(float)) - 0.5) < 0.02
    keys = [(0, 1, 2, 3), (1, 1, 2, 3), (0, 2, 2, 3), (0, 1, 3, 3), (0, 1, 2, 4), (0, 1, 3, 2)]
    assert len({int(draws(*key)[0]) for key in keys}) == len(keys)


@given(st.lists(st.decimals(0, 10, places=2).map(float), min_size=1, max_size=5), st.integers(0, 500))
def test_a_mixture_keeps_to_its_weights_after_every_sample(weights, start):
    assume(sum(weights) > 0)
    mixture = Mixture(weights)
    counts = np.array(mixture.counts_after(start))
    assert counts.sum() == start
    shares = np.array(weights) / sum(weights)
    for source in mixture.draw(counts, 200):
        counts[source] += 1
        assert np.all(np.abs(counts - counts.sum() * shares) < 1 + 1e-9)
    assert counts.tolist() == mixture.counts_after(start + 200)


@pytest.mark.parametrize("weights", [[0.0], [1.0, -1.0], [float("nan"), 1.0], [float("inf")]])
def test_weights_that_mean_nothing_are_refused(weights):
    with pytest.raises(MaquetteError, match="weights of sources"):
        Mixture(weights)


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=3),
    st.lists(st.integers(1, 9), min_size=12, max_size=12),
    st.integers(0, 11),
    st.sampled_from(["full", "window", "none"]),
)
def test_batch_sizes_and_interruptions_leave_the_sequence_as_it_is(counts, sizes, crash, shuffle):
    weights = [1.0, 0.5, 3.0][: len(counts)]
    whole, _ = walk(Plan(feeds(counts, shuffle), weights, 1), Plan(feeds(counts), weights, 1).begin(), sum(sizes))
    whole = [sample for batch in whole for sample in batch]
    at, found = Plan(feeds(counts, shuffle), weights, 1).begin(), []
    for step, size in enumerate(sizes):
        plan = Plan(feeds(counts, shuffle), weights, size)
        batches, at = walk(plan, again(plan, at) if step == crash else at, 1)
        found += batches[0]
    assert found == whole
    assert plan.saved(at) == plan.saved(plan.begin(sum(sizes)))
    for source in range(len(counts)):
        positions = [position for origin, position in found if origin == source]
        assert positions == list(range(len(positions)))


@given(st.integers(1, 40), st.integers(0, 3))
def test_each_epoch_of_a_source_has_each_sample_once(count, seed):
    feed = feeds([count], seed=seed)[0]
    for epoch in range(3):
        assert sorted(feed.places(np.arange(count) + epoch * count).tolist()) == list(range(count))


@given(
    st.lists(st.integers(1, 16), min_size=3, max_size=40),
    st.integers(0, 12),
    st.integers(1, 3),
    st.sampled_from([1.0, 2.5]),
)
def test_buckets_lose_and_repeat_nothing_and_resume_anywhere(tokens, crash, divisible_by, weight):
    sources = feeds([len(tokens)] * 2, tokens=tokens)
    buckets = Buckets.even(EDGES, 48, divisible_by)
    plan = Plan(sources, [1.0, weight], buckets)
    whole, end = walk(plan, plan.begin(), 16)
    before, at = walk(plan, plan.begin(), crash)
    after, _ = walk(plan, again(plan, at), 16 - crash)
    assert before + after == whole
    for batch in whole:
        sizes = [sources[s].tokens[sources[s].places(np.array([p]))[0]] for s, p in batch]
        bucket = set(buckets.of(np.array(sizes)).tolist())
        assert len(bucket) == 1 and len(batch) == buckets.sizes[bucket.pop()]
        assert len(batch) % divisible_by == 0 and len(batch) * EDGES[buckets.of(np.array(sizes))[0]] <= 48
    seen = [sample for batch in whole for sample in batch] + [tuple(row[:2]) for row in end.pending.tolist()]
    for source in range(2):
        positions = sorted(position for origin, position in seen if origin == source)
        assert positions == list(range(end.positions[source]))
    assert len(end.pending) < sum(buckets.sizes) + 64


def test_pending_samples_come_first_when_buckets_are_given_up():
    tokens = [1, 9, 1, 1, 9, 1]
    plan = Plan(feeds([6], tokens=tokens), [1], Buckets.even(EDGES, 48, 1))
    _, at = walk(plan, plan.begin(), 1)
    waiting = [tuple(row[:2]) for row in at.pending.tolist()]
    assert waiting
    plain = Plan(feeds([6], tokens=tokens), [1], 3)
    found, _ = walk(plain, again(plain, at), len(waiting))
    assert [sample for batch in found for sample in batch][: len(waiting)] == waiting


def test_weights_may_change_and_sources_be_added_at_resume():
    plan = Plan(feeds([10, 10]), [1, 1], 4)
    _, at = walk(plan, plan.begin(), 5)
    changed = Plan(feeds([10, 10, 10]), [1, 0, 3], 4)
    found, after = walk(changed, changed.restored(plan.saved(at)), 10)
    origins = [source for batch in found for source, _ in batch]
    assert (origins.count(0), origins.count(1), origins.count(2)) == (10, 0, 30)
    assert min(position for batch in found for source, position in batch if source == 0) == at.positions[0]
    assert after.consumed == 60
    with pytest.raises(MaquetteError, match="had 3 sources, now 2"):
        plan.restored(changed.saved(after))


def test_damaged_shards_are_passed_over_and_counted():
    plan = Plan(feeds([20], damaged=[1, 3]), [1], 4)
    found, at = walk(plan, plan.begin(), 6)
    places = plan.feeds[0].places(np.array([position for batch in found for _, position in batch]))
    assert set((places // 4).tolist()) == {0, 2, 4} and len(set(places[:12].tolist())) == 12
    assert (at.consumed, at.passed_over) == (24, at.positions[0] - 24)


def test_a_curriculum_passes_larger_samples_over_until_its_stage_allows_them():
    steps = Steps(StepsConfig([StepConfig(0, points=8, most_tokens=4), StepConfig(12, resolution=32)]))
    assert [steps.at(n) for n in (0, 11, 12)] == [Stage(8, None, 4), Stage(8, None, 4), Stage(None, 32, None)]
    tokens = [2, 9] * 10
    plan = Plan(feeds([20], tokens=tokens), [1], 4, steps)
    batches = list(islice(_batches(plan), 8))
    small = [np.asarray(tokens)[batch.place].max() <= 4 for batch in batches]
    assert all(small[:3]) and not all(small[3:])
    assert batches[0].stage.points == 8 and batches[3].stage.resolution == 32
    none = Plan(feeds([4], tokens=[9] * 4), [1], 4, steps)
    with pytest.raises(MaquetteError, match="no readable sample of at most 4 tokens"):
        none.next(none.begin())
    for stages in ([], [StepConfig(5), StepConfig(5)], [StepConfig(0, points=-1)]):
        with pytest.raises(MaquetteError, match="rising 'after'"):
            Steps(StepsConfig(stages))


def test_buckets_that_cannot_be_are_refused():
    for edges in ([8, 4], [4, 4], [0, 4]):
        with pytest.raises(MaquetteError, match="must rise"):
            Buckets.even(edges, 64, 1)
    with pytest.raises(MaquetteError, match="needs at least 128"):
        Buckets.even([8, 16], 100, 8)


def _batches(plan):
    at = plan.begin()
    while True:
        batch, at = plan.next(at)
        yield batch
