"""Pipelines before they start: who holds what, which batches go, how models are split, and what is refused."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from torch import nn

from maquette.batches import rows_of
from maquette.errors import MaquetteError
from maquette.parallel.pipeline import Pipeline
from maquette.parallel.pipeline_batch import chunk, signature
from maquette.parallel.pipeline_parts import Wire
from maquette.parallel.pipeline_schedules import SCHEDULES, Schedule, block_counts, schedule_named
from maquette.parallel.pipeline_terms import Terms
from maquette.testing import TinyObjective, TinyTransformer

schedules = some.sampled_from(sorted(SCHEDULES.values(), key=lambda schedule: schedule.word))


def pipeline(word: str = "1f1b", microbatches: int = 0, ranks: int = 2, rank: int = 0) -> Pipeline:
    mesh: Any = SimpleNamespace(size=lambda *axes: ranks, index=lambda *axes: rank, group=lambda *axes: None)
    return Pipeline(mesh, word, microbatches)


@given(schedules, some.integers(2, 8))
def test_every_stage_is_held_once_and_ranks_in_a_row_are_neighbours(schedule: Schedule, ranks: int) -> None:
    held = [schedule.held(rank, ranks) for rank in range(ranks)]
    assert sorted(stage for stages in held for stage in stages) == list(range(schedule.stages(ranks)))
    assert all(len(stages) == schedule.stages_per_rank for stages in held)
    assert all(schedule.owner(stage, ranks) == rank for rank, stages in enumerate(held) for stage in stages)
    assert held[0][0] == 0


@given(some.integers(1, 60), some.integers(1, 20))
def test_blocks_are_spread_evenly(blocks: int, stages: int) -> None:
    counts = block_counts(blocks, stages)
    assert sum(counts) == blocks and len(counts) == stages
    assert max(counts) - min(counts) <= 1
    assert counts[0] == min(counts), "the first stage has the embeddings already"


@given(schedules, some.integers(1, 64), some.integers(2, 8))
def test_what_is_chosen_divides_the_batch_and_suits_the_schedule(schedule: Schedule, rows: int, ranks: int) -> None:
    count = schedule.choose(rows, ranks)
    if count is None:
        assert not any(rows % n == 0 and schedule.takes(n, ranks) for n in range(1, rows + 1))
    else:
        assert rows % count == 0 and schedule.takes(count, ranks)


@given(schedules, some.integers(1, 40), some.integers(2, 6))
def test_torch_accepts_exactly_the_numbers_of_microbatches_that_we_do(
    schedule: Schedule, count: int, ranks: int
) -> None:
    if schedule.fills_rounds and count < ranks:
        return  # torch lets some of these start, though a round would not be full
    assert schedule.takes(count, ranks) == torch_accepts(schedule, count, ranks)


def torch_accepts(schedule: Schedule, count: int, ranks: int) -> bool:
    """Build torch's schedule of a rank for stages that exist on paper alone."""
    from torch.distributed.pipelining import schedules as theirs

    held = [
        SimpleNamespace(
            stage_index=stage,
            num_stages=schedule.stages(ranks),
            group_size=ranks,
            group_rank=0,
            is_first=stage == 0,
            is_last=stage == schedule.stages(ranks) - 1,
            submod=None,
        )
        for stage in schedule.held(0, ranks)
    ]
    build: Any = getattr(theirs, schedule.torch_name)
    try:
        build(held if schedule.stages_per_rank > 1 else held[0], count, loss_fn=lambda *_: None)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("word", SCHEDULES)
def test_parts_make_up_the_model_under_its_own_names(word: str) -> None:
    with torch.device("meta"):
        model = TinyTransformer(depth=7)
    names = sorted(model.state_dict())
    parts = [part for rank in (0, 1) for part in pipeline(word, rank=rank).split(copy.deepcopy(model))]
    assert sorted(name for part in parts for name in part.state_dict()) == names
    assert all(parameter.is_meta for part in parts for parameter in part.parameters())
    assert sum(callable(part.begin) for part in parts) == sum(callable(part.finish) for part in parts) == 1
    assert all(part.blocks() and isinstance(part, TinyTransformer) for part in parts)
    assert sum(len(part.attentions()) for part in parts) == 7


class Tied(TinyTransformer):
    def finish_parts(self) -> list[str]:
        return ["head", "embed"]


class Forgetful(TinyTransformer):
    def begin_parts(self) -> list[str]:
        return ["embed", "positions"]


class Stubborn(TinyTransformer):
    def __init__(self) -> None:
        super().__init__()
        self.order = [list(self.layers)]

    def blocks(self) -> list[nn.Module]:
        return self.order[0]


class Expert(TinyTransformer):
    def expert_layers(self) -> list[nn.Module]:
        return [self.layers[1].mlp]


@pytest.mark.parametrize(
    ("model", "word", "reason"),
    [
        (nn.Linear(2, 2), "1f1b", "Linear has no blocks()"),
        (TinyTransformer(depth=3), "interleaved", "TinyTransformer has 3 blocks; use no pipeline or schedule 1f1b"),
        (TinyTransformer(depth=1), "1f1b", "1 blocks; use no pipeline"),
        (Tied(), "1f1b", "'embed' in begin and in finish"),
        (Expert(), "1f1b", "balance loss of Expert's experts does not pass between stages"),
        (Forgetful(), "1f1b", "does not say who uses 'time.weight'"),
    ],
)
def test_models_that_cannot_be_split_are_refused_with_the_reason(model: nn.Module, word: str, reason: str) -> None:
    assert reason in str(pipeline(word).refuses(model))
    with pytest.raises(MaquetteError, match=r"^parallel: "):
        pipeline(word).split(model)


def test_a_model_whose_blocks_cannot_be_removed_is_refused() -> None:
    with pytest.raises(MaquetteError, match="must list what its containers hold"):
        pipeline().split(Stubborn())


def test_schedules_and_batches_that_do_not_go_together_are_refused_with_what_would() -> None:
    with pytest.raises(MaquetteError, match="did you mean '1f1b'"):
        schedule_named("1f2b")
    assert "microbatches of 4, 5, 6" in str(pipeline("1f1b", 3, ranks=4).refuses(None))
    assert "microbatches of 2, 4" in str(pipeline("1f1b", 3).refuses_rows(8))
    assert "microbatches of 2, 4, 8" in str(pipeline("interleaved", 1).refuses_rows(8))
    assert "at least 4 samples" in str(pipeline("1f1b", ranks=4).refuses_rows(3))
    assert "at least 8 samples" in str(pipeline("dualpipev", ranks=4).refuses_rows(7))
    assert pipeline("zbv").refuses_rows(7) is None
    assert pipeline("1f1b", 4).refuses(TinyTransformer(), TinyObjective(), compiled=True) is None
    assert "train.compile=false" in str(pipeline("zbv").refuses(None, compiled=True))
    assert "SimpleNamespace has no inputs()" in str(pipeline().refuses(None, SimpleNamespace()))


def test_terms_travel_as_the_whole_batch_would_have_reported_them() -> None:
    loss, time = torch.rand(6), torch.rand(6)
    pieces = [
        {"loss": part.mean(), "extra": part.sum(), "per_sample": {"loss": part, "t": t}}
        for part, t in zip(loss.split(2), time.split(2), strict=True)
    ]
    terms = Terms.of(pieces[0])
    values = terms.pack(pieces)
    assert len(values) == terms.size(6)
    back = terms.unpack(values, 6)
    torch.testing.assert_close(back["loss"], loss.mean())
    torch.testing.assert_close(back["extra"], loss.sum() / 3)
    assert torch.equal(back["per_sample"]["loss"], loss) and torch.equal(back["per_sample"]["t"], time)


def test_means_over_different_counts_weigh_as_much_as_they_have() -> None:
    counts = [torch.tensor(3.0), torch.tensor(1.0)]
    pieces = [{"loss": torch.tensor(value), "count": count} for value, count in zip((1.0, 5.0), counts, strict=True)]
    terms = Terms.of(pieces[0])
    assert terms.unpack(terms.pack(pieces), 4) == {"loss": torch.tensor(2.0)}


def test_terms_that_do_not_add_up_are_refused() -> None:
    good = {"loss": torch.tensor(1.0), "extra": torch.tensor(2.0)}
    with pytest.raises(MaquetteError, match="once and"):
        Terms.of(good).pack([good, {"loss": torch.tensor(1.0)}])
    with pytest.raises(MaquetteError, match="'loss' must be a scalar"):
        Terms.of({"loss": torch.zeros(3)})
    with pytest.raises(MaquetteError, match="no 'loss'"):
        Terms.of({"error": torch.tensor(1.0)})


@given(some.integers(1, 4), some.integers(1, 4), some.integers(0, 3))
def test_nested_values_are_cut_along_their_samples(size: int, count: int, tail: int) -> None:
    rows = size * count
    value = {
        "a": (torch.randn(rows, 2), torch.tensor(1.0)),
        "b": [str(i) for i in range(rows)],
        "c": [torch.ones(rows)],
    }
    pieces = [chunk(value, rows, start, start + size) for start in range(0, rows, size)]
    assert torch.equal(torch.cat([piece["a"][0] for piece in pieces]), value["a"][0])
    assert [caption for piece in pieces for caption in piece["b"]] == value["b"]
    assert all(piece["a"][1].ndim == 0 and len(piece["c"][0]) == size for piece in pieces)


def test_batches_of_the_same_shapes_share_what_is_known_of_them() -> None:
    batch = {"id": "a", "x": torch.zeros(3, 2), "names": ["a", "b", "c"]}
    assert rows_of(batch) == 3
    assert signature(batch) == signature({**batch, "x": torch.ones(3, 2), "names": ["c", "b", "a"]})
    assert signature(batch) != signature({**batch, "x": torch.zeros(3, 3)})
    assert signature(batch) != signature({**batch, "x": torch.zeros(3, 2, dtype=torch.int64)})
    with pytest.raises(MaquetteError, match="no tensor of samples"):
        rows_of({"step": torch.tensor(1)})


@pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.int64, torch.uint8, torch.float16, torch.float64])
def test_what_passes_between_stages_arrives_as_it_was(dtype: torch.dtype) -> None:
    high = 2**52 if dtype == torch.int64 else 2**24 if dtype == torch.int32 else 2
    x = torch.randint(0, high, (5, 3)).to(dtype)
    wire = Wire.of(x)
    packed = wire.pack(x)
    assert packed.is_floating_point() and packed.data_ptr() != x.data_ptr()
    back = wire.unpack(packed)
    assert back.dtype == dtype and torch.equal(back, x) and not back.requires_grad
