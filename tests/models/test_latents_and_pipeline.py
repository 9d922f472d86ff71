"""From toy shapes through both trainings to assets: latents, their cache and position, the pipeline's
determinism."""

from __future__ import annotations

import dataclasses
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
from maquette.types import Request
from maquette_models.latents import latents
from maquette_models.latents.latents import Latents, LatentsConfig
from maquette_models.shards import read_shards
from tests.models import toy_shapes as toy

toy.install()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained `autoencoder` and a trained `flow`."""
    root = tmp_path_factory.mktemp("runs")
    toy.train_autoencoder(root / "autoencoder", steps=60)
    toy.train_flow(root / "flow", root / "autoencoder", steps=40)
    return root


def dataset(runs: Path, **changes: Any) -> Latents:
    settings = {
        "shards": "toy",
        "autoencoder": str(runs / "autoencoder"),
        "reader": "toy_shapes",
        "batch_size": 4,
    }
    return plugins.build("datasets", {"name": "latents", **settings, **changes})


def ready(data: Latents) -> Latents:
    data.setup("fit")
    return data


def test_reading_gives_every_shape_once() -> None:
    train = [name for part in read_shards("toy", "train", "toy_shapes") for name in part["id"]]
    held_out = [name for part in read_shards("toy", "val", "toy_shapes") for name in part["id"]]
    assert len(train) == len(set(train)) == 18
    assert sorted(train + held_out) == sorted(f"toy-{n}" for n in range(24))
    with pytest.raises(MaquetteError, match="split"):
        next(read_shards("toy", "test", "toy_shapes"))


def test_dataset_contract(runs: Path) -> None:
    check_dataset(lambda: dataset(runs), batches=25)


def test_latents_are_those_of_the_autoencoder(runs: Path) -> None:
    data = ready(dataset(runs))
    part = next(iter(data.val_dataloader()))
    raw = toy.batch([int(name.removeprefix("toy-")) for name in part["id"]])
    expected = load_run(runs / "autoencoder").model.encode(raw["tsdf"], raw["color"])
    mean, std = (torch.tensor(data.facts()[key]).view(1, -1, 1, 1, 1) for key in ("latent_mean", "latent_std"))
    torch.testing.assert_close(part["latent"] * std + mean, expected, atol=1e-4, rtol=1e-4)
    assert part["caption"] == raw["caption"]
    assert torch.equal(part["class_id"], raw["class_id"])


def test_latents_are_normalised_and_mirrored(runs: Path) -> None:
    data = ready(dataset(runs))
    epoch = list(islice(data.train_dataloader(), 9))
    names = [name for part in epoch for name in part["id"]]
    assert len(set(names)) == 36 and sum(name.endswith("-mirrored") for name in names) == 18
    together = torch.cat([part["latent"] for part in epoch])
    torch.testing.assert_close(together.mean(dim=(0, 2, 3, 4)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(together.std(dim=(0, 2, 3, 4)), torch.ones(3), atol=1e-3, rtol=0)
    assert len(ready(dataset(runs, mirror=False)).splits["train"]) == 18


def test_order_is_a_function_of_seed_and_epoch(runs: Path) -> None:
    one, two, other = (ready(dataset(runs, seed=seed)) for seed in (0, 0, 1))
    for data in (one, two, other):
        data.rows = [data.row(position) for position in range(72)]
    assert one.rows == two.rows != other.rows
    assert sorted(one.rows[:36]) == sorted(one.rows[36:]) == list(range(36))
    assert one.rows[:36] != one.rows[36:]


def test_state_resumes_at_another_batch_size(runs: Path) -> None:
    whole, begun = ready(dataset(runs)), ready(dataset(runs))
    ids = [name for part in islice(whole.train_dataloader(), 30) for name in part["id"]]
    list(islice(begun.train_dataloader(), 10))
    resumed = ready(dataset(runs, batch_size=8))
    resumed.load_state_dict(begun.state_dict())
    assert [name for part in islice(resumed.train_dataloader(), 10) for name in part["id"]] == ids[40:]


def test_positions_name_samples_of_the_endless_sequence(runs: Path) -> None:
    """The same at any number of ranks, and after resuming."""

    def by_position(rank: int, world: int, consumed: int = 0) -> dict[int, str]:
        data = dataset(runs, batch_size=4)
        data.rank, data.world = rank, world
        ready(data).load_state_dict({"consumed": consumed})
        parts = list(islice(data.train_dataloader(), (48 - consumed) // 4))
        return {
            place: name for part in parts for place, name in zip(part["position"].tolist(), part["id"], strict=True)
        }

    whole = by_position(0, 1)
    assert sorted(whole) == list(range(48))
    assert by_position(0, 2) | by_position(1, 2) == whole
    assert by_position(0, 1, consumed=20).items() <= whole.items()
    held_out = [place for part in ready(dataset(runs)).val_dataloader() for place in part["position"].tolist()]
    assert held_out == list(range(6))


def test_cache_is_used_and_renewed(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "autoencoder"
    shutil.copytree(runs / "autoencoder", copy)
    for old in copy.glob("latents-*"):
        old.unlink()
    first = ready(dataset(tmp_path))
    (cache,) = copy.glob("latents-*.safetensors")
    written = cache.stat().st_mtime_ns
    again = ready(dataset(tmp_path))
    assert cache.stat().st_mtime_ns == written
    assert torch.equal(first.splits["train"].latent, again.splits["train"].latent)
    cache.write_bytes(b"damaged")
    repaired = ready(dataset(tmp_path))
    assert torch.equal(first.splits["train"].latent, repaired.splits["train"].latent)
    assert cache.stat().st_size > 1000
    cache.unlink()
    there, _ = on_stand_in_device(lambda: ready(dataset(tmp_path)))
    assert there.splits["train"].latent.device.type == "cpu"
    torch.testing.assert_close(there.splits["train"].latent, first.splits["train"].latent)
    ready(dataset(tmp_path, mirror=False))
    assert len(list(copy.glob("latents-*.safetensors"))) == 2


def test_batches_that_ranks_cannot_share_are_refused(runs: Path) -> None:
    data = dataset(runs, batch_size=3)
    data.world = 2
    with pytest.raises(MaquetteError, match="shared"):
        data.setup("fit")
    with pytest.raises(MaquetteError, match="batch_size"):
        Latents(LatentsConfig(batch_size=0))
    assert latents.READER == "shards"


@pytest.fixture(scope="module")
def pipeline(runs: Path) -> Any:
    return open_pipeline(runs / "flow")


def test_pipeline_contract(pipeline: Any) -> None:
    check_pipeline(pipeline, Request(prompt="a red ball", seed=3))


def test_models_compute_on_another_device(runs: Path) -> None:
    asked = Request(prompt="a red ball", seed=3, steps=4, options={"cache": 0.3})
    check_pipeline_on_device(lambda: open_pipeline(runs / "flow"), asked)

    def small() -> Any:
        pipeline = open_pipeline(runs / "flow", {"sampler": {"name": "unipc", "steps": 4}, "rescale": 0.5})
        pipeline.use_weights("int8")
        return pipeline

    check_pipeline_on_device(small, Request(prompt="a red ball", seed=3))


def test_requests_do_not_disturb_each_other(pipeline: Any) -> None:
    requests = [
        Request(prompt="a red ball", seed=1),
        Request(prompt="a blue box", seed=2, guidance=1.0),
        Request(prompt="", seed=1, class_name="box"),
        Request(prompt="a red ball", seed=4, steps=2),
    ]
    together = pipeline.batch(requests)
    for request, asset in zip(requests, together, strict=True):
        alone = pipeline(request)
        assert asset.mesh.vertices.shape == alone.mesh.vertices.shape
        np.testing.assert_allclose(asset.mesh.vertices, alone.mesh.vertices, atol=1e-4)
    assert len({asset.metadata["latent_sha256"] for asset in together}) == 4


def test_metadata(pipeline: Any) -> None:
    asset = pipeline(Request(prompt="a shiny red BOX", seed=9, steps=3, guidance=1.5))
    expected = {"prompt": "a shiny red BOX", "class_name": "box", "seed": 9, "steps": 3, "guidance": 1.5}
    assert {key: asset.metadata[key] for key in expected} == expected
    assert asset.metadata["unknown_words"] == ["shiny"]
    assert len(asset.metadata["latent_sha256"]) == 64


def test_requests_leave_the_global_generator_alone(pipeline: Any) -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    pipeline(Request(prompt="a red ball"))
    assert torch.equal(torch.rand(3), expected)


def test_unknown_class_is_named(pipeline: Any) -> None:
    with pytest.raises(MaquetteError, match="box"):
        pipeline(Request(class_name="bax"))


def test_runs_can_be_moved_together(runs: Path, tmp_path: Path, pipeline: Any) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(runs, moved)
    request = Request(prompt="a red ball", seed=3)
    one, two = pipeline(request), open_pipeline(moved / "flow")(request)
    assert one.metadata["latent_sha256"] == two.metadata["latent_sha256"]


def test_a_run_without_latents_is_refused(runs: Path) -> None:
    with pytest.raises(MaquetteError, match="latents"):
        plugins.build("pipelines", {"name": "text_to_3d", "run": str(runs / "autoencoder")})


def test_judges_learn_from_shards() -> None:
    accuracy = plugins.build(
        "metrics", {"name": "class_accuracy", "shards": "toy", "reader": "toy_shapes", "steps": 200}
    )
    assert accuracy.ceiling == 1.0
    data = toy.batch([0, 1, 2, 3])
    accuracy.update(data["tsdf"], data["class_id"])
    assert accuracy.compute().item() == 1.0
    accuracy.update(data["tsdf"], 1 - data["class_id"])
    assert accuracy.compute().item() == 0.5


def test_nearest_training_shape() -> None:
    block = {"name": "nearest_training", "shards": "toy", "reader": "toy_shapes", "resolution": 16}
    nearest = plugins.build("metrics", block)
    nearest.update(toy.batch([1, 2, 3])["tsdf"])
    assert nearest.compute().item() == 1.0
    assert 0.3 < nearest.held_out < 1.0


def test_configs_are_dataclasses_with_defaults() -> None:
    required = {field.name for field in dataclasses.fields(LatentsConfig) if field.default == "???"}
    assert required == {"shards", "autoencoder"}


def test_the_facts_of_an_earlier_run_are_kept_to(runs: Path) -> None:
    """On other shards class ids stay those of the names the weights know, and latents keep their scale."""
    own = ready(dataset(runs))
    known = list(reversed(own.facts()["classes"]))[:-1]
    mean = [value + 1 for value in own.facts()["latent_mean"]]
    facts = {**own.facts(), "classes": known, "latent_mean": mean}
    kept = dataset(runs)
    kept.adopt_facts(facts)
    ready(kept)
    assert kept.facts()["classes"] == known and kept.facts()["latent_mean"] == pytest.approx(mean)
    one, two = next(iter(own.val_dataloader())), next(iter(kept.val_dataloader()))
    names = own.facts()["classes"]
    for before, after in zip(one["class_id"].tolist(), two["class_id"].tolist(), strict=True):
        assert after == (known.index(names[before]) if names[before] in known else -1)
    std = torch.tensor(own.facts()["latent_std"]).view(1, -1, 1, 1, 1)
    torch.testing.assert_close(two["latent"], one["latent"] - 1 / std, atol=1e-4, rtol=1e-4)


def test_an_empty_shape_is_sampled_again_and_says_so(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = open_pipeline(runs / "flow")
    whole = torch.full((1, 1, 16, 16, 16), 1.0)
    whole[..., 4:12, 4:12, 4:12] = -1.0
    color = torch.full((1, 3, 8, 8, 8), 0.5)
    seen: list[torch.Tensor] = []

    def fields(latent: torch.Tensor, empties: int) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(latent)
        return (whole if len(seen) > empties else torch.ones_like(whole)), color

    monkeypatch.setattr(pipeline, "fields", lambda latent: fields(latent, 2))
    asset = pipeline(Request(prompt="a ball", seed=3))
    assert asset.metadata["attempts"] == 3 and asset.metadata["seed"] == 3
    assert not torch.equal(seen[0], seen[1]) and not torch.equal(seen[1], seen[2])
    seen.clear()
    monkeypatch.setattr(pipeline, "fields", lambda latent: fields(latent, 9))
    with pytest.raises(MaquetteError, match="nothing is inside"):
        pipeline(Request(prompt="a ball", seed=3))
    assert len(seen) == 3
