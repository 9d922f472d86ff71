"""The token-set autoencoder: its contract, what padding and company may change, and that it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from maquette import plugins
from maquette.config import RunConfig, load, read_yaml, resolve_block, set_facts
from maquette.engine.randomness import drawing
from maquette.errors import MaquetteError
from maquette.testing import check_architecture
from maquette_models.reconstructs import Reconstructs
from maquette_models.voxset import field_grid
from maquette_models.voxset.anchors import Anchors
from maquette_models.voxset.field_grid import centres, coarse_step
from maquette_models.voxset.surface_cloud import SurfaceCloud
from maquette_models.voxset.voxset_vae import VoxSetVAE, VoxSetVAEConfig
from maquette_models.voxset.voxset_vae_objective import VoxSetVAEObjective, VoxSetVAEObjectiveConfig, truncated_l1

CONFIGS = Path(__file__).parents[3] / "examples" / "configs"
SIZES = {"width": 32, "heads": 2, "point_width": 16, "query_width": 16, "color_width": 16, "tokens": 24}
LOCAL = VoxSetVAEConfig(anchor_resolution=8, truncation=0.1, **SIZES)
FULL = VoxSetVAEConfig(
    anchor_resolution=8, truncation=0.1, neighbours=0, point_neighbours=0, color_neighbours=0, **SIZES
)
OBJECTIVE = VoxSetVAEObjectiveConfig(least_tokens=8, sharp_queries=16, color_queries=32, truncation=0.1)


def balls(size: int = 3, points: int = 384) -> dict[str, Any]:
    """Balls of several radii, each of one colour, and distances to them."""
    generator = torch.Generator().manual_seed(0)
    radii = torch.linspace(0.2, 0.4, size).view(-1, 1, 1)
    normals = torch.nn.functional.normalize(torch.randn(size, points, 3, generator=generator), dim=-1)
    near = normals[:, :200] * (radii + 0.05 * torch.randn(size, 200, 1, generator=generator))
    volume = torch.rand(size, 100, 3, generator=generator) - 0.5
    return {
        "surface": normals * radii,
        "normals": normals,
        "surface_color": torch.linspace(0.1, 0.9, size * 3).view(size, 1, 3).expand(-1, points, -1),
        "sharp": normals[:, :96] * radii,
        "sharp_normals": normals[:, :96],
        "near": near,
        "near_sdf": near.norm(dim=-1) - radii[..., 0],
        "volume": volume,
        "volume_sdf": volume.norm(dim=-1) - radii[..., 0],
        "position": torch.arange(size),
    }


def rows(batch: dict[str, Any], which: slice) -> dict[str, Any]:
    return {key: value[which] for key, value in batch.items()}


@pytest.mark.parametrize("config", [LOCAL, FULL], ids=["neighbours", "full"])
def test_contract(config: VoxSetVAEConfig) -> None:
    model = woken(config)
    check_architecture(model, VoxSetVAEObjective(OBJECTIVE), balls())
    assert isinstance(model, Reconstructs)


def woken(config: VoxSetVAEConfig) -> VoxSetVAE:
    """A model whose heads, zero at first, say something."""
    torch.manual_seed(0)
    model = VoxSetVAE(config)
    for decoder in (model.shape_decoder, model.color_decoder):
        torch.nn.init.normal_(decoder.head.weight, std=0.1)
    return model.eval()


@pytest.mark.parametrize("config", [LOCAL, FULL], ids=["neighbours", "full"])
@torch.inference_mode()
def test_padding_changes_nothing(config: VoxSetVAEConfig) -> None:
    """A shape's latent and fields are the same alone and beside one with more tokens."""
    model, batch = woken(config), balls(2)
    together = model.anchors_of(batch["surface"], [9, 24], [5, 6])
    assert together.mask.sum(dim=1).tolist() == [9, 24]
    alone = model.anchors_of(batch["surface"][:1], 9, 5)
    latent, own = model.encode(batch, together), model.encode(rows(batch, slice(1)), alone)
    torch.testing.assert_close(latent[:1, :9], own, atol=1e-5, rtol=1e-4)
    assert not latent[0, 9:].any()
    fields = model.decode_fields(latent, *together, batch["near"])
    for one, other in zip(fields, model.decode_fields(own, *alone, batch["near"][:1]), strict=True):
        torch.testing.assert_close(one[:1], other, atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_the_order_of_tokens_does_not_matter() -> None:
    model, batch = woken(LOCAL), balls(1)
    anchors = model.anchors_of(batch["surface"])
    latent = model.encode(batch, anchors)
    order = torch.randperm(latent.shape[1])
    shuffled = Anchors(anchors.positions[:, order], anchors.mask[:, order])
    torch.testing.assert_close(model.encode(batch, shuffled), latent[:, order], atol=1e-5, rtol=1e-4)
    one = model.decode_fields(latent, *anchors, batch["near"])
    other = model.decode_fields(latent[:, order], *shuffled, batch["near"])
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_a_shape_does_not_depend_on_its_colors() -> None:
    model, batch = woken(LOCAL), balls(1)
    anchors = model.anchors_of(batch["surface"])
    shape = LOCAL.shape_channels
    plain = model.encode(batch, anchors)
    other = model.encode({**batch, "surface_color": 1 - batch["surface_color"]}, anchors)
    assert torch.equal(plain[..., :shape], other[..., :shape])
    assert not torch.equal(plain[..., shape:], other[..., shape:])


@torch.inference_mode()
def test_fields_are_continuous_where_neighbours_change() -> None:
    """Along a line that crosses many neighbourhoods no step is larger than a smooth field can make."""
    model, batch = woken(LOCAL), balls(1)
    anchors = model.anchors_of(batch["surface"])
    latent = model.encode(batch, anchors)
    line = torch.linspace(-0.3, 0.3, 4001)[None, :, None] * torch.tensor([1.0, 0.7, 0.4])
    x = model.shape_decoder(model.shape_of(latent), anchors, model.voxels(line))[0, :, 0]
    steps = x.diff().abs()
    assert x.std() > 1e-3
    assert steps.max() < 0.05 * (x.max() - x.min())


@torch.inference_mode()
def test_grids_say_what_fields_say() -> None:
    """Cell-centred, in the order x, y, z."""
    model, batch = woken(LOCAL), balls(1)
    anchors = model.anchors_of(batch["surface"])
    latent = model.encode(batch, anchors)
    for resolution in (8, 12):
        points = centres(resolution).view(1, -1, 3)
        sdf, color = model.decode_fields(latent, *anchors, points)
        grid = model.tsdf_grid(latent, *anchors, resolution)
        colors = model.color_grid(latent, *anchors, resolution)
        assert grid.shape == (1, 1, *[resolution] * 3) and colors.shape == (1, 3, *[resolution] * 3)
        torch.testing.assert_close(grid.flatten(), sdf.flatten(), atol=1e-5, rtol=1e-4)
        known = (colors != 0.5).all(dim=1).flatten()
        assert known.any()
        torch.testing.assert_close(colors.flatten(2)[0, :, known].T, color[0, known], atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_grids_are_made_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = woken(LOCAL), balls(2)
    anchors = model.anchors_of(batch["surface"])
    latent = model.encode(batch, anchors)
    whole = model.tsdf_grid(latent, *anchors, 16), model.color_grid(latent, *anchors, 16)
    monkeypatch.setattr(field_grid, "CHUNK", 500)
    for grids, ways in zip(whole, (model.tsdf_pieces, model.color_pieces), strict=True):
        for grid, pieces in zip(grids, ways(latent, anchors, 16), strict=True):
            pauses = 0
            while True:
                try:
                    next(pieces)
                except StopIteration as end:
                    torch.testing.assert_close(end.value, grid, atol=1e-5, rtol=1e-5)
                    break
                pauses += 1
            assert pauses > 2


class ExactBall(torch.nn.Module):
    """A decoder that knows the distance to a ball of radius 0.3, in truncations."""

    def __init__(self, truncation: float, side: int) -> None:
        super().__init__()
        self.truncation, self.side = truncation, side

    def tokens(self, latent: Tensor, anchors: Anchors) -> Tensor:
        return latent

    def values(self, tokens: Tensor, anchors: Anchors, places: Tensor) -> Tensor:
        points = (places + 0.5) / self.side - 0.5
        return (points.norm(dim=-1, keepdim=True) - 0.3) / self.truncation


@pytest.mark.parametrize("resolution", [64, 96])
def test_scale_is_exact(resolution: int) -> None:
    """The radius of a ball that is asked for cell by cell and extracted; the coarse grid leaves no cell out."""
    model = VoxSetVAE(VoxSetVAEConfig(**SIZES))
    model.shape_decoder = ExactBall(0.05, 16)
    latent, positions, mask = torch.zeros(1, 2, 12), torch.zeros(1, 2, 3), torch.ones(1, 2, dtype=torch.bool)
    grid = model.tsdf_grid(latent, positions, mask, resolution)
    exact = (centres(resolution).norm(dim=-1) - 0.3) / 0.05
    assert coarse_step(resolution, 0.05) > 1
    assert torch.equal(grid[0, 0] < 0, exact < 0)
    extract = plugins.build("decoders", {"name": "marching_cubes"})
    mesh, dense = extract(grid[0]), extract(exact)
    assert np.array_equal(mesh.faces, dense.faces)
    np.testing.assert_allclose(mesh.vertices, dense.vertices, atol=1e-5)
    radius = torch.from_numpy(mesh.vertices).norm(dim=1)
    assert abs(float(radius.mean()) / 0.3 - 1) < 0.003


def test_what_is_drawn_belongs_to_the_sample() -> None:
    model, objective, batch = VoxSetVAE(LOCAL).train(), VoxSetVAEObjective(OBJECTIVE), balls()
    with drawing(0, [4, 5, 6]):
        _, anchors, *_, noise = objective.inputs(model, batch)
    with drawing(0, [6]):
        _, own, *_, own_noise = objective.inputs(model, rows(batch, slice(2, 3)))
    count = int(own.mask.sum())
    assert int(anchors.mask[2].sum()) == count
    assert torch.equal(own.positions[0, :count], anchors.positions[2, :count])
    assert torch.equal(own_noise[0, :count], noise[2, :count])
    moved = anchors.positions[anchors.mask]
    assert 0 < (moved - moved.round()).abs().max() <= 0.5
    assert len(objective.inputs(model.eval(), batch)) == 4, "no noise outside training"


def test_counts_of_tokens_vary_in_training() -> None:
    model = VoxSetVAE(LOCAL).train()
    objective = VoxSetVAEObjective(VoxSetVAEObjectiveConfig(least_tokens=4, fewer=1.0))
    points = balls(1)["surface"].expand(40, -1, -1)
    with drawing(1, list(range(40))):
        counts = objective.random_anchors(model, points).mask.sum(dim=1)
    assert counts.min() < 10 and counts.max() > 18 and counts.unique().numel() > 8


def test_beyond_the_truncation_only_the_side_counts() -> None:
    predicted = torch.tensor([0.2, 5.0, -5.0, 0.5, -3.0])
    target = torch.tensor([0.5, 1.0, 1.0, 1.0, -1.0])
    torch.testing.assert_close(truncated_l1(predicted, target), torch.tensor([0.3, 0.0, 6.0, 0.5, 0.0]))


def test_learns_balls() -> None:
    torch.manual_seed(0)
    config = VoxSetVAEObjectiveConfig(truncation=0.1, sharp_queries=0, color_queries=32, fewer=0, jitter=0)
    model, objective, batch = VoxSetVAE(LOCAL), VoxSetVAEObjective(config), balls()
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    losses = []
    for step in range(100):
        with drawing(0, [3 * step, 3 * step + 1, 3 * step + 2]):
            terms = objective(model.train(), batch)
        optimizer.zero_grad()
        terms["loss"].backward()
        optimizer.step()
        losses.append(terms["sdf"].item())
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])
    made = model.eval().reconstruct(batch)
    assert [one.positions for one in made] == model.anchors_of(batch["surface"]).mask.sum(dim=1).tolist()
    radii = [float(torch.from_numpy(one.mesh.vertices).norm(dim=1).mean()) for one in made if one.mesh]
    assert radii == pytest.approx([0.2, 0.3, 0.4], abs=0.03)


@torch.inference_mode()
def test_gray_and_smooth_surfaces_need_no_more_fields() -> None:
    model, batch = woken(LOCAL), balls(1)
    anchors = model.anchors_of(batch["surface"])
    gray = {**batch, "surface_color": torch.full_like(batch["surface"], 0.5)}
    for key in ("sharp", "sharp_normals"):
        del gray[key]
    least = {key: batch[key] for key in ("surface", "normals")}
    assert torch.equal(model.encode(gray, anchors), model.encode(least, anchors))
    assert torch.equal(model.encode(SurfaceCloud.of_batch(least), anchors), model.encode(least, anchors))


@pytest.mark.parametrize("change", [{"width": 31}, {"query_width": 10}, {"tokens": 0}])
def test_sizes_that_do_not_fit_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(MaquetteError, match="voxset_vae"):
        VoxSetVAE(VoxSetVAEConfig(**{**SIZES, "heads": 4, **change}))


@pytest.mark.parametrize(("name", "least", "most"), [("voxset_vae", 5e5, 1e6), ("voxset_vae_base", 3e8, 3.5e8)])
def test_configs_build_one_class(name: str, least: float, most: float) -> None:
    node = load(RunConfig, read_yaml(CONFIGS / f"{name}.yaml"))
    set_facts({"truncation": 0.05})
    with torch.device("meta"):
        model = plugins.build("architectures", resolve_block(node, "model"))
        batch = model.example_batch(2)
    objective = plugins.build("objectives", resolve_block(node, "objective"))
    assert type(model) is VoxSetVAE and objective.config.truncation == model.config.truncation
    assert least < sum(parameter.numel() for parameter in model.parameters()) < most
    assert model.flops(batch) == 2 * model.flops(model.example_batch(1)) > 0
    assert batch["surface"].shape[1] == node.data.windows.surface, "as many points as there are tokens for"
