"""The stream: a pure order, an exact position, the same batches whoever shares them."""

from __future__ import annotations

import shutil
from itertools import islice

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maquette import plugins
from maquette.errors import MaquetteError
from maquette.testing import check_dataset
from maquette_data3d import ShardReader
from maquette_data3d.shards.stream import Shards, ShardsConfig

EVERYTHING = ["tsdf", "color", "surface", "normals"]


def opened(folder, rank=0, world=1, consumed=0, **settings):
    stream = Shards(ShardsConfig(str(folder), **{"batch_size": 4, "points": 64, **settings}))
    stream.rank, stream.world = rank, world
    stream.setup("fit")
    stream.load_state_dict({"consumed": consumed})
    return stream


def ids(stream, batches):
    return [name for batch in islice(stream.train_dataloader(), batches) for name in batch["id"]]


def test_the_contract_holds(shards):
    check_dataset(lambda: Shards(ShardsConfig(str(shards), 4, EVERYTHING, 64, mirror=True)), batches=12)


@given(st.sampled_from([1, 2, 4]), st.sampled_from([4, 8]), st.integers(0, 60), st.integers(0, 5), st.booleans())
def test_any_split_of_the_work_gives_the_same_sequence(shards, world, size, start, seed, mirror):  # noqa: PLR0917
    settings = {"seed": seed, "mirror": mirror, "fields": ["surface"]}
    alone = opened(shards, batch_size=4, **settings)
    whole = [batch for batch in islice(alone.train_dataloader(), 40)]
    names = [name for batch in whole for name in batch["id"]]
    points = torch.cat([batch["surface"] for batch in whole])
    ranks = [opened(shards, r, world, start, batch_size=size, **settings).train_dataloader() for r in range(world)]
    position = start
    for _ in range(3):
        for batch in [next(loader) for loader in ranks]:
            count = len(batch["id"])
            assert batch["id"] == names[position : position + count]
            assert torch.equal(batch["surface"], points[position : position + count])
            position += count


def test_an_epoch_has_every_sample_once_in_an_order_of_its_own(shards):
    stream = opened(shards, batch_size=1)
    count = len(stream.train)
    first, second = ids(stream, count), ids(stream, count)
    assert sorted(first) == sorted(second) and len(set(first)) == count and first != second
    assert stream.state_dict() == {"consumed": 2 * count}
    assert ids(opened(shards, batch_size=1, seed=1), count) != first
    plain = ids(opened(shards, batch_size=1, shuffle=False), count)
    assert plain == [stream.reader.entries[number].id for number in stream.train]


def test_batches_are_what_the_contract_says(shards):
    batch = next(opened(shards, fields=EVERYTHING).train_dataloader())
    shapes = {key: (tuple(v.shape), v.dtype) for key, v in batch.items() if isinstance(v, torch.Tensor)}
    assert shapes == {
        "tsdf": ((4, 1, 16, 16, 16), torch.float32), "color": ((4, 3, 8, 8, 8), torch.float32),
        "surface": ((4, 64, 3), torch.float32), "normals": ((4, 64, 3), torch.float32),
        "class_id": ((4,), torch.int64)}  # fmt: skip
    assert 0 <= batch["color"].min() and batch["color"].max() <= 1
    assert len(batch["caption"]) == 4 and all(isinstance(text, str) for text in batch["caption"])
    assert set(next(opened(shards).train_dataloader())) == {"id", "caption", "class_id", "tsdf", "color"}


def test_mirroring_turns_all_fields_together(shards):
    plain, flipped = (opened(shards, fields=EVERYTHING).sample(5, flip) for flip in (False, True))
    assert torch.equal(flipped["tsdf"], plain["tsdf"].flip(1)) and torch.equal(flipped["color"], plain["color"].flip(1))
    mirror = torch.tensor([-1.0, 1, 1])
    assert torch.equal(flipped["surface"], plain["surface"] * mirror)
    assert torch.equal(flipped["normals"], plain["normals"] * mirror)
    whole = {"fields": ["surface"], "points": 256}
    stream = opened(shards, mirror=True, batch_size=8, **whole)
    exact = {e.id: opened(shards, **whole).sample(n)["surface"] for n, e in enumerate(stream.reader.entries)}
    turned = [
        not torch.equal(points, exact[name])
        for batch in islice(stream.train_dataloader(), 6)
        for name, points in zip(batch["id"], batch["surface"], strict=True)
    ]
    assert 8 < sum(turned) < 40


def test_windows_of_the_stored_points_change_from_epoch_to_epoch(shards):
    stream = opened(shards, fields=["surface"], batch_size=1, shuffle=False)
    count = len(stream.train)
    batches = list(islice(stream.train_dataloader(), 2 * count))
    changed = [not torch.equal(batches[i]["surface"], batches[i + count]["surface"]) for i in range(count)]
    assert sum(changed) > 0.8 * count


def test_validation_is_seen_once_in_order_and_shared_out(shards):
    whole = [name for batch in opened(shards).val_dataloader() for name in batch["id"]]
    reader = ShardReader(shards)
    assert whole == [reader.entries[number].id for number in reader.split("validation")]
    shared = [name for rank in range(2) for b in opened(shards, rank, 2).val_dataloader() for name in b["id"]]
    assert sorted(shared) == sorted(whole)
    loader = opened(shards).val_dataloader()
    assert len(list(loader)) == len(list(loader)) == len(loader)


def test_facts_are_those_of_the_shards(shards):
    facts = opened(shards).facts()
    assert facts["resolution"] == 16 and facts["truncation"] == 0.05 and facts["color_resolution"] == 8
    assert facts["classes"][0] == "chair" and "a" in facts["vocabulary"]
    assert facts["train_samples"] + facts["validation_samples"] == 24


def test_it_is_built_by_its_name(shards):
    manager = plugins.PluginManager(entry_points=False)
    from maquette_data3d import plugin

    manager.add(plugin, "data3d")
    stream = manager.build("datasets", {"name": "shards", "folder": str(shards), "batch_size": 2})
    stream.setup("fit")
    assert len(next(stream.train_dataloader())["id"]) == 2
    with pytest.raises(MaquetteError, match="did you mean 'batch_size'"):
        manager.build("datasets", {"name": "shards", "folder": str(shards), "batchsize": 2})
    assert {entry.name for entry in manager.registry("exporters")} == {".glb", ".obj", ".ply", ".stl", ".off"}


def test_mistakes_are_one_line_each(shards, tmp_path):
    def refused(folder=shards, world=1, **settings):
        with pytest.raises(MaquetteError) as caught:
            opened(folder, world=world, **settings)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "did you mean 'surface'" in refused(fields=["surfaces"])
    assert "stores 256" in refused(fields=["surface"], points=300)
    assert "no multiple of 3 processes" in refused(world=3)
    assert "does not exist" in refused(folder=tmp_path / "none")
    (tmp_path / "half" / ".work").mkdir(parents=True)
    assert "unfinished" in refused(folder=tmp_path / "half")


def test_damage_is_noticed(shards, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(shards, folder)
    shard = folder / "shard_00001.safetensors"
    content = bytearray(shard.read_bytes())
    for place in range(1000, len(content), 1000):
        content[place] ^= 1
    shard.write_bytes(content)
    with pytest.raises(MaquetteError, match="differs from its checksum"):
        ids(opened(folder, verify=True, batch_size=1), 24)
    assert ids(opened(folder, batch_size=1), 24)
    shard.write_bytes(content[: len(content) // 2])
    with pytest.raises(MaquetteError, match="is damaged"):
        ids(opened(folder, batch_size=1), 24)
    shard.unlink()
    with pytest.raises(MaquetteError, match="is missing"):
        ids(opened(folder, batch_size=1), 24)


def test_reading_is_a_view_on_the_file(shards):
    reader = ShardReader(shards)
    array = reader.array(3, "tsdf")
    assert not array.flags.owndata and not array.flags.writeable
    assert np.array_equal(array, np.asarray(array))
