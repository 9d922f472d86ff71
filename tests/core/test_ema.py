"""Averaged weights: their value, their place in checkpoints, and being swapped in."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from maquette.engine.ema import WeightAverages
from maquette.parallel.layout import Layout
from maquette.parallel.mesh import Mesh
from maquette.testing import TinyTransformer, run_ranks, tiny_batch


class Counting(nn.Module):
    """A weight, a float buffer and a counter, as batch normalisation has."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("count", torch.tensor(0))


def test_averages_follow_their_formula_with_a_warmed_up_decay():
    model = Counting()
    averages = WeightAverages(model, [0.9, 0.2])
    expected = {0.9: 0.0, 0.2: 0.0}
    for step in range(1, 200):
        with torch.no_grad():
            model.weight.fill_(step)
            model.mean.fill_(-step)
            model.count += 1
        averages.update(model, step)
        for decay, value in expected.items():
            used = min(decay, (1 + step) / (10 + step))
            expected[decay] = used * value + (1 - used) * step
    parts = averages.parts()
    assert list(parts) == ["average_0.9", "average_0.2"]
    for decay, value in expected.items():
        part = parts[f"average_{decay}"]
        assert part["weight"][0].item() == pytest.approx(value, rel=1e-5)
        assert part["mean"][0].item() == pytest.approx(-value, rel=1e-5)
        assert part["count"].item() == 199


def test_bf16_weights_are_averaged_in_fp32():
    model = nn.Linear(4, 4, bias=False).to(torch.bfloat16)
    nn.init.ones_(model.weight)
    averages = WeightAverages(model, [0.999])
    nn.init.constant_(model.weight, 2.0)
    for step in range(20_000, 20_100):
        averages.update(model, step)
    weight = averages.parts()["average_0.999"]["weight"]
    # In bf16 the average would stay at 1: its steps of .001 are less than half a unit.
    assert weight.dtype == torch.float32
    assert weight[0, 0].item() == pytest.approx(2 - 0.999**100, rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_swapping_in_gives_the_weights_back_bit_for_bit_also_after_an_error(dtype):
    model = TinyTransformer().to(dtype)
    averages = WeightAverages(model, [0.9, 0.5])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    averages.update(model, 3)
    weights, kept = copy.deepcopy(model.state_dict()), copy.deepcopy(averages.parts())
    for decay in (0.9, 0.5):
        with averages.swapped(model, decay):
            for name, tensor in model.state_dict().items():
                assert torch.equal(tensor, kept[f"average_{decay}"][name].to(dtype)), name
    with pytest.raises(RuntimeError, match="stop"), averages.swapped(model):
        assert torch.equal(model.head.weight, kept["average_0.9"]["head.weight"].to(dtype))
        raise RuntimeError("stop")
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    for part, tensors in averages.parts().items():
        assert all(torch.equal(tensor, kept[part][name]) for name, tensor in tensors.items())


def test_averages_start_again_from_the_weights():
    model = Counting()
    averages = WeightAverages(model, [0.9, 0.5])
    nn.init.constant_(model.weight, 4.0)
    averages.reset(model, 0.5)
    assert averages.weights[0.5]["weight"][0] == 4 and averages.weights[0.9]["weight"][0] == 0
    averages.reset(model)
    assert averages.weights[0.9]["weight"][0] == 4
    assert averages.weights[0.9]["weight"].data_ptr() != model.weight.data_ptr()


def test_names_are_those_of_the_bare_model():
    model = TinyTransformer()
    names = set(model.state_dict())
    for index, layer in enumerate(model.layers):
        model.layers[index] = torch.compile(checkpoint_wrapper(layer), backend="eager")
    averages = WeightAverages(model, [0.9])
    assert set(averages.weights[0.9]) == names
    with averages.swapped(model):
        averages.update(model, 1)


# --- sharded


def steps(model: nn.Module, parameters: list[nn.Parameter], averages: WeightAverages, first: int = 0) -> None:
    """Plain descent on a batch, averaged."""
    for step in range(first, first + 3):
        output(model).backward()
        with torch.no_grad():
            for parameter in parameters:
                parameter.sub_(0.1 * parameter.grad)
                parameter.grad = None
        averages.update(model, step + 1)


def output(model: nn.Module) -> Tensor:
    batch = tiny_batch(2)
    return (model(batch["x"], torch.zeros(2)) - batch["x"]).square().mean()


def story(model: nn.Module) -> dict[str, Any]:
    """Training with a validation of the averages in between."""
    averages, parameters = WeightAverages(model, [0.9, 0.99]), list(model.parameters())
    steps(model, parameters, averages)
    with torch.no_grad():
        before = output(model)
        with averages.swapped(model, 0.99):
            averaged = output(model)
        after = output(model)
    steps(model, parameters, averages, 3)
    parts = averages.parts() | {"model": model.state_dict()}
    tensors = {f"{part}/{name}": tensor for part, named in parts.items() for name, tensor in named.items()}
    sharded = sum(isinstance(tensor, DTensor) for tensor in tensors.values())
    return {
        "losses": torch.stack([before, averaged, after]),
        "sharded": sharded,
        "tensors": {k: t.full_tensor() if isinstance(t, DTensor) else t for k, t in tensors.items()},
    }


def sharded_story() -> dict[str, Any]:
    torch.manual_seed(0)
    model = TinyTransformer()
    mesh = Mesh(Layout(shard=2)).device_mesh("sharding")
    for block in model.blocks():
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return story(model)


def test_sharded_averages_agree_with_one_process_and_are_seen_when_swapped_in():
    torch.manual_seed(0)
    alone = story(TinyTransformer())
    before, averaged, after = alone["losses"]
    assert before == after and abs(averaged - before) > 1e-4
    for found in run_ranks(sharded_story, 2):
        assert found["sharded"] == len(found["tensors"])
        torch.testing.assert_close(found["losses"], alone["losses"], rtol=1e-5, atol=0)
        assert found["losses"][0] == found["losses"][2]
        for name, tensor in alone["tensors"].items():
            torch.testing.assert_close(found["tensors"][name], tensor, rtol=1e-5, atol=1e-6, msg=name)
