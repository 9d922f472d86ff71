"""The autoencoder: shapes, gradients, conventions, and that it learns."""

from __future__ import annotations

import pytest
import torch

from maquette.engine.randomness import drawing
from maquette.errors import MaquetteError
from maquette.testing import check_architecture
from maquette_models.grid.grid_vae import GridVAE, GridVAEConfig, GridVAEOutput, fold, unfold
from maquette_models.objectives.vae_objective import VAEObjective, VAEObjectiveConfig, weighted_l1

SMALL = GridVAEConfig(resolution=16, width=16, deep_width=16, color_width=16, shape_channels=3, color_channels=2)


def batch(size: int = 3, resolution: int = 16) -> dict[str, torch.Tensor]:
    """Balls of several radii, each of one colour."""
    axis = (torch.arange(resolution) + 0.5) / resolution - 0.5
    distance = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij")).norm(dim=0)
    radii = torch.linspace(0.2, 0.4, size)
    tsdf = ((distance - radii.view(-1, 1, 1, 1)) / 0.2).clamp(-1, 1)[:, None]
    color = torch.linspace(0.1, 0.9, size * 3).view(size, 3, 1, 1, 1).expand(-1, -1, *[resolution // 2] * 3)
    return {"tsdf": tsdf, "color": color.contiguous()}


@pytest.mark.parametrize("patch", [2, 4])
def test_fold_and_unfold_are_inverse(patch: int) -> None:
    x = torch.randn(2, 3, 8, 8, 8)
    folded = fold(x, patch)
    assert folded.shape == (2, 3 * patch**3, *[8 // patch] * 3)
    assert torch.equal(unfold(folded, patch), x)


def test_shapes_and_modes() -> None:
    model, data = GridVAE(SMALL), batch()
    output = model(data["tsdf"], data["color"])
    assert output.tsdf.shape == data["tsdf"].shape
    assert output.color.shape == data["color"].shape
    assert output.mean.shape == output.logvar.shape == (3, 5, 2, 2, 2)
    tsdf, color = model.decode(model.encode(data["tsdf"], data["color"]))
    torch.testing.assert_close(output.tsdf, tsdf)
    torch.testing.assert_close(output.color, color)
    assert model.latent_shape(data["tsdf"]) == output.mean.shape
    zero = torch.zeros(model.latent_shape(data["tsdf"]))
    assert torch.equal(model(data["tsdf"], data["color"], zero).tsdf, output.tsdf)
    assert not torch.equal(model(data["tsdf"], data["color"], zero + 1).tsdf, output.tsdf)


def test_latent_is_sampled_in_training_alone() -> None:
    """And each sample's noise is its own, whatever else is in the batch."""
    model, objective, data = GridVAE(SMALL), VAEObjective(VAEObjectiveConfig()), batch()
    with drawing(0, [4, 5, 6]):
        noise = objective.inputs(model, data)[2]
    with drawing(0, [6]):
        assert torch.equal(objective.inputs(model, {key: value[2:] for key, value in data.items()})[2], noise[2:])
    assert noise.std() > 0.5
    assert len(objective.inputs(model.eval(), data)) == 2


def test_architecture_contract() -> None:
    check_architecture(GridVAE(SMALL), VAEObjective(VAEObjectiveConfig()), batch())


def test_gradient_reaches_every_parameter() -> None:
    model = GridVAE(SMALL)
    VAEObjective(VAEObjectiveConfig())(model, batch())["loss"].backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A bias before a normalisation with one channel a group has no effect; there is none here.
    assert not silent, silent


def test_shape_does_not_depend_on_color() -> None:
    model, data = GridVAE(SMALL).eval(), batch()
    one = model(data["tsdf"], data["color"]).tsdf
    assert torch.equal(one, model(data["tsdf"], 1 - data["color"]).tsdf)


def test_overfits_a_tiny_batch() -> None:
    torch.manual_seed(0)
    model, data = GridVAE(SMALL), batch()
    objective = VAEObjective(VAEObjectiveConfig())
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    losses = []
    for _ in range(60):
        terms = objective(model, data)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        losses.append(terms["loss"].item())
    assert losses[-1] < 0.35 * losses[0]


def test_weighted_l1_by_hand() -> None:
    predicted, target = torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0])
    assert weighted_l1(predicted, target, torch.tensor([1.0, 3.0])).item() == pytest.approx((1 * 1 + 3 * 2) / 4)


def test_loss_is_zero_without_kl_on_a_perfect_model() -> None:
    data = batch()

    class Perfect(torch.nn.Module):
        def forward(self, tsdf: torch.Tensor, color: torch.Tensor) -> object:
            zeros = torch.zeros(len(tsdf), 1, 2, 2, 2)
            return GridVAEOutput(tsdf, color, zeros, zeros)

    terms = VAEObjective(VAEObjectiveConfig())(Perfect(), data)
    assert terms["loss"].item() == 0.0


@pytest.mark.parametrize(
    "config", [GridVAEConfig(resolution=20), GridVAEConfig(patch=3, resolution=24), GridVAEConfig(width=12)]
)
def test_sizes_that_do_not_fit_are_refused(config: GridVAEConfig) -> None:
    with pytest.raises(MaquetteError, match="grid_vae"):
        GridVAE(config)
