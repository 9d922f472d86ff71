"""The dataset `shards`: the same batches whoever shares them, exact resume, mixtures, damage."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maquette import plugins
from maquette.errors import MaquetteError
from maquette.testing import assert_equal_batches, check_dataset
from maquette_data3d.shards.storage import upload
from maquette_data3d.stream.dataset import Shards, ShardsConfig, SourceConfig
from tests.data3d.stream_folders import EVERYTHING, batches, names, number, opened, sample, write_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("stream") / "a")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("stream") / "b", 15, classes=("lamp", "chair"))


@pytest.mark.parametrize("prefetch", [0, 2])
def test_the_contract_holds(folder, prefetch):
    settings = {"mirror": True, "prefetch": prefetch}
    check_dataset(lambda: Shards(ShardsConfig(str(folder), 4, EVERYTHING, 64, **settings)), batches=12)
    settings |= {"buckets": [4, 9], "tokens_per_batch": 36, "divisible_by": 2}
    check_dataset(lambda: Shards(ShardsConfig(str(folder), 4, EVERYTHING, 64, **settings)), batches=12)


@given(
    st.tuples(st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4])),
    st.integers(0, 9),
    st.sampled_from([0, 1, 3]),
    st.sampled_from(["full", "window", "none"]),
    st.sampled_from(["one", "two", "buckets"]),
)
def test_ranks_threads_and_crashes_leave_the_batches_as_they_are(folder, other, worlds, crash, depth, shuffle, kind):  # noqa: PLR0917
    """Trained on `first` ranks, stopped, and gone on with on `second` ranks."""
    first, second = worlds
    settings = {"shuffle": shuffle, "fields": ["surface", "tsdf"], "mirror": True}
    if kind == "buckets":
        settings |= {"buckets": [4, 9], "tokens_per_batch": 36, "divisible_by": 4}
    if kind == "two":
        settings["sources"] = [SourceConfig(str(folder), 2.0), SourceConfig(str(other), 1.0)]
    place = "" if kind == "two" else folder
    whole = batches(opened(place, **settings), 12)
    ranks = [opened(place, rank, first, prefetch=depth, **settings) for rank in range(first)]
    before = [batches(rank, crash) for rank in ranks]
    states = [rank.state_dict() for rank in ranks]
    assert all(state == states[0] for state in states)
    resumed = [opened(place, rank, second, states[0], **settings) for rank in range(second)]
    after = [batches(rank, 12 - crash) for rank in resumed]
    shared = [*zip(*before, strict=True), *zip(*after, strict=True)]
    for batch, shares in zip(whole, shared, strict=True):
        assert batch["id"] == [name for share in shares for name in share["id"]]
        for field in ("surface", "tsdf", "class_id"):
            assert torch.equal(batch[field], torch.cat([share[field] for share in shares]))


def test_an_epoch_has_every_sample_once_in_an_order_of_its_own(folder):
    stream = opened(folder, batch_size=1)
    first, second = names(batches(stream, 32)), names(batches(stream, 32))
    assert sorted(first) == sorted(second) and len(set(first)) == 32 and first != second
    assert stream.consumed == stream.state_dict()["consumed"] == 64
    assert names(batches(opened(folder, batch_size=1, seed=1), 32)) != first
    assert [number(name) for name in names(batches(opened(folder, shuffle=False), 8))] == [
        n for n in range(40) if n % 5
    ]
    old = opened(folder, state={"consumed": 40})
    assert names(batches(old, 2)) == names(batches(opened(folder), 12))[40:48]


def test_validation_is_seen_once_in_order_and_shared_out(folder):
    whole = names(opened(folder).val_dataloader())
    assert [number(name) for name in whole] == list(range(0, 40, 5))
    shared = [name for rank in range(2) for name in names(opened(folder, rank, 2).val_dataloader())]
    assert sorted(shared) == sorted(whole)
    loader = opened(folder, mirror=True, fields=["tsdf", "surface"]).val_dataloader()
    for batch, again in zip(loader, loader, strict=True):
        assert_equal_batches(batch, again, "validation changes")
    assert np.array_equal(next(iter(loader))["surface"][0].numpy(), sample(0)["surface"][:64])
    assert len(list(loader)) == len(loader) == 2


def test_a_mixture_is_one_dataset(folder, other):
    sources = [
        SourceConfig(str(folder), 3.0),
        SourceConfig(str(other), 1.0),
        SourceConfig(str(other), 1.0, "validation"),
    ]
    stream = opened("", sources=sources, fields=["near"])
    found = names(batches(stream, 30))
    assert sum(name.startswith("a_") for name in found) == 72
    assert stream.state_dict()["positions"] == [72, 24, 24]
    facts = stream.facts()
    assert facts["classes"] == ["chair", "table", "lamp"]
    assert (facts["train_samples"], facts["validation_samples"]) == (32 + 12 + 3, 8 + 3)
    classes = {"a": ("chair", "table"), "b": ("lamp", "chair")}
    for batch in [*batches(stream, 5), *stream.val_dataloader()]:
        truth = [classes[name[0]][number(name) % 2] for name in batch["id"]]
        assert [facts["classes"][place] for place in batch["class_id"]] == truth
    assert len(names(stream.val_dataloader())) == 11


def test_the_state_is_that_of_the_last_batch_handed_out_and_no_thread_stays(folder):
    before = threading.active_count()
    stream = opened(folder, prefetch=3)
    loader = stream.train_dataloader()
    for step in range(1, 6):
        next(loader)
        assert stream.state_dict()["consumed"] == 4 * step
    assert threading.active_count() > before
    loader.close()
    assert threading.active_count() == before
    loader = stream.train_dataloader()
    assert next(loader)["id"] == names(batches(opened(folder), 6))[20:24]
    del loader
    gc.collect()
    assert threading.active_count() == before


def damage(folder, shard, how):
    path = sorted(folder.glob("shard_*"))[shard]
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "short":
        path.write_bytes(content[:-8])
    elif how == "header":
        path.write_bytes(b"\xff" * 64 + content[64:])
    else:
        path.write_bytes(content[:-40] + b"\x07" * 40)
    return path.name


@pytest.mark.parametrize("how", ["missing", "short"])
def test_damage_that_is_seen_at_the_start_is_left_out_on_every_rank(tmp_path, how, capsys):
    folder = write_folder(tmp_path / "c")
    name = damage(folder, 2, how)
    with pytest.raises(MaquetteError, match=f"5 of 32 training samples cannot be read.*{name}"):
        opened(folder)
    ranks = [opened(folder, rank, 2, damage_budget=0.2) for rank in range(2)]
    found = [name for pair in zip(*(batches(rank, 7) for rank in ranks), strict=True) for name in names(pair)]
    assert len(set(found[:27])) == 27 and not {number(name) for name in found} & set(range(12, 18))
    assert all(rank.state_dict()["passed_over"] > 0 for rank in ranks)
    assert not {number(name) for name in names(ranks[0].val_dataloader())} & set(range(12, 18))
    assert capsys.readouterr().err.count(name) == 3  # once each time that the folder was opened


@pytest.mark.parametrize(("how", "verify"), [("header", False), ("bytes", True)])
def test_damage_that_is_met_on_the_way_is_replaced_the_same_on_every_rank(tmp_path, how, verify, capsys):
    folder = write_folder(tmp_path / "d")
    clean = batches(opened(folder), 20)
    name = damage(folder, 2, how)
    settings = {"damage_budget": 0.2, "verify": verify}
    found = batches(opened(folder, prefetch=2, **settings), 20)
    replaced = 0
    for batch, before in zip(found, clean, strict=True):
        bad = batch.get("substitute", torch.zeros(4, dtype=torch.bool)).tolist()
        assert [a != b for a, b in zip(batch["id"], before["id"], strict=True)] == bad
        for row, (substituted, stood) in enumerate(zip(bad, before["id"], strict=True)):
            assert not substituted or 12 <= number(stood) < 18
            assert torch.equal(batch["tsdf"][row], torch.from_numpy(sample(number(batch["id"][row]))["tsdf"]).float())
        assert ("substitute" in batch) == any(bad)
        replaced += sum(bad)
    assert replaced > (8 if how == "header" else 0)
    assert capsys.readouterr().err.count(name) == 1
    shares = [batches(opened(folder, rank, 2, **settings), 20) for rank in range(2)]
    assert [batch["id"] for batch in found] == [a["id"] + b["id"] for a, b in zip(*shares, strict=True)]
    with pytest.raises(MaquetteError, match=r"more than damage_budget 0\.01") as caught:
        batches(opened(folder, verify=verify, prefetch=2), 20)
    assert name in str(caught.value) and "\n" not in str(caught.value)


def test_one_sample_of_a_hundred_is_quarantined_and_recorded_by_name(tmp_path):
    folder = write_folder(tmp_path / "e", count=150, per_shard=5)
    damage(folder, 20, "bytes")  # the last row of its shard: number 104, of 120 for training
    found: list[dict] = []
    stream = Shards(ShardsConfig(str(folder), batch_size=4, points=64, verify=True, prefetch=2))
    stream.record = lambda kind, **facts: found.append({"kind": kind, **facts})
    stream.setup("fit")
    seen = batches(stream, 60)  # two epochs
    assert [(event["kind"], event["id"], event["lost"], event["of"]) for event in found] == [
        ("sample", "e_104", 1, 120)
    ]
    assert "differs from its checksum" in found[0]["reason"] and found[0]["shard"].startswith("shard_")
    assert sum(int(batch["substitute"].sum()) for batch in seen if "substitute" in batch) == 2
    assert "e_104" not in names(seen)
    damage(folder, 3, "bytes")  # number 19: 2 of 120 are more than 1 %
    stream = Shards(ShardsConfig(str(folder), batch_size=4, points=64, verify=True, prefetch=2))
    stream.setup("fit")
    with pytest.raises(MaquetteError, match=r"2 of 120 .* more than damage_budget 0\.01; damaged shards: shard_"):
        batches(stream, 60)


def test_mistakes_are_one_line_each(folder, tmp_path):
    def refused(where=folder, world=1, **settings):
        with pytest.raises(MaquetteError) as caught:
            opened(where, world=world, **settings)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    assert "did you mean 'surface'" in refused(fields=["surfaces"])
    assert "stores 256" in refused(fields=["surface"], points=300)
    assert "no multiple of 3 processes" in refused(world=3)
    assert "no multiple of 3 processes" in refused(world=3, buckets=[9], tokens_per_batch=72)
    assert "does not exist" in refused(tmp_path / "none")
    assert "either 'folder' or 'sources'" in refused("")
    assert "unknown shuffle 'windw'" in refused(shuffle="windw")
    assert "unknown point group 'nearby'" in refused(windows={"nearby": 3})
    assert "mirror cannot turn the field 'voxels'" in refused(fields=["voxels"], mirror=True)
    assert "9 tokens, the largest bucket holds 8" in refused(buckets=[4, 8], tokens_per_batch=640)
    assert "no 'tests' samples" in refused("", sources=[SourceConfig(str(folder), split="tests")])
    odd = write_folder(tmp_path / "e", 6, resolution=16)
    assert "differ in resolution" in refused("", sources=[SourceConfig(str(folder)), SourceConfig(str(odd))])
    with pytest.raises(MaquetteError, match=r"call setup\(\) first"):
        Shards(ShardsConfig(str(folder))).val_dataloader()


@pytest.mark.parametrize("shuffle", ["full", "window"])
def test_a_remote_folder_gives_the_same_batches(folder, tmp_path, shuffle):
    url = f"memory://stream_{shuffle}/a"
    upload(folder, url)
    settings = {"shuffle": shuffle, "fields": ["tsdf", "surface"]}
    near = batches(opened(folder, **settings), 10)
    far = batches(opened(url, cache=str(tmp_path / "cache"), prefetch=2, **settings), 10)
    for one, two in zip(near, far, strict=True):
        assert_equal_batches(one, two, "a remote folder differs")


def test_it_is_built_by_its_name(folder, other):
    settings = {"fields": ["surface"], "points": 64, "batch_size": 4}
    sources = [{"folder": str(folder), "weight": 2}, {"folder": str(other)}]
    stages = [{"after": 0, "points": 8}, {"after": 4}]
    block = {"name": "shards", "sources": sources, "curriculum": {"name": "steps", "stages": stages}, **settings}
    stream = plugins.build("datasets", block)
    stream.setup("fit")
    assert [batch["surface"].shape for batch in batches(stream, 2)] == [(4, 8, 3), (4, 64, 3)]
    plain = {"name": "shards", "folder": str(folder), **settings}
    for shuffle in (True, "full"):
        stream = plugins.build("datasets", {**plain, "shuffle": shuffle})
        stream.setup("fit")
        assert names(batches(stream, 3)) == names(batches(opened(folder), 3))
    with pytest.raises(MaquetteError, match="did you mean 'batch_size'"):
        plugins.build("datasets", {**plain, "batchsize": 2})
    with pytest.raises(MaquetteError, match="did you mean 'weight'"):
        plugins.build("datasets", {"name": "shards", "sources": [{"folder": "a", "weigt": 2}]})
