"""Blocks compile as whole graphs, once for all of a kind, and compute and derive what they did."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from maquette.activation_checkpointing import apply_checkpointing
from maquette.compilation import apply_compile, compile_blocks
from maquette.engine.randomness import drawing
from maquette.errors import MaquetteError
from maquette.parallel.layout import Layout
from maquette.parallel.mesh import Mesh
from maquette.parallel.sharded import ShardedConfig, Zero3
from maquette.precision import Precision
from maquette.precision.fp8 import apply_fp8
from maquette.testing import TinyObjective, TinyTransformer, run_ranks, tiny_batch

BACKEND = "aot_eager"
WIDTH = 16
EVERY = tuple(itertools.product(("fp32", "bf16", "fp8"), ("none", "full", "selective")))
FEW = (("fp32", "none"), ("fp32", "full"), ("fp32", "selective"), ("bf16", "none"), ("fp8", "selective"))
BOUNDS = {"fp32": 1e-5, "bf16": 0.03, "fp8": 0.15}
"""Compilers and FSDP2 round to bfloat16 at other places than autocast, and fp8 quantises what they rounded."""
SHARDED = (("fp32", "full"), ("bf16", "selective"), ("fp8", "none"))


def compiled(word: str, checkpointing: str, backend: str = BACKEND) -> Precision:
    return Precision(word, compile=True, backend=backend, checkpointing=checkpointing, min_width=WIDTH)


def built(precision: Precision, depth: int = 4) -> nn.Module:
    torch._dynamo.reset()
    counters.clear()
    torch.manual_seed(0)
    model = TinyTransformer(width=WIDTH, depth=depth)
    apply_fp8(model, precision)
    apply_checkpointing(model, precision)
    apply_compile(model, precision)
    return model


def gradients(model: nn.Module, precision: Precision, rows: slice = slice(0, 4), *, sharded: bool = False):
    """By name, of the sum over the rows given; and how many graphs were compiled."""
    model.zero_grad()
    batch = {key: value[rows] for key, value in tiny_batch(8).items()}
    with drawing(1, batch["position"].tolist()), precision.context("cpu", sharded=sharded):
        loss = TinyObjective()(model, batch)["loss"]
    (loss * len(batch["x"])).backward()
    found = {name: p.grad.full_tensor() if sharded else p.grad for name, p in model.named_parameters()}
    return {name: gradient.clone() for name, gradient in found.items()}, counters["stats"]["unique_graphs"]


def distance(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    a, b = (torch.cat([gradients[name].flatten().double() for name in expected]) for gradients in (found, expected))
    return ((a - b).norm() / b.norm()).item()


def uncompiled(precision: Precision) -> Precision:
    return Precision(precision.word, min_width=WIDTH)


@pytest.mark.parametrize("case", FEW, ids="-".join)
def test_a_compiled_block_is_one_graph_with_the_gradients_of_the_eager_one(case):
    precision = compiled(*case)
    expected, _ = gradients(built(uncompiled(precision)), precision)
    found, graphs = gradients(built(precision), precision)
    assert graphs == 1
    assert distance(found, expected) < BOUNDS[case[0]]


def test_start_up_does_not_grow_with_depth():
    precision = compiled("fp32", "none")
    counts = {}
    for depth in (2, 8):
        model = built(precision, depth)
        gradients(model, precision)
        with torch.no_grad():
            model(tiny_batch(2)["x"], torch.zeros(2))
        counts[depth] = counters["stats"]["unique_graphs"]
    assert counts[2] == counts[8]


def test_batches_of_many_sizes_need_few_graphs():
    precision = compiled("fp32", "none")
    model = built(precision)
    reference = built(Precision())
    for rows in (2, 3, 5, 7, 8):
        found, graphs = gradients(model, precision, slice(0, rows))
        assert distance(found, gradients(reference, precision, slice(0, rows))[0]) < 1e-6
    assert graphs <= 3, "sizes that vary become symbols"


def test_names_stay_and_a_saved_state_fits_an_uncompiled_model():
    model = built(Precision(compile=True, backend=BACKEND, checkpointing="full"))
    plain = TinyTransformer(width=WIDTH)
    plain.load_state_dict(model.state_dict())
    assert [name for name, _ in model.named_modules()] == [name for name, _ in plain.named_modules()]


class Breaks(nn.Module):
    """A block that prints, which no graph holds."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch._dynamo.graph_break()
        return x + 1


def test_a_block_that_is_no_whole_graph_is_an_error_and_not_slow_in_silence():
    block = Breaks()
    compile_blocks([block], BACKEND)
    with pytest.raises(torch._dynamo.exc.Unsupported):
        block(torch.zeros(2))


def test_an_unknown_backend_is_refused_with_those_that_are_known():
    with pytest.raises(MaquetteError, match=r"'inductr'; known: .*inductor"):
        compile_blocks([nn.Linear(2, 2)], "inductr")


def sharded_gradients() -> list:
    found = []
    for case in SHARDED:
        precision = compiled(*case)
        model = built(precision)
        mesh = Mesh(Layout(shard=2))
        Zero3(ShardedConfig()).apply(model, mesh, precision)
        rows = slice(2 * mesh.rank, 2 * mesh.rank + 2)
        found.append(gradients(model, precision, rows, sharded=True))
    return found


def test_under_fsdp_compiled_blocks_give_one_processs_gradients_by_one_graph():
    ranks = run_ranks(sharded_gradients, 2)
    for case, (found, graphs), _ in zip(SHARDED, *ranks, strict=True):
        word, precision = case[0], compiled(*case)
        expected, _ = gradients(built(uncompiled(precision)), precision)
        assert graphs == 1
        assert distance(found, expected) < BOUNDS[word], case


@pytest.mark.slow
@pytest.mark.parametrize("case", EVERY, ids="-".join)
def test_inductor_gives_the_gradients_of_the_eager_block(case):
    precision = compiled(*case, backend="inductor")
    expected, _ = gradients(built(uncompiled(precision)), precision)
    found, graphs = gradients(built(precision), precision)
    assert graphs == 1
    assert distance(found, expected) < BOUNDS[case[0]]
