"""A condition that is laid into the latent grid: what pictures show is learnt, and what is hidden stays hidden."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from maquette import plugins
from maquette.engine.randomness import drawing
from maquette.errors import MaquetteError
from maquette_models.objectives.flow_matching import FlowMatching, FlowMatchingConfig
from maquette_models.transformer.condition_grid import ConditionGrid
from maquette_models.transformer.dit import DiT, DiTConfig

SIDE = 4
IMAGE = {"name": "image", "size": 16, "patch": 4, "width": 32, "depth": 1, "heads": 2, "jitter": 0.0, "opaque": 0.0}
SIZES = {"latent_channels": 2, "latent_resolution": SIDE, "patch": 1, "width": 32, "depth": 2, "heads": 2}


def model(conditioner: dict[str, Any] | None = None, **changes: Any) -> DiT:
    torch.manual_seed(0)
    return DiT(DiTConfig(**{**SIZES, "condition_grid": 64, **changes}, conditioner=conditioner or IMAGE))


def pictured(rows: int, seed: int = 0) -> dict[str, Tensor]:
    """A white square of a grey picture, and a latent that is 1 in the cells behind it."""
    places = torch.randint(SIDE, (rows, 2), generator=torch.Generator().manual_seed(seed))
    views, latent = torch.full((rows, 1, 4, 16, 16), 0.5), -torch.ones(rows, 2, SIDE, SIDE, SIDE)
    views[:, :, 3] = 1.0
    for row, (x, y) in enumerate(places.tolist()):
        views[row, 0, :3, 4 * y : 4 * y + 4, 4 * x : 4 * x + 4] = 1.0
        latent[row, :, x, y] = 1.0
    return {"view_rgb": views, "latent": latent, "position": torch.arange(rows)}


def trained(steps: int) -> DiT:
    own, objective = model().train(), FlowMatching(FlowMatchingConfig(mu=1.0))
    optimizer = torch.optim.Adam(own.parameters(), 3e-3)
    for step in range(steps):
        with drawing(seed=0, keys=[32 * step + row for row in range(32)]):
            loss = objective(own, pictured(32, seed=step))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return own.eval()


def test_a_picture_tells_the_first_step_where_the_shape_is() -> None:
    """From noise alone: x0 = x - v lies nearest to the latent behind the picture, of all sixteen there are."""
    own, held_out = trained(150), pictured(32, seed=1000)
    noise = torch.randn(32, 2, SIDE, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        made = noise - own(noise, torch.ones(32), own.conditioner.prepare(held_out))
    latents = held_out["latent"]
    nearest = (made[:, None] - latents[None]).square().flatten(2).mean(dim=2).argmin(dim=1)
    found = (latents[nearest] - latents).abs().flatten(1).amax(dim=1) == 0
    assert found.float().mean() > 0.8


def test_what_was_not_given_does_not_matter() -> None:
    own = model().eval()
    x, t = torch.randn(2, 2, SIDE, SIDE, SIDE), torch.tensor([0.3, 0.9])
    nn.init.normal_(own.head.weight)
    shown = own.conditioner.prepare(pictured(2))
    hidden = own.conditioner.hide(shown, torch.tensor([True, True]))
    torch.testing.assert_close(own(x, t, hidden), own(x, t, own.conditioner.null(2)))
    assert not torch.allclose(own(x, t, shown), own(x, t, hidden))


def test_a_sample_is_encoded_as_it_would_be_alone() -> None:
    own = model().eval()
    together = own.encode_condition(own.conditioner.prepare(pictured(5)))["grid"]
    assert together.shape == (5, SIDE**3, 32)
    alone = [
        own.encode_condition(own.conditioner.prepare({"view_rgb": view[None]})) for view in pictured(5)["view_rgb"]
    ]
    torch.testing.assert_close(together, torch.cat([one["grid"] for one in alone]))


def test_parts_suffice_for_begin_and_finish() -> None:
    own = model().eval()
    inputs = torch.randn(2, 2, SIDE, SIDE, SIDE), torch.tensor([0.3, 0.9]), own.conditioner.prepare(pictured(2))
    members = {*own._modules, *own._parameters, *own._buffers}
    assert {*own.begin_parts(), *own.finish_parts(), "layers"} == members
    last = copy.deepcopy(own)
    del last.condition_grid, last.conditioner
    h, *context = own.begin(*inputs)
    for block in own.blocks():
        h = block(h, *context)
    assert torch.equal(last.finish(h, *context), own(*inputs))
    assert "condition_grid" not in model(condition_grid=0).begin_parts()


def test_a_run_without_it_can_be_started_from() -> None:
    own, earlier = model(), model(condition_grid=0)
    missing = set(own.state_dict()) - set(earlier.state_dict())
    assert missing and all(name.startswith(tuple(own.new_weights())) for name in missing)


def test_flops_are_those_that_torch_counts() -> None:
    grid = ConditionGrid(tokens=5, cells=8, width=32, hidden=16).train()
    with FlopCounterMode(display=False) as counter:
        grid(torch.randn(1, 5, 32), torch.ones(1, 5, dtype=torch.bool))
    assert counter.get_total_flops() == grid.flops()
    batch = pictured(3)
    assert model().flops(batch) - model(condition_grid=0).flops(batch) == 3 * model().condition_grid.flops()


def test_a_conditioner_of_unknown_size_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Odd(nn.Module):
        config = type("Config", (), {"width": 32})

    monkeypatch.setattr(plugins, "build", lambda kind, block: Odd())
    with pytest.raises(MaquetteError, match="condition_grid needs a conditioner with a 'token_count'"):
        model()
