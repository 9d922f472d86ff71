"""From shards to latents to a flow to meshes, with runs of a few steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maquette import plugins
from maquette.assets import open_pipeline
from maquette.config import RunConfig, load, read_yaml
from maquette.errors import MaquetteError
from maquette.runner import train
from maquette.runs import load_run
from maquette.testing import check_dataset, check_pipeline_on_device, on_stand_in_device
from maquette.types import Asset, Request
from maquette_models.shards import read_shards
from maquette_models.sparse_voxels.sparse_latents import SparseLatents, SparseLatentsConfig
from maquette_models.sparse_voxels.surface_features import FIELDS

CONFIGS = Path(__file__).parents[3] / "examples" / "configs"
SMALL_FLOW = {"width": 24, "depth": 2, "heads": 2, "conditioner": {"width": 16, "heads": 2}}
SHORT = {"steps": 2, "precision": "fp32", "ema_decays": [0.9]}


def run(name: str, out: Path, **blocks: Any) -> Path:
    """A run of a shipped config in the folder `out`, made small and short."""
    given = {
        "folder": str(out / name),
        "train": SHORT,
        "optimizer": {"warmup_steps": 1},
        "loggers": ["csv"],
        **blocks,
    }
    return train(load(RunConfig, read_yaml(CONFIGS / f"{name}.yaml"), given)).path


@pytest.fixture(scope="module")
def folder(shards: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of the three configs, beside each other: latent grids of four cells a side."""
    out = tmp_path_factory.mktemp("runs")
    branch = {"widths": [8, 16, 16], "depths": [0, 0, 1]}
    model = {"shape": {**branch, "channels": 3}, "paint": {**branch, "channels": 2}}
    autoencoder = run(
        "sparse_vae", out, data={"folder": shards, "points": 512}, model=model, train={**SHORT, "steps": 60}
    )
    run("sparse_structure", out, data={"shards": shards, "resolution": 4}, model={**SMALL_FLOW, "patch": 2})
    run("sparse_dit", out, data={"shards": shards, "autoencoder": str(autoencoder)}, model=SMALL_FLOW)
    return out


def latents(shards: str, folder: Path, **settings: Any) -> SparseLatents:
    made = SparseLatents(SparseLatentsConfig(shards=shards, autoencoder=str(folder / "sparse_vae"), **settings))
    made.setup()
    return made


def test_latents_are_those_of_the_autoencoder(shards: str, folder: Path) -> None:
    data = latents(shards, folder, batch_size=4, mirror=False)
    model = load_run(folder / "sparse_vae").model
    batch = next(iter(data.train_dataloader()))
    shapes = {
        name: surface
        for part in read_shards(shards, "train", fields=FIELDS, points=0)
        for name, surface in zip(part["id"], model.surfaces(part), strict=True)
    }
    for row, name in enumerate(batch["id"]):
        encoded = model.encode([shapes[name]])
        mask = batch["token_mask"][row]
        assert torch.equal(batch["positions"][row][mask], encoded.coords[:, 1:].float())
        torch.testing.assert_close(
            batch["latent"][row][mask] * data.std + data.mean, encoded.features.detach(), atol=1e-4, rtol=1e-4
        )
        assert (batch["latent"][row][~mask] == 0).all()


def test_latents_are_normalised_and_said_in_facts(shards: str, folder: Path) -> None:
    data = latents(shards, folder, batch_size=4)
    train = data.splits["train"]
    values = (train.latent - data.mean) / data.std
    assert values.mean(dim=0).abs().max() < 1e-4 and (values.std(dim=0) - 1).abs().max() < 1e-3
    facts = data.facts()
    assert (facts["latent_channels"], facts["latent_resolution"]) == (5, 4)
    assert facts["tokens"] == int(train.counts.max())


def test_mirrored_twins_stand_behind_their_originals(shards: str, folder: Path) -> None:
    train = latents(shards, folder).splits["train"]
    half = len(train) // 2
    assert train.id[half:] == [f"{name}-mirrored" for name in train.id[:half]]
    _, voxels, mask = train.padded([0, half], 64)
    one, twin = (set(map(tuple, voxels[i][mask[i]].tolist())) for i in (0, 1))
    assert {(3 - x, y, z) for x, y, z in one} == twin


def test_dataset_contract(shards: str, folder: Path) -> None:
    autoencoder = str(folder / "sparse_vae")
    check_dataset(lambda: SparseLatents(SparseLatentsConfig(shards=shards, autoencoder=autoencoder, batch_size=4)))


def test_a_damaged_cache_is_made_anew(shards: str, folder: Path) -> None:
    before = latents(shards, folder, mirror=False).splits["val"].latent
    caches = list((folder / "sparse_vae").glob("sparse-latents-*.safetensors"))
    assert caches
    for cache in caches:
        cache.unlink()  # the file is mapped: another one in its place, not other bytes in it
        cache.write_bytes(b"broken")
    assert torch.equal(latents(shards, folder, mirror=False).splits["val"].latent, before)


def test_latents_are_encoded_on_another_device(shards: str, folder: Path) -> None:
    before = latents(shards, folder, mirror=False).splits["val"]
    for cache in (folder / "sparse_vae").glob("sparse-latents-*.safetensors"):
        cache.unlink()
    made, _ = on_stand_in_device(lambda: latents(shards, folder, mirror=False).splits["val"])
    assert made.latent.device.type == "cpu" and torch.equal(made.voxels, before.voxels)
    torch.testing.assert_close(made.latent, before.latent, atol=1e-4, rtol=1e-4)


def test_models_compute_on_another_device(folder: Path) -> None:
    pipeline = open_pipeline(folder / "sparse_dit")
    asked = next(
        r
        for r in (Request("a red chair", seed, steps=3) for seed in range(9))
        if isinstance(pipeline.batch([r])[0], Asset)
    )
    check_pipeline_on_device(lambda: open_pipeline(folder / "sparse_dit"), asked)


def test_a_mesh_depends_on_its_request_alone(folder: Path) -> None:
    pipeline = open_pipeline(folder / "sparse_dit")
    requests = [Request("a red chair", seed) for seed in (1, 2)] + [Request("a blue table", 1, guidance=1.0, steps=3)]
    together = pipeline.batch(requests)
    made = [asset for asset in together if isinstance(asset, Asset)]
    assert made, together
    for request, asset in zip(requests, together, strict=True):
        if isinstance(asset, Asset):
            alone = pipeline(request)
            assert np.array_equal(alone.mesh.vertices, asset.mesh.vertices)
            assert np.array_equal(alone.mesh.colors, asset.mesh.colors)
            assert alone.metadata == asset.metadata
    assert len({asset.metadata["latent_sha256"] for asset in made}) == len(made), "other seeds, other shapes"


def test_requests_are_followed_or_refused(folder: Path) -> None:
    pipeline = open_pipeline(folder / "sparse_dit", {"shape_stage": {"guidance": 2.0}})
    latent = pipeline.sample(Request("a chair", 3), 3)
    same = pipeline.sample(Request("a chair", 3, guidance=2.0), 3)
    other = pipeline.sample(Request("a chair", 3, options={"structure_steps": 1}), 3)
    assert torch.equal(latent.features, same.features)
    assert latent.coords.shape != other.coords.shape or not torch.equal(latent.coords, other.coords)
    failed = pipeline.batch([Request("a chair", class_name="dragon")])[0]
    assert isinstance(failed, MaquetteError) and "dragon" in str(failed)


def test_grids_that_do_not_fit_are_refused(shards: str, folder: Path) -> None:
    wide = {"data": {"shards": shards, "resolution": 8}, "model": {**SMALL_FLOW, "patch": 4}}
    run("sparse_structure", folder, **wide, folder=str(folder / "wide"))
    block = {"name": "sparse_voxels", "run": str(folder / "sparse_dit")}
    with pytest.raises(MaquetteError, match="8 cells a side"):
        plugins.build("pipelines", {**block, "structure": str(folder / "wide")})
