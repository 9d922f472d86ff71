"""AdamW and Muon, on one process and sharded over several."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from maquette.engine.optimizers import newton_schulz
from maquette.engine.optimizers.adamw import AdamW, AdamWConfig
from maquette.engine.optimizers.muon import Muon, MuonConfig
from maquette.engine.optimizers.newton_schulz import orthogonalize
from maquette.engine.optimizers.settings import GroupConfig
from maquette.parallel.layout import Layout
from maquette.parallel.mesh import Mesh
from maquette.testing import TinyTransformer, run_ranks, tiny_batch

# --- AdamW


def gradients_of(model: nn.Module, seed: int) -> None:
    """Random whole gradients that depend on names alone; DTensors take their part."""
    for index, (_, parameter) in enumerate(model.named_parameters()):
        generator = torch.Generator().manual_seed(1000 * seed + index)
        whole = torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
        parameter.grad = whole
        if isinstance(parameter, DTensor):
            parameter.grad = distribute_tensor(whole, parameter.device_mesh, parameter.placements, src_data_rank=None)


def test_adamw_is_torchs_bit_for_bit():
    model = TinyTransformer()
    twin = copy.deepcopy(model)
    ours = AdamW(AdamWConfig(weight_decay=0.1))(dict(model.named_parameters()))
    matrices, vectors = ([p for p in twin.parameters() if (p.ndim > 1) == wanted] for wanted in (True, False))
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    theirs = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.99), fused=True)
    for step in range(4):
        for one, optimizer in ((model, ours), (twin, theirs)):
            gradients_of(one, step)
            optimizer.step()
    for (name, one), other in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert torch.equal(one, other), name
        assert ours.state[one].keys() == theirs.state[other].keys()


# --- Muon


@pytest.mark.parametrize("scale", ["original", "match_rms_adamw"])
@pytest.mark.parametrize("nesterov", [True, False])
def test_muon_is_torchs(scale, nesterov):
    torch.manual_seed(0)
    shapes = [(24, 8), (8, 24), (16, 16)]
    ours = {f"w{i}": nn.Parameter(torch.randn(shape)) for i, shape in enumerate(shapes)}
    theirs = [nn.Parameter(p.detach().clone()) for p in ours.values()]
    config = MuonConfig(learning_rate=0.05, weight_decay=0.1, scale=scale, nesterov=nesterov)
    one = Muon(config)(ours)
    other = torch.optim.Muon(theirs, lr=0.05, weight_decay=0.1, nesterov=nesterov, adjust_lr_fn=scale)
    for _ in range(3):
        for mine, yours in zip(ours.values(), theirs, strict=True):
            mine.grad = torch.randn(mine.shape)
            yours.grad = mine.grad.clone()
        one.step()
        other.step()
    for mine, yours in zip(ours.values(), theirs, strict=True):
        # bf16 products: a few units of 2^-8 of an update.
        torch.testing.assert_close(mine, yours, rtol=0, atol=0.05 * 0.02 * max(mine.shape) ** 0.5)


@given(st.integers(1, 3), st.integers(1, 24), st.integers(1, 24), st.integers(0, 99))
def test_newton_schulz_makes_matrices_orthogonal_each_by_itself(count, rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    # Rows and columns of known, not too different, singular values.
    left = torch.linalg.qr(torch.randn(count, rows, rows, generator=generator))[0]
    right = torch.linalg.qr(torch.randn(count, columns, columns, generator=generator))[0]
    least = min(rows, columns)
    values = 0.1 + torch.rand(count, least, generator=generator)
    stack = left[:, :, :least] * values[:, None] @ right[:, :least]
    whole = orthogonalize(stack, 5, torch.float32)
    found = torch.linalg.svdvals(whole)
    assert found.min() > 0.6 and found.max() < 1.3
    for matrix, together in zip(stack, whole, strict=True):
        torch.testing.assert_close(orthogonalize(matrix, 5, torch.float32), together, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", ["original", "match_rms_adamw"])
def test_a_stack_of_experts_moves_as_its_layers_would(scale):
    torch.manual_seed(0)
    layers = {f"layer{i}": nn.Parameter(torch.randn(12, 4)) for i in range(2)}
    stack = nn.Parameter(torch.stack([layer.detach().mT for layer in layers.values()]))
    stack.grad = torch.randn_like(stack)
    for layer, gradient in zip(layers.values(), stack.grad, strict=True):
        layer.grad = gradient.mT.clone()
    for named in (layers, {"experts.up": stack}):
        Muon(MuonConfig(scale=scale, matmul_dtype="fp32"))(named).step()
    for layer, matrix in zip(layers.values(), stack, strict=True):
        torch.testing.assert_close(matrix.mT, layer)


def test_muon_takes_matrices_and_leaves_the_rest_to_adamw():
    model = TinyTransformer()
    optimizer = Muon(MuonConfig(groups=[GroupConfig(match="*", learning_rate_scale=0.5)]))(
        dict(model.named_parameters())
    )
    gradients_of(model, 0)
    optimizer.step()
    slots = {name: set(optimizer.state[parameter]) for name, parameter in model.named_parameters()}
    adam = {"step", "exp_avg", "exp_avg_sq"}
    for name in ("embed.weight", "head.weight", "layers.0.table", "layers.0.mlp.up.bias"):
        assert slots[name] == adam, name
    for name in ("layers.0.mlp.up.weight", "layers.3.attention.to_query.weight", "time.weight"):
        assert slots[name] == {"momentum_buffer"}, name


@pytest.mark.parametrize(
    "factory",
    [
        AdamW(AdamWConfig(learning_rate=3e-3)),
        AdamW(AdamWConfig(learning_rate=3e-3, stochastic_rounding=True)),
        Muon(MuonConfig(learning_rate=3e-3)),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_optimizer_learns_and_resumes_from_its_slots_bit_for_bit(factory, dtype):
    torch.manual_seed(0)
    model = TinyTransformer().to(dtype)
    batch = tiny_batch(8)

    def steps(model: nn.Module, optimizer: torch.optim.Optimizer, count: int) -> list[float]:
        losses = []
        for _ in range(count):
            loss = (model(batch["x"], torch.zeros(8)).float() - batch["x"]).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        return losses

    optimizer = factory(dict(model.named_parameters()))
    losses = steps(model, optimizer, 20)
    assert losses[-1] < 0.8 * losses[0]
    twin = copy.deepcopy(model)
    again = factory(dict(twin.named_parameters()))
    for parameter, other in zip(model.parameters(), twin.parameters(), strict=True):
        again.state[other] = {slot: value.clone() for slot, value in optimizer.state[parameter].items()}
    assert steps(model, optimizer, 3) == steps(twin, again, 3)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))


# --- sharded


class Bag(nn.Module):
    """Parameters of all kinds, with sizes that do not divide."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        shapes = {"wide": (6, 10), "tall": (11, 4), "flat": (1, 8), "other": (8, 8), "experts": (4, 6, 4), "bias": (7,)}
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.randn(shape, generator=generator)))


FACTORIES: dict[str, tuple[Any, torch.dtype]] = {
    "adamw": (AdamW(AdamWConfig()), torch.float32),
    "bf16": (AdamW(AdamWConfig(stochastic_rounding=True)), torch.bfloat16),
    "muon": (Muon(MuonConfig(matmul_dtype="fp32")), torch.float32),
    "muon_bf16": (Muon(MuonConfig()), torch.float32),
}


def trained(factory: Any, model: nn.Module) -> dict[str, Tensor]:
    """Whole weights and slots after some steps."""
    optimizer = factory(dict(model.named_parameters()))
    for step in range(3):
        gradients_of(model, step)
        optimizer.step()
    found = {name: parameter.detach() for name, parameter in model.named_parameters()}
    for name, parameter in model.named_parameters():
        for slot, value in optimizer.state[parameter].items():
            found[f"{name}/{slot}"] = value
            if slot != "step":
                assert type(value) is type(parameter.data), f"{name}/{slot} is not laid out like its parameter"
    return {name: value.full_tensor() if isinstance(value, DTensor) else value for name, value in found.items()}


def spread(model: nn.Module, placements: dict[str, tuple[Any, tuple[Any, ...]]]) -> nn.Module:
    """Make parameters DTensors; what is not named stays plain."""
    for name, (mesh, places) in placements.items():
        whole = getattr(model, name).detach()
        setattr(model, name, nn.Parameter(distribute_tensor(whole, mesh, places, src_data_rank=None)))
    return model


class Split(nn.Module):
    """Linears of a transformer's MLP, for FSDP over tensor parallelism."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.up = nn.Linear(6, 16)
        self.down = nn.Linear(16, 6)


class Experts(nn.Module):
    """A stack of matrices, for FSDP over expert parallelism."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.Parameter(torch.randn(4, 6, 4, generator=torch.Generator().manual_seed(0)))


def sharded_optimizers() -> dict[str, dict[str, Tensor]]:
    found = {}
    # Several small exchanges in place of one.
    newton_schulz.EXCHANGED = 16
    dense = Mesh(Layout(data=2, shard=2)).device_mesh("data", "sharding")
    sparse = Mesh(Layout(expert=2, shard=2))
    experts = sparse.expert_mesh("sharding", "expert")
    mixed = Mesh(Layout(shard=2, tensor=2))
    for name, (factory, dtype) in FACTORIES.items():
        placements = {
            "wide": (dense, (Replicate(), Shard(0))),
            "tall": (dense, (Replicate(), Shard(0))),
            "flat": (dense, (Replicate(), Shard(0))),
            "other": (dense, (Shard(1), Shard(0))),
            "experts": (experts, (Shard(0), Shard(0))),
        }
        found[name] = trained(factory, spread(Bag().to(dtype), placements))
        shard = {key: (dense["sharding"], (Shard(dim),)) for key, dim in (("wide", 1), ("tall", 0), ("other", 1))}
        found[f"{name}_simple"] = trained(factory, spread(Bag().to(dtype), shard))
        model = Split().to(dtype)
        tensor = mixed.device_mesh("tensor")
        spread(model.up, {"weight": (tensor, (Shard(0),)), "bias": (tensor, (Shard(0),))})
        spread(model.down, {"weight": (tensor, (Shard(1),))})
        fully_shard(model, mesh=mixed.device_mesh("sharding"))
        found[f"{name}_split"] = trained(factory, model)
        model = spread(Experts().to(dtype), {"experts": (sparse.expert_mesh("expert"), (Shard(0),))})
        fully_shard(model, mesh=sparse.expert_mesh("sharding"))
        found[f"{name}_experts"] = trained(factory, model)
    return found


def test_all_layouts_agree_with_one_process():
    everywhere = run_ranks(sharded_optimizers, 4)
    for name, (factory, dtype) in FACTORIES.items():
        models = {"": Bag(), "_simple": Bag(), "_split": Split(), "_experts": Experts()}
        for key, model in ((f"{name}{ending}", model) for ending, model in models.items()):
            alone = trained(factory, model.to(dtype))
            for rank, found in enumerate(everywhere):
                assert found[key].keys() == alone.keys()
                for part, value in alone.items():
                    where = f"{key}, {part}, rank {rank}"
                    assert torch.equal(found[key][part], everywhere[0][key][part]), where
                    # Elementwise, or whole matrices: the same numbers through the same operations.
                    torch.testing.assert_close(found[key][part], value, rtol=1e-6, atol=1e-6, msg=where)
