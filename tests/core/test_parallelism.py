"""Every parallelism, and products of them, trains as one process does on the same global batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from maquette import plugins
from maquette.compilation import apply_compile
from maquette.config import ParallelConfig, TrainConfig
from maquette.engine.step_engine import StepEngine
from maquette.errors import MaquetteError
from maquette.parallel.layout import resolve
from maquette.parallel.parallelism import Parallelism
from maquette.precision import Precision
from maquette.testing import TinyObjective, TinyTransformer, run_ranks, tiny_batch

ROWS, STEPS, ACCUMULATE = 8, 3, 2


def build_tiny() -> TinyTransformer:
    torch.manual_seed(3)
    return TinyTransformer(depth=4)


def engine_for(strategy: dict[str, Any], sizes: dict[str, Any], world: int, **train: Any) -> StepEngine:
    options = {"steps": STEPS, "accumulate": ACCUMULATE, "clip_norm": 0.5, "ema_decays": [0.9], **train}
    settings = TrainConfig(**options)
    parallelism = Parallelism(
        ParallelConfig(**sizes), plugins.build("strategies", strategy), Precision.of(settings), world=world
    )
    parts = parallelism.build(build_tiny, lambda part: apply_compile(part, parallelism.precision), TinyObjective())
    optimizer = plugins.build("optimizers", {"name": "adamw", "learning_rate": 1e-2, "warmup_steps": 0})
    return StepEngine(parts, TinyObjective(), settings, optimizer, seed=5, parallelism=parallelism)


def train(strategy: dict[str, Any], sizes: dict[str, Any], world: int, **options: Any) -> dict[str, Any]:
    """Losses, gradient norms and every clipped gradient of each step."""
    engine = engine_for(strategy, sizes, world, **options)
    share, own = engine.parallelism.rank, ROWS // engine.parallelism.world
    losses, norms, gradients = [], [], []

    def update() -> None:
        gradients.append({name: whole(p.grad) for name, p in engine.named.items()})
        engine.optimizer.step()

    for micro in range(STEPS * ACCUMULATE):
        batch = tiny_batch(ROWS, first=micro * ROWS)
        batch = {key: value[share * own : (share + 1) * own] for key, value in batch.items()}
        metrics = engine.run(batch, update)
        losses.append(engine.average_over_samples({"loss": metrics["loss"]})["loss"])
        if "grad_norm" in metrics:
            norms.append(float(metrics["grad_norm"]))
    held = engine.validate(tiny_batch(4, first=1000), 0)
    return {"losses": losses, "norms": norms, "gradients": gradients, "validation": float(held["loss"])}


def whole(tensor: Any) -> torch.Tensor:
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).detach().clone()


@pytest.fixture(scope="module")
def one() -> dict[str, Any]:
    return train({"name": "ddp"}, {}, 1)


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
]


@pytest.mark.parametrize(("name", "sizes", "world"), CHECKED, ids=str)
def test_a_strategy_trains_like_one_process(name, sizes, world, one):
    for rank, result in enumerate(run_ranks(train, world, {"name": name}, sizes, world)):
        assert result["losses"] == pytest.approx(one["losses"], rel=1e-5), f"losses on rank {rank}"
        assert result["norms"] == pytest.approx(one["norms"], rel=1e-5), f"gradient norms on rank {rank}"
        assert result["validation"] == pytest.approx(one["validation"], rel=1e-4)
        for mine, theirs in zip(result["gradients"], one["gradients"], strict=True):
            for key, gradient in mine.items():
                torch.testing.assert_close(
                    gradient, theirs[key], rtol=1e-5, atol=2e-6, msg=lambda m, k=key: f"{k}: {m}"
                )


class CountReductions(TorchDispatchMode):
    """Counts the collectives that reduce gradients; scalars (norms, flags) do not count."""

    count = 0

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [leaf for leaf in pytree.tree_leaves(args) if isinstance(leaf, torch.Tensor)]
        name = str(op)
        if ("allreduce" in name or "reduce_scatter" in name) and max(tensor.numel() for tensor in tensors) > 1:
            self.count += 1
        return op(*args, **(kwargs or {}))


def train_compiled(strategy: dict[str, Any], sizes: dict[str, Any], world: int) -> dict[str, Any]:
    return train(strategy, sizes, world, compile=True, compile_backend="aot_eager")


@pytest.mark.parametrize(("name", "sizes"), [("ddp", {}), ("zero1", {}), ("ddp", {"pipeline": 2})], ids=str)
def test_compiled_blocks_train_alike(name, sizes, one):
    """Sharded, tensor and context parallel ones are tested beside their strategies."""
    result = run_ranks(train_compiled, 2, {"name": name}, sizes, 2)[1]
    assert result["losses"] == pytest.approx(one["losses"], rel=1e-5)
    assert result["norms"] == pytest.approx(one["norms"], rel=1e-5)


def test_parameters_may_live_in_the_hosts_memory(one):
    result = run_ranks(train, 2, {"name": "fsdp", "cpu_offload": True}, {}, 2)[0]
    assert result["losses"] == pytest.approx(one["losses"], rel=1e-5)


def reductions(strategy: str, accumulate: int) -> int:
    """How many collectives reduce gradients in one optimizer step."""
    engine = engine_for({"name": strategy}, {}, 2, accumulate=accumulate, clip="none")
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
