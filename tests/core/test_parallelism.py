"""Every parallelism, and products of them, trains as one process does on the same global batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from maquette import plugins
from maquette.config import ParallelConfig
from maquette.errors import MaquetteError
from maquette.parallel.layout import resolve
from maquette.parallel.parallelism import Parallelism
from maquette.precision import Precision
from maquette.testing import check_strategy, run_ranks, tiny_batch
from maquette.testing.strategies import ROWS, assert_trains_alike, tiny_engine, train_tiny


@pytest.fixture(scope="module")
def one() -> dict[str, Any]:
    return train_tiny({"name": "ddp"}, {}, 1)


CHECKED = [
    ("ddp", {}, 2),
    ("zero1", {}, 2),
    ("zero2", {}, 2),
    ("zero3", {}, 2),
    ("fsdp", {}, 4),
    ("hsdp", {"shard": 2}, 4),
    ("tp", {}, 2),
    ("ulysses", {}, 2),
    ("ring", {}, 2),
    ("all_gather", {}, 2),
    ("ddp", {"pipeline": 2, "schedule": "gpipe"}, 2),
    ("ddp", {"pipeline": 2, "schedule": "1f1b"}, 2),
    ("ddp", {"pipeline": 2, "schedule": "interleaved"}, 2),
    ("ddp", {"pipeline": 2, "schedule": "zbv"}, 2),
    ("ddp", {"tensor": 2}, 4),
    ("ddp", {"context": 2, "attention": "ring"}, 4),
    ("fsdp", {"tensor": 2}, 4),
    ("fsdp", {"context": 2}, 4),
    ("fsdp", {"context": 2, "attention": "ring"}, 4),
    ("fsdp", {"pipeline": 2}, 4),
    ("fsdp", {"pipeline": 2, "schedule": "interleaved"}, 4),
    ("zero2", {"pipeline": 2}, 4),
    ("tp", {"pipeline": 2}, 4),
    ("ulysses", {"tensor": 2}, 4),
    ("ulysses", {"pipeline": 2}, 4),
    ("hsdp", {"shard": 1, "data": 2, "context": 2}, 4),
    ("tp", {"shard": 2, "tensor": 2}, 4),
]


@pytest.mark.parametrize(("name", "sizes", "world"), CHECKED, ids=str)
def test_a_strategy_trains_like_one_process(name, sizes, world, one):
    assert_trains_alike(run_ranks(train_tiny, world, {"name": name}, sizes, world), one)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("fsdp", {"tensor": 2, "pipeline": 2}),
        ("fsdp", {"tensor": 2, "context": 2}),
        ("fsdp", {"context": 2, "pipeline": 2, "schedule": "interleaved"}),
        ("hsdp", {"data": 2, "shard": 2, "pipeline": 2}),
        ("ddp", {"tensor": 2, "context": 2, "pipeline": 2, "attention": "all_gather"}),
        ("zero1", {"data": 2, "shard": 2, "tensor": 2}),
    ],
    ids=str,
)
def test_products_of_three_axes_train_like_one_process(name, sizes, one):
    assert_trains_alike(run_ranks(train_tiny, 8, {"name": name}, sizes, 8), one)


COMPILED = {"compile": True, "compile_backend": "aot_eager"}


@pytest.mark.parametrize(("name", "sizes"), [("ddp", {}), ("zero1", {}), ("ddp", {"pipeline": 2})], ids=str)
def test_compiled_blocks_train_alike(name, sizes, one):
    """Sharded, tensor and context parallel ones are tested beside their strategies."""
    assert_trains_alike(run_ranks(train_tiny, 2, {"name": name}, sizes, 2, COMPILED), one)


@pytest.mark.parametrize(
    ("name", "sizes", "world", "chosen"),
    [
        ("ddp", {}, 1, ["DataParallel"]),
        ("tp", {}, 2, ["TensorParallel"]),
        ("tp", {"data": 2}, 4, ["TensorParallel", "DataParallel"]),
        ("tp", {"data": 2, "shard": 2}, 8, ["TensorParallel", "Zero3"]),
        ("ulysses", {}, 2, ["Ulysses", "DataParallel"]),
        ("ulysses", {"shard": 2}, 4, ["Ulysses", "Zero3"]),
        ("zero2", {"data": 2, "context": 2, "attention": "ring"}, 8, ["Ring", "Zero2"]),
        ("hsdp", {"shard": 2, "expert": 2}, 8, ["ExpertParallel", "Hybrid"]),
        ("ep", {"data": 2}, 4, ["ExpertParallel", "DataParallel"]),
    ],
)
def test_every_shared_axis_has_one_strategy(name, sizes, world, chosen):
    own = plugins.build("strategies", {"name": name})
    parallelism = Parallelism(ParallelConfig(**sizes), own, Precision(), backend="fake", world=world)
    parallelism.mesh.stop()
    assert [type(strategy).__name__ for strategy in parallelism.strategies] == chosen


def test_a_copy_lies_within_a_machine_unless_sizes_are_given(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "16")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    hybrid = plugins.build("strategies", {"name": "hsdp"})
    layouts = [{}, {"tensor": 2}, {"shard": 2}, {"data": 4, "shard": 4}]
    found = [str(resolve(hybrid.claimed(ParallelConfig(**sizes)), "data", 16)) for sizes in layouts]
    assert found == ["data 2 x shard 8", "data 2 x shard 4 x tensor 2", "data 8 x shard 2", "data 4 x shard 4"]


def test_parameters_may_live_in_the_hosts_memory(one):
    assert_trains_alike(run_ranks(train_tiny, 2, {"name": "fsdp", "cpu_offload": True}, {}, 2), one)


def test_a_strangers_strategy_is_checked_by_the_same_door_and_a_wrong_one_is_found():
    toy = str(Path(__file__).with_name("toy_plugin.py"))
    check_strategy({"name": "muted", "factor": 1.0}, {}, 1, [toy])
    with pytest.raises(AssertionError, match="norms on rank 0"):
        check_strategy({"name": "muted", "factor": 0.5}, {}, 1, [toy])


class CountReductions(TorchDispatchMode):
    """Counts the collectives that reduce gradients; scalars (norms, flags) do not count."""

    count = 0

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [leaf for leaf in pytree.tree_leaves(args) if isinstance(leaf, torch.Tensor)]
        name = str(op)
        if ("allreduce" in name or "reduce_scatter" in name) and max(tensor.numel() for tensor in tensors) > 1:
            self.count += 1
        return op(*args, **(kwargs or {}))


def reductions(strategy: str, accumulate: int) -> int:
    """How many collectives reduce gradients in one optimizer step."""
    engine = tiny_engine({"name": strategy}, {}, 2, {"accumulate": accumulate, "clip": "none"})
    with CountReductions() as counted:
        for micro in range(accumulate):
            engine.run(tiny_batch(ROWS, first=micro * ROWS))
    return counted.count


@pytest.mark.parametrize("strategy", ["ddp", "zero1", "fsdp"])
def test_accumulating_costs_no_extra_collectives(strategy):
    once, four = (run_ranks(reductions, 2, strategy, accumulate)[0] for accumulate in (1, 4))
    assert four == once
    assert once == (1 if strategy == "ddp" else 5), "one bucket, or one group for each block and the rest"


def test_zero2_reduces_every_micro_batch():
    once, four = (run_ranks(reductions, 2, "zero2", accumulate)[0] for accumulate in (1, 4))
    assert four == 4 * once


@pytest.mark.parametrize(
    ("sizes", "world", "message"),
    [
        (
            {"tensor": 3},
            4,
            "tensor=3 needs a multiple of 3 processes, but 4 are running; launch 3, 6, 9, 12 .* divides 4: 1, 2, 4",
        ),
        (
            {"data": 2, "shard": 3},
            4,
            "data=2, shard=3 makes 6 processes, but 4 are running; launch 6, or .* product is 4",
        ),
        ({"pipeline": 2}, 1, "pipeline=2 needs a multiple of 2 processes, but 1 is running; launch 2, 4"),
    ],
)
def test_an_impossible_product_is_refused_with_sizes_that_would_work(sizes, world, message):
    with pytest.raises(MaquetteError, match=message):
        resolve(ParallelConfig(**sizes), "data", world)


def test_the_table_in_the_documentation_is_what_was_checked():
    page = (Path(__file__).parents[2] / "docs" / "parallelism.md").read_text()
    table = page.split("<!-- checked -->")[1].split("<!-- /checked -->")[0].strip().splitlines()[2:]
    rows = [
        f"| `{name}` | {', '.join(f'{k}={v}' for k, v in sizes.items()) or '-'} | {world} |"
        for name, sizes, world in CHECKED
    ]
    assert table == rows
