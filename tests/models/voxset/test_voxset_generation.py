"""From toy surfaces to token latents, and from requests to meshes."""

from __future__ import annotations

import shutil
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maquette import plugins
from maquette.assets import open_pipeline
from maquette.errors import MaquetteError
from maquette.runs import load_run
from maquette.testing import check_dataset, check_pipeline, check_pipeline_on_device, on_stand_in_device
from maquette.types import Asset, Request
from maquette_models.adapters import low_rank
from maquette_models.adapters.adapter_file import Adapter, write_adapter
from maquette_models.adapters.vocabulary import NewWords
from maquette_models.voxset.anchors import Anchors, surface_voxels
from maquette_models.voxset.latents import VoxSetLatents, mirrored
from maquette_models.voxset.pipeline import VoxSet, VoxSetConfig
from tests.models.voxset import toy_autoencoder, toy_surfaces

toy_surfaces.install()
toy_autoencoder.install()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs `autoencoder`, `structure` and `flow`."""
    root = tmp_path_factory.mktemp("runs")
    toy_autoencoder.train_all(root)
    return root


@pytest.fixture(scope="module")
def pipeline(runs: Path) -> VoxSet:
    return open_pipeline(runs / "flow")


def dataset(runs: Path, **changes: Any) -> VoxSetLatents:
    block = {"name": "voxset_latents", "shards": "toy", "reader": "toy_surfaces", "tokens": 12, "batch_size": 8}
    data = plugins.build("datasets", {**block, "autoencoder": str(runs / "autoencoder"), **changes})
    data.setup("fit")
    return data


def test_dataset_contract(runs: Path) -> None:
    check_dataset(lambda: dataset(runs), batches=10)


def test_latents_are_those_of_the_autoencoder_at_anchors_of_the_shape(runs: Path) -> None:
    data = dataset(runs)
    part = data.val_dataloader()[0]
    raw = toy_surfaces.batch([toy_surfaces.Toy(int(name.removeprefix("toy-"))) for name in part["id"]])
    positions, mask = part["positions"], part["token_mask"]
    assert positions.shape[1] <= 12 and mask.any(dim=1).all()
    for points, own, keep in zip(raw["surface"], positions, mask, strict=True):
        voxels = {tuple(voxel) for voxel in surface_voxels(points, 8).tolist()}
        chosen = [tuple(voxel) for voxel in own[keep].int().tolist()]
        assert len(set(chosen)) == len(chosen) == min(12, len(voxels)) and set(chosen) <= voxels
    expected = load_run(runs / "autoencoder").model.encode(raw, Anchors(positions, mask))
    mean, std = (torch.tensor(data.facts()[key]) for key in ("latent_mean", "latent_std"))
    torch.testing.assert_close((part["latent"] * std + mean)[mask], expected[mask], atol=1e-5, rtol=1e-4)
    assert not part["latent"][~mask].any()


def test_latents_are_encoded_on_another_device(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "autoencoder", tmp_path / "autoencoder", ignore=shutil.ignore_patterns("*latents-*"))
    before = dataset(runs).splits["val"]
    made, _ = on_stand_in_device(lambda: dataset(tmp_path).splits["val"])
    assert made.latent.device.type == "cpu" and torch.equal(made.voxels, before.voxels)
    torch.testing.assert_close(made.latent, before.latent, atol=1e-4, rtol=1e-4)


def test_latents_are_normalised_mirrored_and_varied(runs: Path) -> None:
    data = dataset(runs, variants=2)
    train = data.splits["train"]
    originals = [name for name in train.id if not name.endswith("-mirrored")]
    count = len(set(originals))
    assert len(train) == 2 * len(originals) == 4 * count
    parts = islice(data.train_dataloader(), len(train) // 8)
    latent = torch.cat([part["latent"][part["token_mask"]] for part in parts])
    torch.testing.assert_close(latent.mean(dim=0), torch.zeros(6), atol=0.05, rtol=0)
    torch.testing.assert_close(latent.std(dim=0), torch.ones(6), atol=0.05, rtol=0)
    first, second = (train.voxels[train.offsets[row] : train.offsets[row + 1]] for row in (0, count))
    assert train.id[0] == train.id[count] and not torch.equal(first, second), "other anchors of the same shape"
    assert len(dataset(runs, mirror=False).splits["train"]) == count


def test_encoding_happens_once(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = dataset(runs)
    monkeypatch.setattr(VoxSetLatents, "encode_split", lambda *_: pytest.fail("encoded again"))
    other = dataset(runs)
    for name in ("latent", "voxels", "offsets"):
        assert torch.equal(getattr(one.splits["train"], name), getattr(other.splits["train"], name))


def test_mirroring_turns_points_and_normals_alone() -> None:
    batch = toy_surfaces.batch([toy_surfaces.Toy(1)])
    twin = mirrored(batch)
    assert torch.equal(twin["surface"], batch["surface"] * torch.tensor([-1.0, 1, 1]))
    assert torch.equal(twin["surface_color"], batch["surface_color"]) and twin["id"] == ["toy-1-mirrored"]


def test_pipeline_contract(runs: Path) -> None:
    check_pipeline(open_pipeline(runs / "flow"), Request("a tall red box", 2))


def test_models_compute_on_another_device(runs: Path) -> None:
    check_pipeline_on_device(lambda: open_pipeline(runs / "flow"), Request("a tall red box", 2, steps=3))


def test_a_mesh_depends_on_its_request_alone(pipeline: VoxSet) -> None:
    """Beside others with other prompts, seeds, guidance, steps and tokens, and in other groups: the same bits."""
    requests = [
        Request("a tall red box", 3),
        Request("a flat blue ball", 4, guidance=1.0),
        Request("", 3, steps=2),
        Request("a ball", 5, options={"tokens": 7}),
        Request("a tall red box", 6, options={"structure_steps": 2}),
    ]
    together = pipeline.batch(requests)
    alone = [pipeline(request) for request in requests]
    assert all(isinstance(asset, Asset) for asset in together)
    for one, other in zip(together, alone, strict=True):
        assert one.metadata == other.metadata
        assert np.array_equal(one.mesh.vertices, other.mesh.vertices)
        assert np.array_equal(one.mesh.colors, other.mesh.colors)
    hashes = [asset.metadata["latent_sha256"] for asset in together]
    assert len(set(hashes)) == len(hashes)


def test_tokens_are_chosen_at_sampling_time(pipeline: VoxSet) -> None:
    """Fewer anchors are the first of more, and a structure with fewer voxels gives all it has."""
    requests = [Request("a box", 1, options={"tokens": count}) for count in (5, 600)]
    few, most = (pipeline.anchors(request, 1) for request in requests)
    assert len(few) == 5 < len(most) <= 8**3 and torch.equal(few, most[:5])
    assert len(most.unique(dim=0)) == len(most)
    assert pipeline(requests[0]).metadata["tokens"] == 5


@pytest.mark.parametrize("tokens", [0, -1, 2.5, "many"])
def test_no_number_of_tokens_is_refused(pipeline: VoxSet, tokens: Any) -> None:
    with pytest.raises(MaquetteError, match="tokens"):
        pipeline(Request("a box", options={"tokens": tokens}))


def test_refusals_stand_in_their_requests_places(pipeline: VoxSet) -> None:
    results = pipeline.batch([Request("a box"), Request(class_name="sofa"), Request("a ball")])
    assert [type(result) for result in results] == [Asset, MaquetteError, Asset]


def test_structures_of_another_grid_and_other_latents_are_refused(pipeline: VoxSet, runs: Path) -> None:
    with pytest.raises(MaquetteError, match="not trained on latents"):
        VoxSet(VoxSetConfig(str(runs / "structure"), str(runs / "structure")))
    with pytest.raises(MaquetteError, match=r"8 cells a side, but .* have 4"):
        changed = runs.parent / "other"
        shutil.copytree(runs, changed)
        file = changed / "autoencoder" / "config.yaml"
        file.write_text(file.read_text().replace("anchor_resolution: 8", "anchor_resolution: 4"))
        open_pipeline(changed / "flow")


def test_adapters_are_those_of_the_latents_and_the_structure_knows_none(runs: Path, tmp_path: Path) -> None:
    pipeline = open_pipeline(runs / "flow")
    nothing = NewWords((), (), torch.empty(0, 0), torch.empty(0, 0))
    layer = low_rank.matching_layers(pipeline.model, ["layers.*"])[0]
    up, down = pipeline.model.get_submodule(layer).weight.shape
    draw = torch.Generator().manual_seed(0)
    change = low_rank.LowRankChange(torch.randn(1, down, generator=draw), torch.randn(up, 1, generator=draw))
    write_adapter(Adapter(pipeline.base_sha256, {layer: change}, nothing), tmp_path / "odd.safetensors")
    pipeline.register_adapters(tmp_path)
    plain, worn = (Request("a ball", seed=2, options={"tokens": 12, **more}) for more in ({}, {"adapter": "odd"}))
    before, changed, after = (pipeline.sample(pipeline.dressed(each), 2) for each in (plain, worn, plain))
    assert torch.equal(before.positions, changed.positions) and torch.equal(before.latent, after.latent)
    assert not torch.allclose(before.latent, changed.latent)
