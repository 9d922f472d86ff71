"""What strategies rely on: begin, blocks and finish are the forward pass; parts, axes and plan name real things."""

from __future__ import annotations

import copy
from fnmatch import fnmatch
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.utils.flop_counter import FlopCounterMode

from maquette import plugins
from maquette.engine.randomness import drawing
from maquette.parallel.layout import Layout
from maquette.parallel.mesh import Mesh
from maquette.precision import Precision
from maquette.testing import run_ranks
from maquette_models.grid.grid_vae import GridVAE, GridVAEConfig
from maquette_models.objectives.flow_matching import FlowMatching, FlowMatchingConfig
from maquette_models.transformer.dit import DiT, DiTConfig
from maquette_models.transformer.dit_block import SelfAttention
from maquette_models.transformer.mixture_of_experts import MixtureConfig

CONDITIONER = {
    "name": "class_caption",
    "classes": ["a", "b"],
    "vocabulary": ["red", "tall"],
    "width": 16,
    "depth": 1,
    "max_words": 3,
}
ROWS = 6


def model(**changes: Any) -> DiT:
    torch.manual_seed(0)
    sizes = {"latent_channels": 3, "latent_resolution": 4, "width": 32, "depth": 3, "heads": 4, **changes}
    own = DiT(DiTConfig(**sizes, conditioner=CONDITIONER))
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return own


def batch(rows: slice = slice(None)) -> dict[str, Any]:
    latent = torch.randn(ROWS, 3, 4, 4, 4, generator=torch.Generator().manual_seed(3))
    captions = ["a red one", "tall", ""] * (ROWS // 3)
    return {"latent": latent[rows], "class_id": torch.arange(ROWS)[rows] % 2, "caption": captions[rows]}


def arguments(own: DiT) -> tuple[Any, ...]:
    own.conditioner.eval()
    data = batch()
    return data["latent"], torch.linspace(0.1, 0.9, ROWS), own.conditioner.prepare(data)


def keep(own: DiT, names: list[str]) -> DiT:
    """A pipeline stage's part: all else is gone, the blocks too."""
    part = copy.deepcopy(own)
    members = [*part._modules, *part._parameters, *part._buffers]
    for name in members:
        if name not in names:
            delattr(part, name)
    return part


def test_forward_is_begin_blocks_finish_and_parts_suffice() -> None:
    own = model()
    inputs = arguments(own)
    everything = {*own._modules, *own._parameters, *own._buffers}
    assert {*own.begin_parts(), *own.finish_parts(), "layers"} == everything
    assert not set(own.begin_parts()) & set(own.finish_parts())
    h, *context = keep(own, own.begin_parts()).begin(*inputs)
    for block in own.blocks():
        h = block(h, *context)
    assert torch.equal(keep(own, own.finish_parts()).finish(h, *context), own(*inputs))


def test_token_axes_count_the_tokens_of_the_stream() -> None:
    own = model()
    begun = own.begin(*arguments(own))
    assert len(begun) == len(own.token_axes())
    for value, axis in zip(begun, own.token_axes(), strict=True):
        assert axis is None or value.shape[axis] == 8
    cores = [core for core in own.modules() if core in own.attentions()]
    assert len(cores) == 3 and not any(list(core.parameters()) for core in cores)


def test_blocks_treat_tokens_alike_but_for_self_attention() -> None:
    """What context parallelism needs: half of the tokens give half of the result, were it not for the core."""
    own = model()
    for layer in own.layers:
        layer.attention.core.forward = lambda q, k, v: q * k * v
    h, *context = own.begin(*arguments(own))
    axes = own.token_axes()
    for block in own.blocks():
        whole = block(h, *context)
        for half in (slice(0, 4), slice(4, 8)):
            parts = [c if axis is None else c[half] for c, axis in zip(context, axes[1:], strict=True)]
            torch.testing.assert_close(block(h[:, half], *parts), whole[:, half])


def test_a_rank_with_some_of_the_heads_computes_its_share() -> None:
    """What tensor parallelism needs: with the columns of two heads of four, and the rows of `out` that go with them,
    the shares add up."""
    own = model()
    attention = own.layers[0].attention
    x = torch.randn(2, 8, 32)
    shares = []
    for rank in range(2):
        part: SelfAttention = copy.deepcopy(attention)
        rows = slice(16 * rank, 16 * (rank + 1))
        for name, style in own.tensor_parallel_plan().items():
            for child, layer in part.named_children():
                if fnmatch(f"layers.0.attention.{child}", name):
                    cut(layer, style, rows, keep_bias=rank == 0)
        shares.append(part(x, own.positions))
    torch.testing.assert_close(sum(shares), attention(x, own.positions))


def cut(layer: nn.Linear, style: str, rows: slice, keep_bias: bool) -> None:
    if style == "colwise":
        layer.weight, layer.bias = nn.Parameter(layer.weight[rows]), nn.Parameter(layer.bias[rows])
    else:
        layer.weight = nn.Parameter(layer.weight[:, rows])
        layer.bias = nn.Parameter(layer.bias if keep_bias else torch.zeros_like(layer.bias))


def test_plan_names_every_large_layer_of_a_block() -> None:
    own = model()
    plan = own.tensor_parallel_plan()
    for name, module in own.named_modules():
        if name.startswith("layers.") and isinstance(module, nn.Linear):
            styles = {style for pattern, style in plan.items() if fnmatch(name, pattern)}
            assert len(styles) == 1 and styles <= {"colwise", "rowwise"}, name


def test_the_objective_in_parts_is_the_objective() -> None:
    own, objective, data = model(), FlowMatching(FlowMatchingConfig()), batch()
    with drawing(1, range(ROWS)):
        whole = objective(own, data)
        parts = objective.loss(own(*objective.inputs(own, data)), objective.target(data))
    assert torch.equal(whole["loss"], parts["loss"])
    torch.testing.assert_close(whole["per_sample"]["loss"].mean(), whole["loss"].detach())
    assert not whole["per_sample"]["loss"].requires_grad


def test_loss_of_a_batch_is_the_mean_of_its_micro_batches() -> None:
    """Noise, times and hidden words belong to the samples, so how a batch is cut changes nothing."""
    own, objective = model(), FlowMatching(FlowMatchingConfig())
    with drawing(1, range(ROWS)):
        whole = objective(own, batch())
    losses, times = [], []
    for first in range(0, ROWS, 2):
        with drawing(1, range(first, first + 2)):
            terms = objective(own, batch(slice(first, first + 2)))
        losses.append(terms["loss"])
        times.append(terms["per_sample"]["t"])
    torch.testing.assert_close(torch.stack(losses).mean(), whole["loss"])
    assert torch.equal(torch.cat(times), whole["per_sample"]["t"])


def test_bfloat16_weights_without_autocast() -> None:
    """As under FSDP2's mixed precision: inputs and times are float32, the stream is of the weights' dtype."""
    own = model()
    inputs = arguments(own)
    expected = own(*inputs)
    own.bfloat16()
    h, *_ = own.begin(*inputs)
    assert h.dtype == torch.bfloat16
    found = own(*inputs)
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).norm() < 0.03 * expected.norm()


def sharded_loss() -> tuple[float, dict[str, Tensor]]:
    mesh = Mesh(Layout(shard=2))
    own = model()
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    for block in (*own.blocks(), own):
        fully_shard(block, mesh=mesh.device_mesh("sharding"), mp_policy=policy)
    with drawing(1, range(ROWS)):
        loss = FlowMatching(FlowMatchingConfig())(own, batch())["loss"]
    loss.backward()
    return loss.item(), {name: p.grad.full_tensor() for name, p in own.named_parameters()}


def test_sharded_in_mixed_precision() -> None:
    own = model()
    with drawing(1, range(ROWS)):
        loss = FlowMatching(FlowMatchingConfig())(own, batch())["loss"]
    loss.backward()
    for found, gradients in run_ranks(sharded_loss, 2):
        assert found == pytest.approx(loss.item(), rel=0.01)
        for name in ("layers.1.mlp.up.weight", "time.0.weight", "embed.weight"):
            expected = dict(own.named_parameters())[name].grad
            assert (gradients[name] - expected).norm() < 0.1 * expected.norm(), name


@pytest.mark.parametrize("mlp", ["dense", "moe"])
def test_flops_are_those_counted(mlp: str) -> None:
    own, data = model(mlp=mlp, moe=MixtureConfig(experts=4, last=2), mlp_hidden=40), batch()
    with FlopCounterMode(display=False) as counter:
        FlowMatching(FlowMatchingConfig())(own, data)
    assert own.flops(data) == counter.get_total_flops() > 0
    assert own.flops(own.example_batch(ROWS)) == own.flops(data)


def test_flops_of_the_autoencoder_are_those_counted() -> None:
    vae = GridVAE(GridVAEConfig(resolution=16, width=16, deep_width=24, color_width=16))
    data = {"tsdf": torch.randn(3, 1, 16, 16, 16), "color": torch.rand(3, 3, 8, 8, 8)}
    with FlopCounterMode(display=False) as counter:
        vae(data["tsdf"], data["color"])
    assert vae.flops(data) == counter.get_total_flops() > 0


@pytest.mark.parametrize(("strategy", "axis"), [("tp", "tensor"), ("ulysses", "context"), ("ring", "context")])
def test_what_the_autoencoder_cannot_is_refused(strategy: str, axis: str) -> None:
    vae = GridVAE(GridVAEConfig(resolution=16, width=16, deep_width=16, color_width=16))
    part = plugins.build("strategies", {"name": strategy})
    assert "GridVAE" in (part.refuses(Layout(**{axis: 2}), vae, Precision()) or "")
    assert part.refuses(Layout(**{axis: 2}), model(), Precision()) is None


def test_more_ranks_than_heads_are_refused() -> None:
    part = plugins.build("strategies", {"name": "tp"})
    assert "head" in (part.refuses(Layout(tensor=8), model(), Precision()) or "")
