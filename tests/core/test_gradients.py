"""Gradient norms and clipping over mixes of plain tensors and DTensors, and the adaptive limit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from maquette.engine.gradients import AdaptiveClip, clip, group_norms, module_of, total_norm
from maquette.parallel.layout import Layout
from maquette.parallel.mesh import Mesh
from maquette.testing import run_ranks

SHAPES = {
    "embed.weight": (5, 4),
    "layers.0.up": (7, 6),
    "layers.0.experts": (4, 3, 5),
    "layers.0.bias": (3,),
    "layers.1.up": (7, 6),
    "layers.1.scale": (),
    "layers.1.unused": (9,),
    "head.weight": (1, 3),
}
STAGES = ({"embed", "layers.0"}, {"layers.1", "head"})


def parameters(only: set[str] | None = None) -> dict[str, nn.Parameter]:
    """Named parameters with gradients; one has none."""
    found = {}
    for index, (name, shape) in enumerate(SHAPES.items()):
        if only is None or module_of(name) in only:
            generator = torch.Generator().manual_seed(index)
            found[name] = nn.Parameter(torch.zeros(shape))
            if "unused" not in name:
                found[name].grad = torch.randn(shape, generator=generator) * 10 ** (index % 3)
    return found


def sharded(named: dict[str, nn.Parameter], layouts: dict[str, Any]) -> dict[str, nn.Parameter]:
    """DTensors where a layout is given."""
    found = {}
    for name, parameter in named.items():
        layout = next((value for key, value in layouts.items() if key in name), None)
        if layout is None:
            found[name] = parameter
            continue
        found[name] = nn.Parameter(distribute_tensor(parameter.detach(), *layout, src_data_rank=None))
        if parameter.grad is not None:
            found[name].grad = distribute_tensor(parameter.grad, *layout, src_data_rank=None)
    return found


def whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def measured(named: dict[str, nn.Parameter], mesh: Mesh | None, limit: float) -> dict[str, Any]:
    """Everything that must not depend on the layout, and how many all-reduces the norm took."""
    calls = []
    original = distributed.all_reduce
    distributed.all_reduce = lambda *args, **words: calls.append(1) or original(*args, **words)
    try:
        norm = total_norm(named.values(), mesh)
    finally:
        distributed.all_reduce = original
    groups = group_norms(named, mesh)
    clip(named.values(), limit, norm)
    gradients = {name: whole(p.grad) for name, p in named.items() if p.grad is not None}
    return {"norm": norm, "groups": groups, "gradients": gradients, "calls": len(calls)}


def mixes() -> list[dict[str, Any]]:
    """Layouts of four processes."""
    mesh = Mesh(Layout(data=2, shard=2))
    dense = mesh.device_mesh("data", "sharding")
    hybrid = {"up": (dense, (Replicate(), Shard(0))), "unused": (dense["sharding"], (Shard(0),))}
    expert = Mesh(Layout(shard=2, expert=2))
    sharding, split = expert.device_mesh("sharding"), expert.expert_mesh("sharding", "expert")
    experts = {"experts": (split, (Shard(0), Shard(0))), "up": (sharding, (Shard(0),)), "head": (sharding, (Shard(0),))}
    tensor = Mesh(Layout(shard=2, tensor=2))
    both, alone = tensor.device_mesh("sharding", "tensor"), tensor.device_mesh("tensor")
    columns = {
        "layers.0.up": (both, (Shard(0), Shard(1))),
        "layers.1.up": (both, (Shard(0), Shard(0))),
        "embed": (tensor.device_mesh("sharding"), (Shard(0),)),
        "experts": (alone, (Shard(2),)),
    }
    staged = Mesh(Layout(pipeline=2, shard=2))
    stage = parameters(STAGES[staged.index("pipeline")])
    stages = {"up": (staged.device_mesh("sharding"), (Shard(0),))}
    return [
        measured(sharded(parameters(), hybrid), mesh, 3.0),
        measured(sharded(parameters(), experts), expert, 3.0),
        measured(sharded(parameters(), columns), tensor, 3.0),
        measured(sharded(stage, stages), staged, 3.0),
    ]


def test_norms_and_clipping_agree_with_one_process_in_every_mix():
    named = parameters()
    expected = torch.cat([p.grad.double().flatten() for p in named.values() if p.grad is not None]).norm()
    alone = measured(named, None, 3.0)
    assert alone["norm"].item() == pytest.approx(expected.item(), rel=1e-6)
    assert list(alone["groups"]) == ["embed", "layers.0", "layers.1", "head"]
    # Sets of groups: one; two (dense; expert mesh of two dimensions, one each); three; one and the pipeline.
    most = [1, 3, 4, 2]
    for rank, found in enumerate(run_ranks(mixes, 4)):
        for case, (mix, calls) in enumerate(zip(found, most, strict=True)):
            where = f"mix {case}, rank {rank}"
            torch.testing.assert_close(mix["norm"], alone["norm"], rtol=1e-6, atol=0, msg=where)
            assert mix["groups"].keys() == alone["groups"].keys()
            for label, norm in alone["groups"].items():
                torch.testing.assert_close(mix["groups"][label], norm, rtol=1e-6, atol=0, msg=f"{where}, {label}")
            for name, gradient in mix["gradients"].items():
                torch.testing.assert_close(gradient, alone["gradients"][name], rtol=1e-5, atol=0, msg=where)
            assert mix["calls"] <= calls, where
    torch.testing.assert_close(total_norm(named.values()).item(), 3.0, rtol=1e-5, atol=0)


def test_clipping_is_torchs_and_leaves_short_gradients_alone():
    ours, theirs = parameters(), parameters()
    norm = nn.utils.clip_grad_norm_(theirs.values(), 2.0)
    clip(ours.values(), 2.0, total_norm(ours.values()))
    for name, parameter in ours.items():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=1e-6, atol=0)
    untouched = parameters()
    clip(untouched.values(), float(norm) * 1.01, total_norm(untouched.values()))
    for name, parameter in parameters().items():
        assert parameter.grad is None or torch.equal(untouched[name].grad, parameter.grad)


def test_bf16_gradients_are_measured_in_fp32():
    parameter = nn.Parameter(torch.zeros(1 << 16, dtype=torch.bfloat16))
    parameter.grad = torch.full_like(parameter, 0.5)
    norm = total_norm([parameter])
    assert norm.dtype == torch.float32 and norm.item() == pytest.approx(128.0, rel=1e-6)


def test_a_gradient_that_is_not_finite_shows_in_the_norm():
    named = parameters()
    named["head.weight"].grad[0, 1] = float("nan")
    assert not torch.isfinite(total_norm(named.values()))
    norms = group_norms(named)
    assert [label for label, norm in norms.items() if not torch.isfinite(norm)] == ["head"]


def test_without_gradients_the_norm_is_zero():
    assert total_norm([]).item() == 0.0
    assert total_norm([nn.Parameter(torch.ones(3))]).item() == 0.0


@pytest.mark.parametrize(
    ("name", "module"),
    [("layers.3.mlp.up.weight", "layers.3"), ("head.weight", "head"), ("a.b.2.c", "a.b.2"), ("position", "position")],
)
def test_blocks_are_told_apart(name, module):
    assert module_of(name) == module


# --- adaptive clipping


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=60), st.integers(1, 40), st.floats(0, 1))
def test_the_limit_is_the_percentile_of_the_last_norms(norms, window, quantile):
    adaptive = AdaptiveClip(7.0, quantile=quantile, window=window, warmup=1)
    for norm in norms:
        adaptive.observe(norm)
    assert adaptive.limit() == pytest.approx(np.quantile(norms[-window:], quantile), rel=1e-9, abs=1e-9)
    resumed = AdaptiveClip(7.0, quantile=quantile, window=window, warmup=1)
    resumed.load_state(adaptive.state())
    assert resumed.limit() == adaptive.limit()


def test_a_fixed_limit_holds_until_enough_norms_are_known():
    adaptive = AdaptiveClip(1.0, warmup=10)
    for _ in range(9):
        adaptive.observe(5.0)
        assert adaptive.limit() == 1.0
    adaptive.observe(5.0)
    assert adaptive.limit() == 5.0
    assert AdaptiveClip(0.0).limit() == float("inf")


def test_an_outlier_is_cut_and_does_not_move_the_limit():
    adaptive = AdaptiveClip(1.0)
    for index in range(1000):
        adaptive.observe(1.0 + 0.001 * (index % 10))
    before = adaptive.limit()
    for _ in range(20):
        adaptive.observe(1000.0)
    assert before <= adaptive.limit() < 1.01
