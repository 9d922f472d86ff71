"""The autoencoder of voxel surfaces: shapes, structure, independence of a batch's shapes, that it learns."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from maquette.engine.randomness import drawing
from maquette.errors import MaquetteError
from maquette.testing import check_architecture
from maquette_models.reconstructs import Reconstructs
from maquette_models.shards import read_shards
from maquette_models.sparse_voxels.branches import BranchConfig
from maquette_models.sparse_voxels.sparse_vae import SparseVAE, SparseVAEConfig
from maquette_models.sparse_voxels.sparse_vae_objective import SparseVAEObjective, SparseVAEObjectiveConfig
from maquette_models.sparse_voxels.surface_features import FIELDS, batch_surfaces, sparse_surfaces, split_surfaces
from maquette_models.sparse_voxels.voxel_surface import encode_mesh

SMALL = SparseVAEConfig(
    resolution=16,
    shape=BranchConfig(widths=[8, 16, 16], depths=[1, 1, 1], channels=3),
    paint=BranchConfig(widths=[4, 8, 8], depths=[0, 0, 1], channels=2),
)


@pytest.fixture(scope="module")
def batch(shards: str) -> dict[str, Any]:
    return {key: value[:3] for key, value in next(read_shards(shards, "train", fields=FIELDS, points=0)).items()}


def objective(**weights: float) -> SparseVAEObjective:
    return SparseVAEObjective(SparseVAEObjectiveConfig(**weights))


def test_features_hold_all_of_a_surface(batch: dict[str, Any]) -> None:
    surfaces = batch_surfaces(batch, 16)
    assert [len(surface) for surface in surfaces] == batch["dual_voxels_mask"].sum(dim=1).tolist()
    joined = sparse_surfaces(surfaces)
    for one, other in zip(split_surfaces(joined, 16), surfaces, strict=True):
        assert torch.equal(one.voxels, other.voxels) and torch.equal(one.edges, other.edges)
        assert torch.equal(one.signs & one.edges, other.signs & other.edges)
        for name in ("points", "color", "material"):
            torch.testing.assert_close(getattr(one, name), getattr(other, name), atol=1e-6, rtol=0)


def test_a_missing_field_is_said(batch: dict[str, Any]) -> None:
    with pytest.raises(MaquetteError, match="dual_points"):
        batch_surfaces({key: value for key, value in batch.items() if key != "dual_points"}, 16)


def test_shapes_and_structure(batch: dict[str, Any]) -> None:
    model = SparseVAE(SMALL).eval()
    x = sparse_surfaces(model.surfaces(batch))
    output = model(x)
    latent = model.encode(model.surfaces(batch))
    assert model.latent_resolution == 4 and latent.stride == 4
    assert torch.equal(latent.coords, torch.unique(torch.cat([x.coords[:, :1], x.coords[:, 1:] >> 2], dim=1), dim=0))
    assert output.features.shape == (len(x.coords), 14) and output.mean.shape == (len(latent.coords), 5)
    assert [len(level) for level in output.present] == [len(latent.coords), int(output.present[0].sum())]
    assert int(output.present[1].sum()) == len(x.coords), "the children of all levels are the voxels there are"
    torch.testing.assert_close(output.mean, latent.features)


def test_a_shape_does_not_depend_on_the_others(batch: dict[str, Any]) -> None:
    model = SparseVAE(SMALL).eval()
    surfaces = model.surfaces(batch)
    together, alone = model.encode(surfaces), model.encode(surfaces[1:2])
    own = together.coords[:, 0] == 1
    torch.testing.assert_close(together.features[own], alone.features)


def test_noise_belongs_to_a_sample_and_a_cell(batch: dict[str, Any]) -> None:
    model, data = SparseVAE(SMALL), {key: value for key, value in batch.items()}
    with drawing(0, [4, 5, 6]):
        noise = objective().arguments(model, data)[1]
    with drawing(0, [6]):
        assert torch.equal(objective().arguments(model, {key: value[2:] for key, value in data.items()})[1], noise[2:])
    assert objective().arguments(model.eval(), data)[1] is None


def test_architecture_contract(batch: dict[str, Any]) -> None:
    check_architecture(SparseVAE(SMALL), objective(), batch)
    assert isinstance(SparseVAE(SMALL), Reconstructs)


def trained(batch: dict[str, Any], steps: int) -> tuple[SparseVAE, list[dict[str, Tensor]]]:
    torch.manual_seed(0)
    model = SparseVAE(
        SparseVAEConfig(
            resolution=16,
            shape=BranchConfig(widths=[16, 32], depths=[1, 1], channels=16),
            paint=BranchConfig(widths=[8, 16], depths=[0, 1], channels=4),
        )
    )
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    terms = []
    for _ in range(steps):
        terms.append(objective(kl=0.0)(model.eval(), batch))
        optimizer.zero_grad()
        terms[-1]["loss"].backward()
        optimizer.step()
    return model.eval(), terms


def test_it_learns_a_batch_and_its_own_structure_then_holds(batch: dict[str, Any]) -> None:
    """With the predicted children in the stead of the true ones."""
    model, terms = trained(batch, 120)
    assert terms[-1]["loss"] < 0.25 * terms[0]["loss"]
    true = model.surfaces(batch)
    for one, other in zip(model.decode(model.encode(true)), true, strict=True):
        mine, theirs = (set(map(tuple, surface.voxels.tolist())) for surface in (one, other))
        assert len(mine & theirs) / len(mine | theirs) > 0.98
    back = model.reconstruct(batch)
    assert all(one.mesh is not None and one.mesh.colors is not None and one.tsdf is None for one in back)
    assert [one.positions for one in back] == model.encode(true).coords[:, 0].bincount().tolist()


def test_perfect_outputs_cost_nothing(batch: dict[str, Any]) -> None:
    model = SparseVAE(SMALL).eval()
    x = sparse_surfaces(model.surfaces(batch))
    output = model(x)
    sure = x.features.clone()
    sure[:, 3:9] *= 100  # edges and signs are logits
    perfect = output._replace(
        features=sure,
        subdivision=tuple(200.0 * there - 100 for there in output.present),
        mean=torch.zeros_like(output.mean),
        logvar=torch.zeros_like(output.logvar),
    )
    terms = objective().terms(perfect, x)
    assert terms["loss"] < 1e-6
    worse = objective().terms(perfect._replace(subdivision=tuple(-logits for logits in perfect.subdivision)), x)
    assert worse["subdivision"] > 10 and worse["edges"] == terms["edges"]


def test_nothing_of_an_empty_decoder_is_a_mesh(batch: dict[str, Any]) -> None:
    """A decoder that says that no voxel has children."""
    model = SparseVAE(SMALL).eval()
    for split in model.shape_decoder.splits:
        torch.nn.init.constant_(split[1].bias, -100)
    assert [one.mesh for one in model.reconstruct(batch)] == [None] * 3


def test_meshes_go_through_it_without_shards(meshes: SimpleNamespace) -> None:
    model = SparseVAE(SMALL).eval()
    latent = model.encode([encode_mesh(meshes.sphere(0.3), 16), encode_mesh(meshes.sheet(), 16)])
    assert latent.batch_size == 2 and latent.features.isfinite().all()


def test_flops_count_each_level_once(batch: dict[str, Any]) -> None:
    """By hand, for one level above the voxels and no blocks."""
    shape, paint = BranchConfig([8, 16], [0, 0], 4), BranchConfig([4, 8], [0, 0], 2)
    model = SparseVAE(SparseVAEConfig(resolution=16, shape=shape, paint=paint))
    fine, coarse = int(batch["dual_voxels_mask"].sum()), len(model.encode(model.surfaces(batch)).coords)
    by_fine = 9 * 8 + 5 * 4 + 8 * 9 + 4 * 5
    encoding = 64 * 16 + 16 * 8 + 32 * 8 + 8 * 4
    decoding = 27 * 4 * 16 + 16 * 8 + 16 * 64 + 27 * 6 * 8 + 8 * 32
    assert model.flops(batch) == 2 * (fine * by_fine + coarse * (encoding + decoding))


UNEVEN = BranchConfig(widths=[16, 32], depths=[1])


@pytest.mark.parametrize(
    "config", [SparseVAEConfig(shape=BranchConfig([16], [1])), SparseVAEConfig(shape=UNEVEN), SparseVAEConfig(18)]
)
def test_sizes_that_do_not_fit_are_refused(config: SparseVAEConfig) -> None:
    with pytest.raises(MaquetteError, match="sparse_vae"):
        SparseVAE(config)
