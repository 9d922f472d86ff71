"""Tensor parallelism with sequence parallelism: equal to one process, whole names, honest refusals."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.nn import functional as F

from maquette.parallel.layout import Layout
from maquette.parallel.mesh import Mesh
from maquette.parallel.tensor import TensorParallel, splits_over
from maquette.precision import Precision
from maquette.testing import TinyTransformer, run_ranks
from tests.core import token_parity as parity


def test_two_processes_train_as_one_does():
    pair = {"tensor": 2}
    runs = [
        parity.run(pair, "tp"),
        parity.run(pair, "tp", accumulate=2),
        parity.run(pair, "tp", backend="aot_eager", depth=2, steps=1),
    ]
    results = parity.check(runs, 2)
    assert results[0][2][-1]["graphs"] == 1, "all blocks share one compiled graph"


def test_four_processes_train_as_one_does_also_with_the_parameters_sharded():
    both = {"tensor": 2, "shard": 2}
    runs = [
        parity.run({"tensor": 4}, "tp"),
        parity.run({"tensor": 2, "data": 2}, "tp"),
        parity.run(both, "tp", "fsdp"),
        parity.run(both, "tp", "fsdp", accumulate=2),
    ]
    parity.check(runs, 4)


def test_bfloat16_stays_near():
    runs = [parity.run({"tensor": 2}, "tp", word="bf16", steps=1)]
    parity.check(runs, 2, rtol=0.08)


@pytest.mark.slow
def test_compiled_by_inductor_it_trains_as_one_process_does():
    setting = {"backend": "inductor", "depth": 2, "steps": 2}
    parity.check([parity.run({"tensor": 2}, "tp", **setting)], 2)
    parity.check([parity.run({"tensor": 2, "shard": 2}, "tp", "fsdp", **setting)], 4)


class Halving(nn.Linear):
    """A linear layer with a product of its own, as those in 8-bit floats have."""

    def product(self, x, weight):
        """Half of what a linear layer gives."""
        return F.linear(x, weight) / 2

    def forward(self, x):
        """The product, then the bias."""
        return self.product(x, self.weight) + self.bias


def halved(tensor: int) -> tuple[torch.Tensor, list[type]]:
    """The output of a model whose MLPs have products of their own, and the classes of their layers."""
    mesh = Mesh(Layout(tensor=tensor))
    torch.manual_seed(0)
    model = TinyTransformer(depth=2)
    for block in model.layers:
        for layer in (block.mlp.up, block.mlp.down):
            layer.__class__ = Halving
    TensorParallel().apply(model, mesh, Precision())
    x = torch.linspace(-1, 1, 2 * 8 * 6).view(2, 8, 6)
    same = {name: len({type(getattr(block.mlp, name)) for block in model.layers}) for name in ("up", "down")}
    assert set(same.values()) == {1}, "layers of one kind must be of one class, or every block is compiled anew"
    return model(x, torch.tensor([0.2, 0.7])).detach()


def test_a_layers_own_product_is_used():
    for result in run_ranks(halved, 2, 2):
        torch.testing.assert_close(result, halved(1), rtol=1e-5, atol=1e-6)


@pytest.fixture
def mesh():
    """The first of four processes that talk to nobody."""
    mesh = Mesh(Layout(tensor=4), backend="fake")
    yield mesh
    mesh.stop()


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_weights_are_split_under_their_old_names_and_the_rest_is_whole(mesh, device):
    with torch.device(device):
        model = TinyTransformer()
        before = {name: p.shape for name, p in model.named_parameters()}
        model.layers[0].mlp.up.weight.requires_grad_(False)
        TensorParallel().apply(model, mesh, Precision())
    after = dict(model.named_parameters())
    assert {name: p.shape for name, p in after.items()} == before
    split = {name for name, p in after.items() if splits_over(p, "tensor")}
    assert "layers.1.attention.to_query.bias" in split and "layers.1.mlp.down.weight" in split
    assert not split & {"layers.1.mlp.down.bias", "layers.1.attention.query_weight", "embed.weight"}
    for name in split:
        parameter = after[name]
        assert isinstance(parameter, DTensor) and parameter.to_local().numel() == parameter.numel() // 4
        assert parameter.device.type == device
    assert not after["layers.0.mlp.up.weight"].requires_grad


def test_one_process_changes_nothing():
    model = TinyTransformer()
    TensorParallel().apply(model, Mesh(Layout()), Precision())
    assert not any(isinstance(p, DTensor) for p in model.parameters()) and "begin" not in model.__dict__


def refusal(model: nn.Module, tensor: int, precision: Precision | None = None) -> str:
    """One line, or nothing."""
    reason = TensorParallel().refuses(Layout(tensor=tensor), model, precision or Precision()) or ""
    assert "\n" not in reason
    return reason


def test_models_that_cannot_be_split_are_refused_with_the_reason():
    assert refusal(TinyTransformer(), 4) == ""
    assert refusal(nn.Linear(2, 2), 1) == ""
    assert "declares no blocks()" in refusal(nn.Linear(2, 2), 2)
    assert "would work: 1, 2, 4" in refusal(TinyTransformer(), 3)
    assert "'layers.0.mlp.up'" in refusal(planned({"layers.*.mlp.up": "colwise"}), 3)
    assert "'layers.*.mlp.upp' names no module" in refusal(planned({"layers.*.mlp.upp": "colwise"}), 2)
    assert "no linear layer" in refusal(planned({"layers.*.mlp": "rowwise"}), 2)
    assert "is 'columns'; known: gather" in refusal(planned({"layers.*.mlp.up": "columns"}), 2)
    assert "both" in refusal(planned({"layers.*.mlp.up": "colwise", "layers.0.mlp.*": "rowwise"}), 2)
    assert "declares no layers" in refusal(planned({}), 2)


def test_heads_are_not_cut():
    assert "2 heads, which tensor=4 does not divide; would work: 1, 2" in refusal(parity.tiny(heads=2), 4)


def test_a_part_of_an_fp8_product_must_fit_the_hardware():
    model = TinyTransformer(width=32, heads=4)
    assert refusal(model, 4) == ""
    assert "2 x 16 outputs" in refusal(model, 4, Precision(word="fp8", min_width=32))
    assert refusal(model, 2, Precision(word="fp8", min_width=32)) == ""


def planned(plan: dict[str, str]) -> nn.Module:
    """A model with another plan."""
    model = TinyTransformer()
    model.tensor_parallel_plan = lambda: plan
    return model
