"""Tools over shard folders: samples come through whole, families stay together, damage is found and named."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maquette.errors import MaquetteError
from maquette_data3d.shards import derived, repacking, splitting, tools
from maquette_data3d.shards.index import SCHEMA, read_index, write_index
from maquette_data3d.shards.reader import ShardReader
from tests.data3d import shard_folders as folders


def sums(folder):
    """Checksum of every sample by id, read back and compared on the way."""
    assert tools.verify(folder) == []
    reader = ShardReader(folder)
    return {reader.entry(number).id: reader.entry(number).sha256 for number in range(len(reader))}


def files(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@given(folders.sample_sets(most=8), st.integers(1, 4), st.integers(1, 4), st.sampled_from([None, "group", "tokens"]))
def test_checksums_come_through_every_tool(drawn, before, after, order):
    fields, samples = drawn
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        shuffled = {"group": lambda n: f"g{n * 7 % 3}", "tokens": lambda n: n * 5 % 7, "split": "train"}
        first = folders.write_folder(root / "a", samples, fields, before, prefix="a", **shuffled)
        second = folders.write_folder(root / "b", samples[:1], fields, before, prefix="b", **shuffled)
        mine, theirs = sums(first), sums(second)
        tools.merge([first, second], root / "merged")
        assert sums(root / "merged") == mine | theirs
        counts = tools.repack(root / "merged", root / "packed", after, order=order)
        assert sums(root / "packed") == mine | theirs and counts["shards"] == -(-(len(samples) + 1) // after)
        tools.filter(root / "packed", root / "kept", "id != 'b0'")
        assert sums(root / "kept") == mine
        tools.split(root / "kept", {"train": 0.6, "validation": 0.4})
        assert sums(root / "kept") == mine


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(-1, 30)), min_size=1, max_size=30),
       st.integers(0, 99), st.randoms(use_true_random=False))  # fmt: skip
def test_families_never_cross_and_the_order_of_rows_plays_no_part(drawn, seed, random):
    rows = [
        {"id": f"i{n}", "group": f"g{g}", "content": f"c{c}" if c else "", "duplicate_of": f"i{d}" if d >= 0 else ""}
        for n, (g, c, d) in enumerate(drawn)
    ]
    shares = {"train": 0.7, "validation": 0.2, "test": 0.1}
    side = dict(
        zip((row["id"] for row in rows), splitting.shared_out(pa.Table.from_pylist(rows), shares, seed), strict=True)
    )
    for name in ("group", "content"):
        seen = {}
        for row in rows:
            assert not row[name] or seen.setdefault(row[name], side[row["id"]]) == side[row["id"]]
    assert all(side[row["id"]] == side.get(row["duplicate_of"], side[row["id"]]) for row in rows)
    random.shuffle(rows)
    again = splitting.shared_out(pa.Table.from_pylist(rows), shares, seed)
    assert again == [side[row["id"]] for row in rows]


def test_a_split_gives_the_shares_and_touches_the_index_only(tmp_path):
    folder = folders.write_folder(tmp_path / "f", folders.plain_samples(40), group=lambda n: f"g{n // 2}")
    before, about = files(folder), ShardReader(folder).about
    told = tools.split(folder, {"train": 0.8, "validation": 0.15, "test": 0.05}, seed=3)
    assert told["splits"] == {"test": 2, "train": 32, "validation": 6} and told["moved"] > 0
    after = files(folder)
    assert {name: h for name, h in after.items() if "shard_" in name} == {
        name: h for name, h in before.items() if "shard_" in name
    }
    assert sorted(n for n in after if n.endswith("parquet")) == [ShardReader(folder).about["index"]["file"]]
    new = ShardReader(folder)
    assert new.about["resolution"] == 16 and new.about["classes"] == about["classes"]
    assert new.about["fingerprint"] != about["fingerprint"]
    assert new.about["provenance"]["made_from"] == [{"fingerprint": "s", "provenance": {"tool": "test"}}]
    assert new.about["vocabulary"] == sorted(
        {word for n in new.split("train") for word in new.entry(int(n)).caption.split()}
    )
    tools.split(folder, {"train": 0.8, "validation": 0.15, "test": 0.05}, seed=3)
    assert {n: h for n, h in files(folder).items() if n != "shards.json"} == {
        n: h for n, h in after.items() if n != "shards.json"
    }
    assert tools.split(folder, {"all": 1.0})["splits"] == {"all": 40}


@pytest.mark.parametrize("shares", [{}, {"train": 0.5}, {"train": 1.2, "validation": -0.2}, {"": 1.0}])
def test_shares_that_are_no_parts_of_a_whole_are_refused(tmp_path, shares):
    folder = folders.write_folder(tmp_path / "f", folders.plain_samples(3))
    before = files(folder)
    with pytest.raises(MaquetteError, match="sum to 1"):
        tools.split(folder, shares)
    assert files(folder) == before


@pytest.mark.parametrize("place", ["describe", "write_index"])
def test_a_tool_that_is_interrupted_leaves_the_old_folder_and_no_new_one(tmp_path, monkeypatch, place):
    folder = folders.write_folder(tmp_path / "f", folders.plain_samples(8))
    before, whole = files(folder), sums(folder)

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(tools, place, interrupted)
    monkeypatch.setattr(repacking, place, interrupted)
    for job in (
        lambda: tools.split(folder, {"train": 0.5, "test": 0.5}),
        lambda: tools.merge([folder], tmp_path / "out"),
        lambda: tools.filter(folder, tmp_path / "out", "faces > 1"),
        lambda: tools.repack(folder, tmp_path / "out", 2),
    ):
        with pytest.raises(KeyboardInterrupt):
            job()
        assert {n: h for n, h in files(folder).items() if n in before} == before and sums(folder) == whole
        assert [path.name for path in tmp_path.iterdir()] == ["f"]


def test_merging_renames_what_clashes_and_keeps_families_on_one_side(tmp_path):
    ours = folders.write_folder(tmp_path / "a", folders.plain_samples(4, 1), stranger=lambda n: n)
    theirs = folders.write_folder(
        tmp_path / "b",
        folders.plain_samples(4, 2),
        prefix="s",
        split="train",
        duplicate_of=lambda n: "s1" if n == 2 else "",
    )
    told = tools.merge([ours, theirs], tmp_path / "out")
    assert told == {"samples": 8, "shards": 4, "renamed": 4, "moved": 1}
    reader = ShardReader(tmp_path / "out")
    assert [reader.entry(n).id for n in range(8)] == ["s0", "s1", "s2", "s3", "s0~2", "s1~2", "s2~2", "s3~2"]
    assert reader.column("duplicate_of")[6] == "s1~2" and reader.entry(4).split == "validation"
    assert tools.verify(tmp_path / "out") == []
    assert read_index(tmp_path / "out" / "index.parquet").column("stranger").to_pylist() == [0, 1, 2, 3] + [None] * 4
    shard = tmp_path / "out" / reader.shards[0].file
    assert shard.stat().st_nlink == 2  # linked, no copy


def test_what_differs_in_kind_is_not_merged(tmp_path):
    ours = folders.write_folder(tmp_path / "a", folders.plain_samples(2))
    tools.repack(ours, tmp_path / "half", 2, precision="float16")
    with pytest.raises(MaquetteError, match=r"'surface' is float32 \[8, 3\] in .*a' and float16 \[8, 3\] in .*half"):
        tools.merge([ours, tmp_path / "half"], tmp_path / "out")
    other = folders.write_folder(tmp_path / "b", folders.plain_samples(2))
    about = json.loads((other / "shards.json").read_text())
    (other / "shards.json").write_text(json.dumps(about | {"resolution": 32}))
    with pytest.raises(MaquetteError, match=r"resolution is 16 in .* and 32 in"):
        tools.merge([ours, other], tmp_path / "out")
    with pytest.raises(MaquetteError, match="exists already"):
        tools.merge([ours], tmp_path / "b")


def test_repacking_fields_precision_and_order(tmp_path):
    samples = folders.plain_samples(7)
    folder = folders.write_folder(tmp_path / "f", samples, tokens=lambda n: -n)
    told = tools.repack(
        folder, tmp_path / "out", 4, precision={"surface": "float16"}, fields=["surface"], order="tokens"
    )
    assert told["samples"] == 7 and told["shards"] == 2 and told["bytes"] < told["bytes_before"]
    reader = ShardReader(tmp_path / "out")
    assert [reader.entry(n).id for n in range(7)] == [f"s{n}" for n in range(6, -1, -1)]
    assert list(reader.fields) == ["surface"] and tools.verify(tmp_path / "out") == []
    assert np.array_equal(reader.array(0, "surface"), samples[6]["surface"].astype(np.float16))
    tools.repack(tmp_path / "out", tmp_path / "exact", 4, precision="exact")
    assert ShardReader(tmp_path / "exact").fields["surface"].dtype == "float32"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"fields": ["surfase"]}, "unknown field 'surfase'.* did you mean 'surface'"),
        ({"fields": []}, "no fields are left"),
        ({"precision": "int8"}, "cannot be 'int8'"),
        ({"precision": {"voxels": "float16"}}, "precision of 'voxels'"),
        ({"order": "size"}, "unknown order 'size'"),
        ({"precision": "float16"}, "'surface' of 's0' does not fit float16"),
    ],
)
def test_repacking_refuses_what_it_cannot_do(tmp_path, arguments, words):
    samples = folders.plain_samples(2)
    samples[0]["surface"][0, 0] = 1e6
    folder = folders.write_folder(tmp_path / "f", samples)
    with pytest.raises(MaquetteError, match=words):
        tools.repack(folder, tmp_path / "out", 4, **arguments)
    assert not (tmp_path / "out").exists()


def test_repacking_launders_no_damage(tmp_path):
    folder = folders.write_folder(tmp_path / "f", folders.plain_samples(4))
    path = sorted(folder.glob("shard_*"))[0]
    path.write_bytes(path.read_bytes()[:-1] + b"\x77")
    with pytest.raises(MaquetteError, match="differs from its checksum"):
        tools.repack(folder, tmp_path / "out", 4, fields=["voxels"])


def test_every_damaged_file_is_found_and_named(tmp_path):
    names = sorted(files(folders.write_folder(tmp_path / "whole", folders.plain_samples(8))))
    assert len(names) == 5
    changes = {
        "gone": lambda path: path.unlink(),
        "empty": lambda path: path.write_bytes(b""),
        "cut": lambda path: path.write_bytes(path.read_bytes()[:-9]),
        "bit": lambda path: path.write_bytes(path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 1])),
        "garbage": lambda path: path.write_bytes(os.urandom(path.stat().st_size)),
    }
    for name in names:
        for what, change in changes.items():
            folder = folders.write_folder(tmp_path / f"{name}{what}", folders.plain_samples(8))
            change(folder / name)
            if name == "shards.json" and what == "gone":
                with pytest.raises(MaquetteError, match="holds no shards"):
                    tools.verify(folder)
                continue
            if name == "shards.json" and what == "bit":
                continue  # its last byte is a line's end
            (problem,) = tools.verify(folder)
            assert problem.file == name and str(problem).startswith(name), (name, what)
            if "shard_" in name:
                shard = int(name[6:11])
                expected = {f"s{n}" for n in range(shard * 3, min(shard * 3 + 3, 8))}
                assert set(problem.lost) <= expected and (what == "bit" or set(problem.lost) == expected), (name, what)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("id", "s1", "1 ids occur more than once"),
        ("row", 1, "out of order"),
        ("class", "sofa", "'sofa' is not among the classes"),
        ("split", "elsewhere", "shards.json says"),
        ("group", "s4", "1 groups .* more than one split"),
        ("sha256", "0" * 64, "samples lost .s0"),
    ],
)
def test_an_index_that_contradicts_itself_is_found(tmp_path, column, value, words):
    folder = folders.write_folder(tmp_path / "f", folders.plain_samples(8), split=lambda n: "train" if n else "test")
    table = read_index(folder / "index.parquet")
    values = [value, *table.column(column).to_pylist()[1:]]
    written = write_index(folder / "index.parquet", derived.replaced([table], **{column: values}))
    about = json.loads((folder / "shards.json").read_text())
    (folder / "shards.json").write_text(json.dumps(about | {"index": written.plain()}))
    assert re.search(words, "; ".join(map(str, tools.verify(folder))))


def test_figures_of_a_folder(tmp_path):
    samples = folders.plain_samples(8)
    folder = folders.write_folder(tmp_path / "f", samples, duplicate_of=lambda n: "s0" if n == 4 else "", textured=True)
    told = json.loads(json.dumps(tools.stats(folder)))
    assert told["samples"] == 8 and told["shards"] == 3 and told["duplicates"] == 1 and told["textured"] == 8
    assert told["splits"] == {"train": 6, "validation": 2} and told["classes"] == {"chair": 4, "table": 4}
    assert told["classes_by_split"]["validation"] == {"chair": 2}
    assert told["tokens_histogram"] == {"0": 1, "128": 1, "256": 1, "512": 3, "1024": 2}
    assert told["quantiles"]["faces"]["most"] == 7 and "unit_m" not in told["quantiles"]
    assert told["fields"]["voxels"]["bytes"] == sum(sample["voxels"].nbytes for sample in samples)
    assert told["fields"]["surface"]["bytes"] == 8 * 8 * 3 * 4
    assert told["bytes"] == sum(path.stat().st_size for path in folder.glob("shard_*"))


def test_filtering_keeps_the_shards_that_are_needed(tmp_path):
    folder = folders.write_folder(tmp_path / "f", folders.plain_samples(9))
    told = tools.filter(folder, tmp_path / "out", "class == 'chair' and faces >= 5")
    assert told == {"samples": 2, "shards": 1, "dropped": 7}
    reader = ShardReader(tmp_path / "out")
    assert [reader.entry(n).id for n in range(2)] == ["s6", "s8"] and reader.row_of.tolist() == [0, 2]
    assert reader.about["classes"] == folders.CLASSES and reader.about["splits"] == dict(
        Counter(reader.column("split"))
    )
    assert set(SCHEMA.names) <= set(reader.index.names)
    with pytest.raises(MaquetteError, match="no sample meets"):
        tools.filter(folder, tmp_path / "none", "faces > 100")
