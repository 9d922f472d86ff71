"""Trains the tiny transformer under a layout, so that tests can compare what comes out with one process."""

from __future__ import annotations

import torch
from torch import nn
from torch._dynamo.utils import counters
from torch.distributed.tensor import DTensor

from maquette.compilation import compile_blocks
from maquette.engine.randomness import drawing
from maquette.parallel.context import AllGather, Ring, Ulysses
from maquette.parallel.layout import Layout
from maquette.parallel.mesh import Mesh
from maquette.parallel.sharded import ShardedConfig, Zero3
from maquette.parallel.tensor import TensorParallel
from maquette.parallel.tokens import Peers
from maquette.precision import Precision
from maquette.testing import TinyObjective, TinyTransformer, run_ranks, tiny_batch

STRATEGIES = {"tp": TensorParallel, "ulysses": Ulysses, "all_gather": AllGather, "ring": Ring}
ROWS = 4
__all__ = ["Peers", "check", "run", "tiny"]
SETTING = {"steps": 2, "accumulate": 1, "word": "fp32", "backend": None, "heads": 4, "tokens": 8, "depth": 4}


Run = tuple[dict[str, int], tuple[str, ...], dict]
"""Layout, names of strategies, and what differs from `SETTING`."""


def run(layout: dict[str, int], *names: str, **setting) -> Run:
    """One training to be done."""
    return layout, names, setting


def train_all(runs: list[Run]) -> list[list[dict]]:
    """Trainings one after the other in the same processes: loss, norm and all gradients of every step of each."""
    return [_train(Mesh(Layout(**layout)), names, **{**SETTING, **setting}) for layout, names, setting in runs]


def check(runs: list[Run], world: int, rtol: float = 1e-5) -> list[list[list[dict]]]:
    """Every training gives in every process what one process gives for the same batches, without compiling."""
    results = run_ranks(train_all, world, runs, timeout=400)
    for i, (layout, names, setting) in enumerate(runs):
        expected = train_all([run({}, **{**setting, "backend": None})])[0]
        try:
            assert_same([rank[i] for rank in results], expected, rtol)
        except AssertionError as error:
            raise AssertionError(f"{layout} {names} {setting}: {error}") from None
    return results


def _train(mesh, names, *, steps, accumulate, word, backend, heads, tokens, depth) -> list[dict]:
    torch._dynamo.reset()
    counters.clear()
    torch.manual_seed(0)
    model = TinyTransformer(heads=heads, tokens=tokens, depth=depth).train()
    jitter(model)
    precision = Precision(word=word)
    strategies = [STRATEGIES[name]() for name in names if name != "fsdp"]
    for strategy in strategies:
        assert strategy.refuses(mesh.layout, model, precision) is None
        strategy.apply(model, mesh, precision)
    if backend:
        compile_blocks(model.blocks(), backend)
    if "fsdp" in names:
        strategies.append(Zero3(ShardedConfig()))
        strategies[-1].apply(model, mesh, precision)
    done = [_step(model, mesh, strategies, step, (precision, accumulate, tokens)) for step in range(steps)]
    return [result | {"graphs": counters["stats"]["unique_graphs"]} for result in done]


def tiny(heads: int) -> TinyTransformer:
    """A model whose attention says how wide a head is."""
    model = TinyTransformer(heads=heads)
    for block in model.layers:
        block.attention.head_dim = 16 // heads
    return model


def jitter(model: nn.Module) -> None:
    """Move the weights that start as zeros or ones, whose gradients might hide a mistake."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))


def _step(model, mesh, strategies, step, setting) -> dict:
    precision, accumulate, tokens = setting
    objective, share = TinyObjective(), 1 / (accumulate * mesh.data_world * mesh.size("context", "tensor"))
    sharded = any(strategy.shards_parameters() for strategy in strategies)
    total = torch.zeros(())
    for micro in range(accumulate):
        whole = tiny_batch(ROWS, tokens, first=(step * accumulate + micro) * ROWS)
        batch = {key: value.chunk(mesh.data_world)[mesh.data_rank] for key, value in whole.items()}
        for strategy in strategies:
            strategy.before_backward(model, micro == accumulate - 1)
        with drawing(7, batch["position"].tolist()), precision.context("cpu", sharded=sharded):
            loss = objective(model, batch)["loss"] * share
        loss.backward()
        total += loss.detach()
    for strategy in strategies:
        strategy.reduce_gradients(model, mesh)
    if not sharded:
        for parameter in model.parameters():
            mesh.sum(local(parameter.grad), "data", "context")
    return _descend(model, float(mesh.sum(total)))


def _descend(model, loss: float) -> dict:
    gradients = {name: whole(p.grad) for name, p in model.named_parameters()}
    norm = torch.stack([gradient.square().sum() for gradient in gradients.values()]).sum().sqrt()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.sub_(parameter.grad * (0.5 * min(1.0, 1.0 / float(norm))))
            parameter.grad = None
    return {"loss": loss, "norm": float(norm), "gradients": gradients}


def local(tensor):
    """This process's share of a gradient."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor):
    """A copy of all of a gradient."""
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).clone()


def assert_same(ranks: list[list[dict]], expected: list[dict], rtol: float = 1e-5) -> None:
    """Every process has the expected loss, norm and gradients at every step.

    A gradient is measured against its own size, or a thousandth of all gradients' where it is smaller.
    """
    for steps in ranks:
        for step, want in zip(steps, expected, strict=True):
            for key in ("loss", "norm"):
                assert abs(step[key] - want[key]) <= rtol * want[key], f"{key} {step[key]}, expected {want[key]}"
            assert step["gradients"].keys() == want["gradients"].keys()
            for name, gradient in want["gradients"].items():
                scale = max(float(gradient.norm()), 1e-3 * want["norm"])
                error = float((step["gradients"][name] - gradient).norm())
                assert error <= rtol * scale, f"{name}: {error / scale:.1e}"
