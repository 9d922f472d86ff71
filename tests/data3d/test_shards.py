"""The shard format: what is written reads back, the same bytes every time, and damage gives one line."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file

from maquette.errors import MaquetteError
from maquette_data3d.shards import format as shard_format
from maquette_data3d.shards import index as shard_index
from maquette_data3d.shards import reader as shard_reader
from maquette_data3d.shards.reader import ShardReader
from tests.data3d import shard_folders as folders


def same(one, other):
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


@given(folders.sample_sets(), st.integers(1, 4))
def test_what_is_written_reads_back(drawn, shard_samples):
    fields, samples = drawn
    with tempfile.TemporaryDirectory() as temporary:
        reader = ShardReader(folders.write_folder(Path(temporary) / "f", samples, fields, shard_samples))
        assert reader.fields == fields and len(reader) == len(samples)
        for number, sample in enumerate(samples):
            assert all(same(reader.array(number, name), array) for name, array in sample.items())
            reader.verify(number)
        assert reader.damaged() == []


@given(folders.sample_sets())
def test_the_bytes_are_the_same_again_and_safetensors_reads_them(drawn):
    fields, samples = drawn
    with tempfile.TemporaryDirectory() as temporary:
        first = shard_format.write_shard(Path(temporary) / "a", 7, samples, fields)
        again = shard_format.write_shard(Path(temporary) / "b", 7, [dict(reversed(s.items())) for s in samples], fields)
        assert first == again and first.file == f"shard_00007-{first.sha256[:12]}.safetensors"
        assert os.listdir(Path(temporary) / "a") == [first.file]
        stored = load_file(Path(temporary) / "a" / first.file)
        for name, field in fields.items():
            arrays = [sample[name] for sample in samples]
            assert same(stored[name], np.concatenate(arrays) if field.ragged else np.stack(arrays))
            if field.ragged:
                assert stored[f"{name}.offsets"].tolist() == np.cumsum([0, *map(len, arrays)]).tolist()


def test_the_checksum_tells_names_types_shapes_and_values_apart():
    sample = {"a": np.zeros((2, 3), np.float16), "b": np.ones(2, np.uint8)}
    variants = [
        {"a": sample["a"], "c": sample["b"]},
        sample | {"a": np.zeros((3, 2), np.float16)},
        sample | {"a": np.zeros((2, 3), np.int16)},
        sample | {"b": np.array([1, 2], np.uint8)},
    ]
    sums = [shard_format.checksum(s) for s in [sample, *variants]]
    assert len(set(sums)) == len(sums)
    assert shard_format.checksum({"b": sample["b"], "a": sample["a"][::1].astype(">f2")}) == sums[0]
    assert shard_format.checksum(sample | {"a": np.zeros((3, 2), np.float16).T}) == sums[0]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"surface": np.zeros((8, 3), np.float64)}, "'surface' is float64 [8, 3], expected float32 [8, 3]"),
        ({"surface": np.zeros((7, 3), np.float32)}, "'surface' is float32 [7, 3]"),
        ({"voxels": np.zeros((2, 4), np.int16)}, "expected int16 [*, 3]"),
        ({"more": np.zeros(1)}, "'more' is not in all"),
    ],
)
def test_a_sample_that_does_not_fit_is_refused_and_leaves_nothing(tmp_path, wrong, words):
    samples = folders.plain_samples(2)
    fields = shard_format.fields_of(samples[0], ragged=["voxels"])
    with pytest.raises(MaquetteError) as error:
        shard_format.write_shard(tmp_path, 0, [samples[0], samples[1] | wrong], fields)
    assert words in str(error.value) and "sample 1" in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sample", [{"a.b": np.zeros(1)}, {"a": np.zeros(1, complex)}, {"voxels": np.float32(1)}])
def test_fields_that_cannot_be_stored_are_refused(sample):
    with pytest.raises(MaquetteError):
        shard_format.fields_of(sample, ragged=["voxels"])


def test_entries_columns_and_splits(tmp_path):
    samples = folders.plain_samples(8)
    unit = {"unit_m": lambda n: None if n else 1.0, "stranger": lambda n: [n], "thumbnail": lambda n: b"p" * n or None}
    reader = ShardReader(folders.write_folder(tmp_path / "f", samples, **unit))
    entry = reader.entry(5)
    assert (entry.id, entry.class_name, entry.class_id, entry.split, entry.tokens) == ("s5", "table", 1, "train", 500)
    assert (entry.group, entry.attributes, entry.lineage) == ("s5", {"legs": 5}, {"source": "5.glb"})
    assert entry.thumbnail == b"ppppp" and reader.entry(0).thumbnail is None
    assert reader.entry(-1).id == "s7" and entry.sha256 == shard_format.checksum(samples[5])
    assert reader.split("validation").tolist() == [0, 4] and reader.split("nobody").tolist() == []
    assert reader.split("train").dtype == np.int64 and reader.class_ids.dtype == np.int64
    assert reader.captions(np.array([3, 1])) == ["a chair number 3", "a chair number 1"]
    assert reader.tokens.tolist() == [n * 100 for n in range(8)] and reader.tokens.dtype == np.int32
    assert [list(v) for v in reader.column("stranger")] == [[n] for n in range(8)]
    assert reader.shard_of.tolist() == [0, 0, 0, 1, 1, 1, 2, 2] and reader.row_of.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert reader.stacked(2, "surface").shape == (2, 8, 3) and not reader.array(0, "surface").flags.writeable
    assert len(reader.offsets(1, "voxels")) == 4
    with pytest.raises(IndexError):
        reader.entry(8)
    with pytest.raises(MaquetteError, match="stores no 'normals'; it stores: surface, voxels"):
        reader.array(0, "normals")


def test_the_index_does_not_depend_on_how_its_rows_arrive(tmp_path):
    rows = [{"id": f"{n}", "shard": 0, "row": n, "extra": n / 2} for n in range(20_000)]
    written = {
        shard_index.write_index(tmp_path / name, pieces).sha256
        for name, pieces in {
            "rows": rows,
            "iterator": iter(rows),
            "chunks": (rows[start : start + 777] for start in range(0, len(rows), 777)),
            "mixed": [*rows[:9], rows[9:10_000], *rows[10_000:]],
        }.items()
    }
    table = shard_index.read_index(tmp_path / "rows")
    again = [table.slice(0, 100), table.slice(100)]
    assert written == {shard_index.write_index(tmp_path / "tables", again).sha256}
    assert table.column("extra").to_pylist() == [row["extra"] for row in rows]
    assert table.column("group").to_pylist() == table.column("id").to_pylist()
    value = shard_index.IndexTable(tmp_path / "rows").value("attributes", 19_999)
    assert value == "{}" and np.isnan(shard_index.IndexTable(tmp_path / "rows").value("unit_m", 3))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"id": "a", "shard": 0}], "a row has no 'row'"),
        ([{"id": "a", "shard": 0, "row": "x"}], "'row'"),
        ([{"id": "a", "shard": 0, "row": 0, "x": 1}, {"id": "b", "shard": 0, "row": 1, "x": "t"}], "'x' mixes types"),
        ([pa.table({"id": ["a"]})], "no column 'key'"),
    ],
)
def test_an_index_of_wrong_rows_is_refused(tmp_path, rows, words):
    with pytest.raises(MaquetteError, match=words):
        shard_index.write_index(tmp_path / "index.parquet", rows)
    assert list(tmp_path.iterdir()) == []


def shard_paths(folder):
    return sorted(folder.glob("shard_*.safetensors"))


def cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def garbage(path):
    path.write_bytes(bytes(path.stat().st_size))


def edited(path, change):
    about = json.loads(path.read_text())
    change(about)
    path.write_text(json.dumps(about))


DAMAGE = {
    "no folder": (lambda f: f.rename(f.with_name("gone")), "does not exist"),
    "no marker": (lambda f: (f / "shards.json").unlink(), "holds no shards"),
    "marker is no JSON": (lambda f: cut(f / "shards.json", 50), "is damaged"),
    "marker is no text": (lambda f: (f / "shards.json").write_bytes(b"\xff\xfe\x00"), "is damaged"),
    "marker is a list": (lambda f: (f / "shards.json").write_text("[]"), "is damaged"),
    "format 1": (lambda f: edited(f / "shards.json", lambda a: a.update(format=1)), "has shard format 1"),
    "a path in a name": (
        lambda f: edited(f / "shards.json", lambda a: a["shards"][0].update(file="../x")),
        "is damaged",
    ),
    "no index": (lambda f: (f / "index.parquet").unlink(), "index .* is missing"),
    "index cut": (lambda f: cut(f / "index.parquet", 900), "index .* has 900 bytes"),
    "index empty": (lambda f: cut(f / "index.parquet", 0), "index .* has 0 bytes"),
    "index garbage": (lambda f: garbage(f / "index.parquet"), "index .* is damaged"),
    "other count": (lambda f: edited(f / "shards.json", lambda a: a.update(samples=9)), "has 8 rows, .* says 9"),
    "fewer shards": (lambda f: edited(f / "shards.json", lambda a: a["shards"].pop()), "no shard 2 with a row 0"),
    "shard gone": (lambda f: shard_paths(f)[1].unlink(), "shard .* is missing"),
    "shard empty": (lambda f: cut(shard_paths(f)[1], 0), "shard .* is damaged"),
    "shard cut": (lambda f: cut(shard_paths(f)[1], -20), "shard .* is damaged"),
    "header garbage": (
        lambda f: shard_paths(f)[1].write_bytes(b"\xff" * 8 + shard_paths(f)[1].read_bytes()[8:]),
        "shard .* is damaged",
    ),
    "other shard": (lambda f: os.replace(shard_paths(f)[2], shard_paths(f)[1]), "is damaged .2 rows of .* not 3"),
    "other fields": (
        lambda f: edited(f / "shards.json", lambda a: a["fields"]["surface"].update(shape=[4, 6])),
        "is damaged",
    ),
    "a bit": (
        lambda f: shard_paths(f)[1].write_bytes(shard_paths(f)[1].read_bytes()[:-1] + b"\x55"),
        "differs from its checksum",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_every_damage_gives_one_line_that_names_the_file(tmp_path, name):
    folder = folders.write_folder(tmp_path / "f", folders.plain_samples(8, seed=3))
    change, words = DAMAGE[name]
    change(folder)
    with pytest.raises(MaquetteError, match=words) as error:
        reader = ShardReader(folder)
        for number in range(len(reader)):
            reader.verify(number)
    assert "\n" not in str(error.value) and str(tmp_path) in str(error.value)


@given(st.data())
def test_random_damage_gives_the_same_values_or_one_error(data):
    samples = folders.plain_samples(5, seed=9)
    with tempfile.TemporaryDirectory() as temporary:
        folder = folders.write_folder(Path(temporary) / "f", samples)
        path = data.draw(st.sampled_from(sorted(folder.iterdir())))
        content = bytearray(path.read_bytes())
        for place, value in data.draw(
            st.lists(st.tuples(st.integers(0, len(content) - 1), st.integers(1, 255)), max_size=4)
        ):
            content[place] ^= value
        path.write_bytes(content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content)
        try:
            reader = ShardReader(folder)
            for number, sample in enumerate(samples):
                reader.verify(number)
                assert reader.entry(number).lineage == {"source": f"{number}.glb"}
                assert all(same(reader.array(number, name), array) for name, array in sample.items())
        except MaquetteError as error:
            assert "\n" not in str(error)


def test_damaged_shards_are_found_without_opening_them(tmp_path):
    folder = folders.write_folder(tmp_path / "f", folders.plain_samples(8))
    shard_paths(folder)[0].unlink()
    cut(shard_paths(folder)[-1], -1)
    assert ShardReader(folder).damaged() == [0, 2]


def test_few_files_stay_open_and_views_outlive_them(tmp_path, monkeypatch):
    monkeypatch.setattr(shard_reader, "_MOST_OPEN", 3)
    samples = folders.plain_samples(20)
    reader = ShardReader(folders.write_folder(tmp_path / "f", samples, shard_samples=1))
    views = [reader.array(number, "surface") for number in range(20)]
    assert len(reader._open) == 3
    assert all(same(view, sample["surface"]) for view, sample in zip(views, samples, strict=True))
    reader.close()
    assert same(views[0], samples[0]["surface"]) and same(reader.array(1, "voxels"), samples[1]["voxels"])


def _sum_of(reader):
    return float(sum(reader.array(number, "surface").sum() for number in range(len(reader))))


def test_a_reader_goes_to_another_process(tmp_path):
    reader = ShardReader(folders.write_folder(tmp_path / "f", folders.plain_samples(5)))
    assert _sum_of(pickle.loads(pickle.dumps(reader))) == _sum_of(reader)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(_sum_of, (reader,)) == _sum_of(reader)


@pytest.mark.slow
def test_a_million_rows_open_without_reading_texts(tmp_path):
    count, size = 1_000_000, 1000
    field = shard_format.Field("uint8", (1,))
    shard = shard_format.write_shard(tmp_path, 0, [{"a": np.zeros(1, np.uint8)}] * size, {"a": field})
    rows = (
        {"id": f"sample{n:07d}", "shard": n // size, "row": n % size, "class": "chair", "caption": f"chair {n % 999}"}
        for n in range(count)
    )
    index = shard_index.write_index(tmp_path / "index.parquet", rows)
    about = {"format": 2, "fields": {"a": field.plain()}, "samples": count, "classes": ["chair"]}
    shards = [shard.plain()] * (count // size)
    shard_format.describe(tmp_path, about | {"shards": shards, "index": index.plain()})
    before = pa.total_allocated_bytes()
    reader = ShardReader(tmp_path)
    assert len(reader) == count and reader.index._columns.keys() == {"shard", "row"}
    assert pa.total_allocated_bytes() - before < 32e6
    numbers = np.random.default_rng(0).permutation(count)[:1000].tolist()
    entries = [reader.entry(number) for number in numbers]
    assert [entry.id for entry in entries] == [f"sample{number:07d}" for number in numbers]
    assert reader.index._groups == {} and entries[0].attributes == {}
    assert len(reader.index._groups) == 1
