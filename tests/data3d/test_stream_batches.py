"""What a batch of the dataset `shards` holds: fields, windows, mirror images, coarse grids, ragged fields."""

from __future__ import annotations

import gc
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from maquette import hookimpl, plugins
from maquette.errors import MaquetteError
from maquette.testing import assert_equal_batches
from maquette_data3d.stream.curriculum import Stage
from tests.data3d.stream_folders import EVERYTHING, batches, number, opened, sample, write_folder

MIRROR = torch.tensor([-1.0, 1, 1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("stream") / "a")


def test_batches_are_what_the_contract_says(folder):
    batch = batches(opened(folder, fields=[*EVERYTHING, "voxels", "dual_points"], windows={"near": 32}), 1)[0]
    shapes = {key: (tuple(v.shape), v.dtype) for key, v in batch.items() if isinstance(v, torch.Tensor)}
    longest = max(number(name) % 7 for name in batch["id"])
    real = torch.float32
    assert shapes == {
        "tsdf": ((4, 1, 8, 8, 8), real), "color": ((4, 3, 4, 4, 4), real), "surface": ((4, 64, 3), real),
        "normals": ((4, 64, 3), real), "surface_color": ((4, 64, 3), real), "near": ((4, 32, 3), real),
        "near_sdf": ((4, 32), real), "class_id": ((4,), torch.int64), "voxels": ((4, longest, 3), torch.int16),
        "voxels_mask": ((4, longest), torch.bool), "dual_points": ((4, longest, 3), real),
        "dual_points_mask": ((4, longest), torch.bool), "position": ((4,), torch.int64)}  # fmt: skip
    for row, name in enumerate(batch["id"]):
        exact = sample(number(name))
        assert batch["caption"][row] == f"shape {number(name)}" and batch["class_id"][row] == number(name) % 2
        assert torch.equal(batch["tsdf"][row], torch.from_numpy(exact["tsdf"]).float())
        assert torch.equal(batch["color"][row], torch.from_numpy(exact["color"]).float() / 255)
        window = _window(exact["surface"], batch["surface"][row])
        assert torch.equal(batch["normals"][row], torch.from_numpy(exact["normals"][window]).float())
        assert torch.equal(batch["surface_color"][row], torch.from_numpy(exact["surface_color"][window]).float() / 255)
        assert torch.equal(
            batch["near_sdf"][row],
            torch.from_numpy(exact["near_sdf"][_window(exact["near"], batch["near"][row])]).float(),
        )
        length = len(exact["voxels"])
        assert batch["voxels_mask"][row].tolist() == [place < length for place in range(longest)]
        assert np.array_equal(batch["voxels"][row, :length].numpy(), exact["voxels"])
        assert torch.equal(batch["dual_points"][row, :length], torch.from_numpy(exact["dual_points"]).float() / 255)
        assert not batch["voxels"][row, length:].any() and not batch["dual_points"][row, length:].any()


def _window(stored, read):
    starts = [i for i in range(len(stored) - len(read) + 1) if np.array_equal(stored[i : i + len(read)], read.numpy())]
    assert len(starts) == 1
    return slice(starts[0], starts[0] + len(read))


def test_stored_types_and_packed_fields(folder):
    wanted = ["tsdf", "color", "near", "voxels"]
    batch = batches(opened(folder, fields=wanted, dtype="stored", ragged="packed"), 1)[0]
    types = [batch[name].dtype for name in wanted]
    assert types == [torch.float16, torch.uint8, torch.float16, torch.int16]
    assert batch["voxels_offsets"].tolist() == [0, *np.cumsum([number(name) % 7 for name in batch["id"]])]
    for row, name in enumerate(batch["id"]):
        start, end = batch["voxels_offsets"][row : row + 2]
        assert np.array_equal(batch["voxels"][start:end].numpy(), sample(number(name))["voxels"])
        assert np.array_equal(batch["color"][row].numpy(), sample(number(name))["color"])


def test_mirroring_turns_all_fields_together(folder):
    settings = {"fields": EVERYTHING, "points": 256, "windows": {"near": 128}, "batch_size": 32}
    plain, turned = (batches(opened(folder, mirror=mirror, **settings), 1)[0] for mirror in (False, True))
    flipped = [row for row in range(32) if not torch.equal(plain["tsdf"][row], turned["tsdf"][row])]
    assert 6 < len(flipped) < 26
    for row in flipped:
        for name in ("tsdf", "color"):
            assert torch.equal(turned[name][row], plain[name][row].flip(1))
        for name in ("surface", "normals", "near"):
            assert torch.equal(turned[name][row], plain[name][row] * MIRROR)
    kept = [row for row in range(32) if row not in flipped]
    for name in EVERYTHING:
        rows = list(range(32)) if name in ("surface_color", "near_sdf") else kept
        assert torch.equal(turned[name][rows], plain[name][rows])


def test_windows_change_from_epoch_to_epoch_and_not_by_what_else_is_read(folder):
    stream = opened(folder, fields=["surface"], batch_size=32, shuffle="none")
    first, second = batches(stream, 2)
    changed = [not torch.equal(*pair) for pair in zip(first["surface"], second["surface"], strict=True)]
    assert sum(changed) > 24
    assert torch.equal(
        batches(opened(folder, batch_size=32, shuffle="none", fields=EVERYTHING), 1)[0]["surface"], first["surface"]
    )


class Growing:
    """Ever more points."""

    def __init__(self, config):
        self.config = config

    def at(self, consumed):
        return Stage(16, self.config.coarse) if consumed < 8 else Stage()


@dataclass
class GrowingConfig:
    coarse: int = 2


class GrowingPlugin:
    @hookimpl
    def register_curricula(self, register):
        register("growing", GrowingConfig, Growing)


def test_a_strangers_curriculum_makes_early_batches_small(folder):
    if "growing" not in plugins.manager().statuses:
        plugins.manager().add(GrowingPlugin(), "growing")
    settings = {"fields": ["tsdf", "color", "surface", "near"], "mirror": True}
    stream = opened(folder, curriculum={"name": "growing", "coarse": 4}, **settings)
    small, large = batches(stream, 3)[::2]
    exact, _, later = batches(opened(folder, **settings), 3)
    assert small["id"] == exact["id"] and small["surface"].shape == small["near"].shape == (4, 16, 3)
    pooled = torch.nn.functional.avg_pool3d(exact["tsdf"], 2), torch.nn.functional.avg_pool3d(exact["color"], 2)
    assert torch.allclose(small["tsdf"], pooled[0]) and torch.allclose(small["color"], pooled[1])
    assert_equal_batches(large, later, "the last stage is not the whole sample")
    stored = batches(opened(folder, curriculum={"name": "growing", "coarse": 4}, dtype="stored", **settings), 1)[0]
    assert stored["color"].dtype == torch.uint8 and torch.allclose(stored["color"] / 255, pooled[1], atol=0.6 / 255)
    with pytest.raises(MaquetteError, match="resolution 3 does not divide"):
        batches(opened(folder, curriculum={"name": "growing", "coarse": 3}, **settings), 1)


def test_batches_that_are_kept_are_not_written_over(folder):
    stream = opened(folder, fields=["surface"], points=256, batch_size=32, prefetch=2)
    loader = stream.train_dataloader()
    kept = [next(loader)["surface"] for _ in range(3)]
    part, whole = kept[0][5], kept[0][5].clone()
    copies = [tensor.clone() for tensor in kept[1:]]
    del kept[0]
    for _ in range(12):
        next(loader)
    gc.collect()
    batches(stream, 4)
    assert torch.equal(part, whole) and all(torch.equal(*pair) for pair in zip(kept, copies, strict=True))


def test_positions_name_samples_of_the_endless_sequence(folder):
    """The same samples at the same positions at any number of processes; held-out samples by their number."""

    def by_position(rank, world):
        data = opened(folder, rank=rank, world=world, seed=3)
        return {
            place: name
            for batch in batches(data, 5)
            for place, name in zip(batch["position"].tolist(), batch["id"], strict=True)
        }

    whole = by_position(0, 1)
    assert sorted(whole) == list(range(20))
    assert by_position(0, 2) | by_position(1, 2) == whole
    held_out = [place for batch in opened(folder).val_dataloader() for place in batch["position"].tolist()]
    assert held_out == list(range(len(held_out))) and held_out


def test_names_of_parts_come_with_samples_and_facts(shards):
    data = plugins.build(
        "datasets",
        {
            "name": "shards",
            "folder": str(shards),
            "fields": ["surface"],
            "points": 16,
            "part_names": True,
            "batch_size": 8,
        },
    )
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    chairs = [names for names, caption in zip(batch["part_names"], batch["caption"], strict=True) if "chair" in caption]
    assert all({"legs", "seat"} <= set(names) for names in chairs)
    assert set().union(*batch["part_names"]) <= set(data.facts()["part_names"])
    assert data.facts()["part_names"] == sorted(set(data.facts()["part_names"]))
    data = plugins.build("datasets", {"name": "shards", "folder": str(shards), "fields": ["surface"], "points": 16})
    data.setup("fit")
    assert "part_names" not in data.facts() and "part_names" not in next(iter(data.train_dataloader()))
