"""Splitting and gathering of tokens: values, gradients, and where a model does it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maquette.errors import MaquetteError
from maquette.parallel.layout import Layout
from maquette.parallel.mesh import Mesh
from maquette.parallel.tokens import (
    Peers,
    add_up,
    exchange,
    gather,
    make_buckets,
    reduce_scatter,
    split,
    split_tokens,
    uneven,
)
from maquette.testing import TinyTransformer, run_ranks

WORLD = 4
SHAPE = (8, 12, 4)


def summand(rank: int) -> torch.Tensor:
    """What process `rank` holds."""
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(rank)).double()


def collectives() -> dict:
    """Every collective along every axis: result and gradient, where process r weighs its result with summand(9 + r)."""
    mesh = Mesh(Layout(context=2, tensor=2))
    peers = Peers.along(mesh, "context", "tensor")
    results = {}
    for axis in range(3):
        for apply in (gather, reduce_scatter, exchange)[: 3 if axis == 0 else 2]:
            x = summand(mesh.rank).requires_grad_()
            y = apply(x, peers) if apply is exchange else apply(x, axis, peers)
            assert type(y) is torch.Tensor, "a tensor on its way loses gradients in compiled blocks"
            weight = torch.randn(y.shape, generator=torch.Generator().manual_seed(9 + mesh.rank)).double()
            (y * weight).sum().backward()
            results[apply.__name__, axis] = (y.detach(), weight, x.grad)
    odd = {"whole numbers": torch.arange(3) + 3 * mesh.rank, "truth values": torch.tensor([mesh.rank % 2 == 0])}
    results.update({name: gather(x, 0, peers) for name, x in odd.items()})
    tensors = [
        torch.full((n,), float(mesh.rank + n), dtype=d) for n in (1, 0, 5, 300) for d in (torch.float32, torch.float64)
    ]
    group = mesh.group("context", "tensor")
    assert group is not None
    add_up(tensors, group, bucket_bytes=64)
    results["sums"] = tensors
    results["inner"] = gather(torch.tensor([mesh.rank]), 0, Peers.along(mesh, "tensor")).tolist()
    results["outer"] = gather(torch.tensor([mesh.rank]), 0, Peers.along(mesh, "context")).tolist()
    return results


@pytest.fixture(scope="module")
def ranks() -> list[dict]:
    """What every process got."""
    return run_ranks(collectives, WORLD)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_gather_puts_the_parts_together_and_its_gradient_is_the_sum_of_all_processes(ranks, axis):
    whole = torch.cat([summand(rank) for rank in range(WORLD)], axis)
    gradient = sum(rank["gather", axis][1] for rank in ranks).chunk(WORLD, axis)
    for rank, results in enumerate(ranks):
        assert torch.equal(results["gather", axis][0], whole)
        torch.testing.assert_close(results["gather", axis][2], gradient[rank])


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_reduce_scatter_is_the_other_way_round(ranks, axis):
    total = sum(summand(rank) for rank in range(WORLD)).chunk(WORLD, axis)
    gradient = torch.cat([rank["reduce_scatter", axis][1] for rank in ranks], axis)
    for rank, results in enumerate(ranks):
        torch.testing.assert_close(results["reduce_scatter", axis][0], total[rank])
        assert torch.equal(results["reduce_scatter", axis][2], gradient)


def test_exchange_sends_the_parts_and_their_gradients_come_back(ranks):
    for rank, results in enumerate(ranks):
        y, _, gradient = results["exchange", 0]
        assert torch.equal(y, torch.cat([summand(other).chunk(WORLD)[rank] for other in range(WORLD)]))
        assert torch.equal(gradient, torch.cat([other["exchange", 0][1].chunk(WORLD)[rank] for other in ranks]))


def test_whole_numbers_and_truth_values_are_gathered(ranks):
    for results in ranks:
        assert results["whole numbers"].tolist() == list(range(12))
        assert results["truth values"].tolist() == [True, False, True, False]
        assert results["truth values"].dtype == torch.bool


def test_sums_in_buckets_keep_every_tensor_apart(ranks):
    for results in ranks:
        for tensor in results["sums"]:
            assert tensor.eq(4 * len(tensor) + 6).all()


def test_tensor_is_the_inner_axis(ranks):
    assert [rank["inner"] for rank in ranks] == [[0, 1], [0, 1], [2, 3], [2, 3]]
    assert [rank["outer"] for rank in ranks] == [[0, 2], [1, 3], [0, 2], [1, 3]]


@given(parts=st.integers(1, 6), each=st.integers(1, 4), axis=st.integers(0, 2))
def test_split_parts_are_the_whole(parts, each, axis):
    x = torch.randn([parts * each if i == axis else 3 for i in range(3)])
    pieces = [split(x, axis, Peers(parts, index, "")) for index in range(parts)]
    assert torch.equal(torch.cat(pieces, axis), x)
    assert all(piece.is_contiguous() for piece in pieces)


@given(length=st.integers(1, 200), parts=st.integers(2, 16))
def test_a_count_that_does_not_split_is_refused_with_counts_that_do(length, parts):
    if length % parts:
        with pytest.raises(MaquetteError) as caught:
            split(torch.zeros(2, length), 1, Peers(parts, 0, ""))
        counts = [int(word) for word in str(caught.value).split("make it ")[1].split(" tokens")[0].split(" or ")]
        assert all(count % parts == 0 and abs(count - length) < parts for count in counts)
        fits = [int(word) for word in str(caught.value).split("from: ")[1].split(", ")]
        assert all(length % fit == 0 for fit in fits)
    assert "\n" not in uneven(length, parts)


@given(sizes=st.lists(st.integers(0, 50), max_size=30), limit=st.integers(1, 400))
def test_buckets_keep_the_order_and_the_limit(sizes, limit):
    tensors = [torch.zeros(size) for size in sizes]
    buckets = make_buckets(tensors, limit)
    assert [id(tensor) for bucket in buckets for tensor in bucket] == [id(tensor) for tensor in tensors]
    for bucket in buckets:
        assert len(bucket) <= 1 or sum(tensor.nbytes for tensor in bucket) <= limit


@pytest.fixture
def mesh():
    """The first of four processes that talk to nobody."""
    mesh = Mesh(Layout(context=2, tensor=2), backend="fake")
    yield mesh
    mesh.stop()


def test_only_what_holds_begin_splits_and_only_what_holds_finish_joins(mesh):
    model = TinyTransformer(tokens=8)
    first, last = torch.nn.Module(), torch.nn.Module()
    first.begin, first.token_axes = model.begin, model.token_axes
    last.finish, last.token_axes = model.finish, model.token_axes
    seen = {}
    last.finish = lambda h, modulation, positions: seen.update(h=h.shape, m=modulation.shape, p=positions.shape)
    for part in (first, torch.nn.Module(), last):
        split_tokens(part, mesh)
        split_tokens(part, mesh)  # the second strategy that asks changes nothing
    h, modulation, positions = first.begin(torch.randn(3, 8, 6), torch.rand(3))
    assert (h.shape, modulation.shape, positions.shape) == ((3, 2, 16), (3, 16), (4,))
    last.finish(h, modulation, positions)
    assert seen == {"h": (3, 8, 16), "m": (3, 16), "p": (8,)}


def test_a_model_refuses_token_counts_that_do_not_split(mesh):
    model = TinyTransformer(tokens=8)
    split_tokens(model, mesh)
    with pytest.raises(MaquetteError, match="6 tokens do not split over context x tensor = 4"):
        model.begin(torch.randn(3, 6, 6), torch.rand(3))
