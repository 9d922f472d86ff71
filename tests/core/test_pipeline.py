"""Pipelines against one process on the same batches: loss, every gradient and their norm, for every schedule."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from maquette.engine import randomness
from maquette.errors import MaquetteError
from maquette.parallel.layout import Layout
from maquette.parallel.mesh import Mesh
from maquette.parallel.pipeline import Pipeline
from maquette.parallel.pipeline_schedules import SCHEDULES
from maquette.testing import TinyObjective, TinyTransformer, run_ranks, tiny_batch

ROWS, STEPS, ACCUMULATE = 8, 2, 2
Result = tuple[list[float], list[dict[str, Tensor]]]


def drawing(batch: Mapping[str, Any]) -> Any:
    return partial(randomness.drawing, 0, batch["position"].tolist())


def batch_of(index: int, share: int = 0, shares: int = 1, tokens: int = 8) -> dict[str, Tensor]:
    rows = ROWS // shares
    return tiny_batch(rows, tokens, first=index * ROWS + share * rows)


def tiny(depth: int = 4) -> TinyTransformer:
    torch.manual_seed(0)
    return TinyTransformer(depth=depth)


def whole(gradient: Any) -> Tensor:
    return (gradient.full_tensor() if hasattr(gradient, "full_tensor") else gradient).clone()


def one_process(depth: int = 4) -> Result:
    model, objective, losses, gradients = tiny(depth), TinyObjective(), [], []
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(STEPS):
        for index in range(step * ACCUMULATE, (step + 1) * ACCUMULATE):
            batch = batch_of(index)
            with drawing(batch)():
                loss = objective(model, batch)["loss"]
            (loss / ACCUMULATE).backward()
            losses.append(loss.item())
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
        optimizer.step()
        optimizer.zero_grad()
    return losses, gradients


def shard(part: nn.Module, mesh: Mesh, policy: MixedPrecisionPolicy | None = None) -> None:
    named = {"mesh": mesh.device_mesh("sharding"), "mp_policy": policy or MixedPrecisionPolicy()}
    for block in part.blocks():
        fully_shard(block, **named)
    fully_shard(part, **named, reshard_after_forward=False)
    for module in part.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)


def train(mesh: Mesh, schedule: str, microbatches: int = 0, depth: int = 4, compiled: str = "") -> Result:
    """This rank's part of what ``one_process`` does."""
    pipeline, objective, losses, gradients = Pipeline(mesh, schedule, microbatches), TinyObjective(), [], []
    parts = pipeline.split(tiny(depth))
    for block in (block for part in parts for block in part.blocks() if compiled):
        block.compile(backend=compiled, fullgraph=True)
    if mesh.size("shard") > 1:
        for part in parts:
            shard(part, mesh)
    optimizer = torch.optim.SGD([p for part in parts for p in part.parameters()], lr=0.1)
    for step in range(STEPS):
        for index in range(step * ACCUMULATE, (step + 1) * ACCUMULATE):
            batch = batch_of(index, mesh.data_rank, mesh.data_world)
            last, share = index % ACCUMULATE == ACCUMULATE - 1, 1 / (ACCUMULATE * mesh.data_world)
            terms = pipeline.step(parts, objective, batch, share, drawing(batch), last=last)
            losses.append(float(mesh.sum(terms["loss"].clone(), "shard") / mesh.data_world))
        gradients.append({name: whole(p.grad) for part in parts for name, p in part.named_parameters()})
        optimizer.step()
        optimizer.zero_grad()
    return losses, gradients


def train_each(layout: Layout, cases: list[tuple[str, int, int]]) -> list[Result]:
    mesh = Mesh(layout)
    return [train(mesh, *case) for case in cases]


def assert_same(results: list[Result], expected: Result, stages: int) -> None:
    """Every rank reports the losses; the ranks of a pipeline hold every parameter once."""
    for losses, _ in results:
        assert losses == pytest.approx(expected[0], rel=1e-5)
    for step, gradients in enumerate(expected[1]):
        held = [g[step] for _, g in results]
        names = [name for part in held[:: len(results) // stages] for name in part]
        assert sorted(names) == sorted(gradients), "the parts do not make up the model"
        together = {name: gradient for part in held for name, gradient in part.items()}
        for name, gradient in gradients.items():
            torch.testing.assert_close(together[name], gradient, rtol=1e-5, atol=1e-6)
        norms = [torch.stack([g.norm() for g in side.values()]).norm().item() for side in (together, gradients)]
        assert norms[0] == pytest.approx(norms[1], rel=1e-5)


def test_every_schedule_equals_one_process() -> None:
    cases = [(word, 0, 4) for word in SCHEDULES] + [("1f1b", 2, 5), ("zbv", 1, 4), ("gpipe", 8, 4)]
    results = run_ranks(train_each, 2, Layout(pipeline=2), cases)
    expected = {depth: one_process(depth) for depth in (4, 5)}
    for case, *each in zip(cases, *results, strict=True):
        assert_same(each, expected[case[2]], 2)


def test_every_schedule_equals_one_process_with_fsdp_inside() -> None:
    cases = [(word, 0, 4) for word in SCHEDULES]
    results = run_ranks(train_each, 4, Layout(pipeline=2, shard=2), cases)
    expected = one_process()
    for _, *each in zip(cases, *results, strict=True):
        assert_same(each, expected, 2)


def test_four_stages_equal_one_process() -> None:
    cases = [("1f1b", 8, 6), ("1f1b", 4, 6)]
    for _, *each in zip(cases, *run_ranks(train_each, 4, Layout(pipeline=4), cases), strict=True):
        assert_same(each, one_process(6), 4)


@pytest.mark.slow
def test_eight_stages_equal_one_process() -> None:
    cases = [("interleaved", 4, 9), ("zbv", 8, 9), ("dualpipev", 8, 9), ("interleaved_zero_bubble", 8, 9)]
    for _, *each in zip(cases, *run_ranks(train_each, 4, Layout(pipeline=4), cases), strict=True):
        assert_same(each, one_process(9), 4)


# Batches whose shapes change, also between the shares of a batch, while gradients accumulate


TOKENS = [[8, 6], [6, 6], [8, 6], [5, 8]]
"""Tokens of each accumulated batch, for either half."""


def changing(schedule: str) -> dict[str, Tensor]:
    mesh = Mesh(Layout(pipeline=2, shard=2))
    pipeline = Pipeline(mesh, schedule)
    parts = pipeline.split(tiny())
    for part in parts:
        shard(part, mesh)
    for index, tokens in enumerate(TOKENS):
        batch = batch_of(index, mesh.data_rank, 2, tokens[mesh.data_rank])
        last = index == len(TOKENS) - 1
        pipeline.step(parts, TinyObjective(), batch, 1 / 2 / len(TOKENS), drawing(batch), last=last)
        if last:
            return {name: whole(p.grad) for part in parts for name, p in part.named_parameters()}
        pipeline.evaluate(parts, TinyObjective(), tiny_batch(3, 7), drawing(tiny_batch(3)))
    raise AssertionError


@pytest.mark.parametrize("schedule", ["1f1b", "zbv"])
def test_shapes_may_change_from_batch_to_batch(schedule: str) -> None:
    model = tiny()
    for index, tokens in enumerate(TOKENS):
        for half in (0, 1):
            batch = batch_of(index, half, 2, tokens[half])
            with drawing(batch)():
                (TinyObjective()(model, batch)["loss"] / 2 / len(TOKENS)).backward()
    together = {name: g for part in run_ranks(changing, 4, schedule) for name, g in part.items()}
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(together[name], parameter.grad, rtol=1e-5, atol=1e-6)


# A model with everything that may pass between stages: masks, whole numbers, frozen and learned tensors, nested inputs


class MixedBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.value = nn.Linear(width, width)

    def forward(self, h: Tensor, tokens: Tensor, mask: Tensor, ids: Tensor, scale: Tensor) -> Tensor:
        assert mask.dtype == torch.bool and ids.dtype == torch.int64 and not scale.requires_grad
        weight = torch.where(mask, 0.0, -1e9)[:, None] + h @ tokens.transpose(1, 2)
        h = h + weight.softmax(-1) @ self.value(tokens) * scale
        return h + checkpoint(self.linear, torch.sin(h + ids[:, None, None] % 7), use_reentrant=False)


class Mixed(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embed = nn.Linear(3, width)
        self.embed.weight.requires_grad_(False)
        self.table = nn.Embedding(11, width)
        self.offset = nn.Parameter(torch.randn(width))
        self.pair = nn.ModuleDict({"a": MixedBlock(width), "b": MixedBlock(width)})
        self.rest = nn.ModuleList(MixedBlock(width) for _ in range(3))
        self.head = nn.Linear(width, 3)
        self.register_buffer("scale", torch.rand(width))

    def begin(self, x: Tensor, condition: Mapping[str, Any]) -> tuple[Tensor, ...]:
        assert len(condition["captions"]) == len(x), "lists are cut as tensors are"
        tokens, mask = self.table(condition["ids"]), condition["ids"] > 0
        return self.embed(x) + self.offset, tokens, mask, condition["ids"].sum(1) + 2**40, self.scale

    def finish(self, h: Tensor, tokens: Tensor, mask: Tensor, ids: Tensor, scale: Tensor) -> dict[str, Any]:
        return {"out": self.head(h), "sums": [h.sum((1, 2)), tokens.sum((1, 2))]}

    def forward(self, *inputs: Any) -> dict[str, Any]:
        h, *context = self.begin(*inputs)
        for block in self.blocks():
            h = block(h, *context)
        return self.finish(h, *context)

    def blocks(self) -> list[nn.Module]:
        return [*self.pair.values(), *self.rest]

    def begin_parts(self) -> list[str]:
        return ["embed", "table", "offset", "scale"]

    def finish_parts(self) -> list[str]:
        return ["head"]


class MixedObjective:
    def inputs(self, model: Any, batch: Mapping[str, Any]) -> tuple[Any, ...]:
        assert model.table is not None
        return batch["x"] + randomness.normal("noise", batch["x"].shape), {
            "ids": batch["ids"],
            "captions": batch["captions"],
        }

    def target(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        return {"x": batch["x"], "weight": batch["ids"][:, 0].float() + 0.1}

    def count(self, target: Mapping[str, Tensor]) -> Tensor:
        return target["weight"].sum()

    def loss(self, output: Mapping[str, Any], target: Mapping[str, Tensor]) -> dict[str, Any]:
        each = (output["out"] - target["x"]).square().mean((1, 2)) + 1e-3 * sum(output["sums"])
        count = self.count(target)
        mean = (each * target["weight"]).sum() / count
        return {"loss": mean, "extra": (output["sums"][0] * target["weight"]).sum() / count, "count": count}


def mixed_batch(rows: int = 8) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    return {
        "x": torch.randn(rows, 5, 3, generator=generator),
        "ids": torch.randint(0, 11, (rows, 4), generator=generator) * torch.tensor([1, 1, 1, 0]),
        "captions": [f"number {i}" for i in range(rows)],
        "position": torch.arange(rows),
    }


def mixed() -> Mixed:
    torch.manual_seed(1)
    return Mixed()


def part_of(batch: Mapping[str, Any], start: int, stop: int) -> dict[str, Any]:
    return {name: value[start:stop] for name, value in batch.items()}


def train_mixed() -> list[Any]:
    results, mesh = [], Mesh(Layout(pipeline=2, data=2))
    batch = part_of(mixed_batch(), 4 * mesh.data_rank, 4 * mesh.data_rank + 4)
    for word in SCHEDULES:
        pipeline = Pipeline(mesh, word)
        parts = pipeline.split(mixed())
        terms = pipeline.step(parts, MixedObjective(), batch, 0.5, drawing(batch))
        gradients = {name: p.grad for part in parts for name, p in part.named_parameters() if p.grad is not None}
        for gradient in gradients.values():
            mesh.sum(gradient, "data")
        states = [name for part in parts for name in part.state_dict()]
        odd = mixed_batch(7)
        results.append((terms, gradients, states, pipeline.evaluate(parts, MixedObjective(), odd, drawing(odd))))
    return results


def mixed_terms(model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Tensor]:
    objective = MixedObjective()
    with drawing(batch)():
        return objective.loss(model(*objective.inputs(model, batch)), objective.target(batch))


def test_masks_numbers_nested_values_and_uneven_counts_pass_between_stages() -> None:
    model, batch = mixed(), mixed_batch()
    halves = [part_of(batch, 0, 4), part_of(batch, 4, 8)]
    expected = [
        {name: value.item() for name, value in mixed_terms(model, rows).items() if name != "count"}
        for rows in (*halves, mixed_batch(7))
    ]
    mixed_terms(model, batch)["loss"].backward()
    for ranks in zip(*run_ranks(train_mixed, 4), strict=True):
        for rank, (terms, _, _, evaluated) in enumerate(ranks):
            assert {name: value.item() for name, value in terms.items()} == pytest.approx(expected[rank % 2], rel=1e-5)
            assert {name: value.item() for name, value in evaluated.items()} == pytest.approx(expected[2], rel=1e-5)
        first, second = ranks[0], ranks[2]
        assert sorted(first[2] + second[2]) == sorted(model.state_dict())
        together = {**first[1], **second[1]}
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(together.get(name), parameter.grad, rtol=1e-5, atol=1e-6)


# What happens within a step


class Reductions(TorchDispatchMode):
    count = 0

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += "reduce_scatter" in str(op)
        return op(*args, **(kwargs or {}))


def odds() -> dict[str, Any]:
    mesh = Mesh(Layout(pipeline=2, shard=2))
    seen: dict[str, Any] = {"reductions": {}}
    for word in ("1f1b", "interleaved", "zbv"):
        pipeline = Pipeline(mesh, word)
        parts = pipeline.split(tiny())
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
        for part in parts:
            shard(part, mesh, policy)
        batch = batch_of(0, mesh.data_rank, 2)
        counts = []
        for last in (False, False, True):
            with Reductions() as reductions:
                terms = pipeline.step(parts, TinyObjective(), batch, 0.5, drawing(batch), last=last)
            counts.append(reductions.count)
        groups = sum(len(part.blocks()) + (callable(part.begin) or callable(part.finish)) for part in parts)
        seen["reductions"][word] = (counts, groups)
        seen[word] = (terms["loss"].item(), terms["per_sample"])
        assert all(p.grad.dtype == torch.float32 for part in parts for p in part.parameters())
    return seen


def test_fsdp_reduces_once_an_optimizer_step_and_computes_in_bf16() -> None:
    results = run_ranks(odds, 4)
    for rank, seen in enumerate(results):
        for counts, groups in seen["reductions"].values():
            assert counts == [0, 0, groups]
        batch = batch_of(0, rank % 2, 2)
        with drawing(batch)():
            expected = TinyObjective()(tiny(), batch)
        for word in ("1f1b", "interleaved", "zbv"):
            loss, per_sample = seen[word]
            assert loss != expected["loss"].item()
            assert loss == pytest.approx(expected["loss"].item(), rel=0.02)
            torch.testing.assert_close(per_sample["t"], expected["per_sample"]["t"])
            torch.testing.assert_close(per_sample["loss"], expected["per_sample"]["loss"], rtol=0.05, atol=0.01)


def under_autocast() -> float:
    mesh = Mesh(Layout(pipeline=2))
    pipeline = Pipeline(mesh, "1f1b", context=partial(torch.autocast, "cpu", torch.bfloat16))
    parts, batch = pipeline.split(tiny()), batch_of(0)
    return pipeline.step(parts, TinyObjective(), batch, 1.0, drawing(batch))["loss"].item()


def test_the_context_covers_every_stage_and_the_loss() -> None:
    batch = batch_of(0)
    with drawing(batch)(), torch.autocast("cpu", torch.bfloat16):
        expected = TinyObjective()(tiny(), batch)["loss"].item()
    assert run_ranks(under_autocast, 2) == pytest.approx([expected] * 2, rel=1e-4)


def indivisible() -> str:
    pipeline = Pipeline(Mesh(Layout(pipeline=2)), "1f1b", 4)
    with pytest.raises(MaquetteError) as refused:
        pipeline.step(pipeline.split(tiny()), TinyObjective(), tiny_batch(6), 1.0)
    return str(refused.value)


def test_a_batch_that_does_not_divide_is_refused_on_every_rank() -> None:
    for reason in run_ranks(indivisible, 2):
        assert "6 samples" in reason and "parallel.microbatches of 2, 3, 6" in reason


@pytest.mark.slow
def test_compiled_blocks_equal_one_process() -> None:
    results = run_ranks(train_compiled, 2)
    for _, *each in zip(range(2), *results, strict=True):
        assert_same(each, one_process(), 2)


def train_compiled() -> list[Result]:
    mesh = Mesh(Layout(pipeline=2))
    return [train(mesh, word, compiled="aot_eager") for word in ("1f1b", "interleaved")]
