"""Shards at a URL: fetched once, checked, shared by processes, bounded, and never taken from under a reader."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import fsspec
import numpy as np
import pytest

from maquette.errors import MaquetteError
from maquette_data3d.shards import storage
from maquette_data3d.shards.cache import Cache, evict
from maquette_data3d.shards.reader import ShardReader
from maquette_data3d.shards.storage import upload
from maquette_data3d.shards.tools import split, stats, verify
from tests.data3d import shard_folders as folders


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(storage, "_PAUSE_S", 0.0)


@pytest.fixture
def memory():
    """An empty store in this process's memory."""
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


@pytest.fixture
def folder(tmp_path):
    return folders.write_folder(tmp_path / "f", folders.plain_samples(8))


def cached(place):
    return sorted(path.name for path in place.glob("[!.]*"))


def counted(monkeypatch):
    """Names of what is fetched, as it is."""
    fetched, copy = [], storage._copy

    def counting(system, source, target):
        fetched.append(source.rpartition("/")[2])
        return copy(system, source, target)

    monkeypatch.setattr(storage, "_copy", counting)
    return fetched


def test_a_remote_folder_reads_like_a_local_one_and_is_fetched_once(tmp_path, folder, memory, monkeypatch):
    sent = upload(folder, "memory://bucket/set")
    assert sent["files"] == 5 and sent["bytes"] == sum(path.stat().st_size for path in folder.iterdir())
    fetched = counted(monkeypatch)
    local = ShardReader(folder)
    for _ in range(2):
        remote = ShardReader("memory://bucket/set/", tmp_path / "cache")
        assert remote.about == local.about and remote.damaged() == []
        assert len(fetched) in (1, 4)  # the index at once, shards when they are touched
        for number in range(8):
            assert remote.entry(number).id == local.entry(number).id
            assert np.array_equal(remote.array(number, "voxels"), local.array(number, "voxels"))
            remote.verify(number)
    assert len(fetched) == 4
    hashes = {hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*[!n]")}
    assert {Path(name).stem for name in cached(tmp_path / "cache")} <= hashes
    assert verify("memory://bucket/set", tmp_path / "cache") == []
    assert stats("memory://bucket/set", tmp_path / "cache") == stats(folder)


def test_file_urls_are_read_in_place(folder, tmp_path):
    reader = ShardReader(f"file://{folder}", tmp_path / "cache")
    assert reader.entry(2).id == "s2" and not (tmp_path / "cache").exists()


def test_an_index_without_a_hash_is_fetched_anew_when_it_changed(tmp_path, folder, memory, monkeypatch):
    upload(folder, "memory://set")
    about = ShardReader(folder).about
    del about["index"]
    memory.pipe_file("/set/shards.json", json.dumps(about).encode())
    fetched = counted(monkeypatch)
    for _ in range(2):
        ShardReader("memory://set", tmp_path / "cache")
    assert fetched == ["index.parquet"]
    memory.pipe_file("/set/index.parquet", memory.cat_file("/set/index.parquet"))
    ShardReader("memory://set", tmp_path / "cache")
    assert fetched == ["index.parquet"] * 2


def test_uploads_send_only_what_is_new_and_the_marker_last(folder, memory, monkeypatch):
    order = []
    put = type(memory).put_file
    monkeypatch.setattr(type(memory), "put_file", lambda self, a, b, **k: (order.append(Path(a).name), put(self, a, b)))
    monkeypatch.setattr(type(memory), "makedirs", lambda self, path, exist_ok: None)  # object stores have no folders
    upload(folder, "memory://set")
    assert order[-1] == "shards.json" and len(order) == 5
    assert upload(folder, "memory://set") == {"files": 0, "bytes": 0}
    split(folder, {"train": 0.5, "validation": 0.5}, seed=1)
    order.clear()
    removed = []
    monkeypatch.setattr(type(memory), "rm_file", lambda self, path: removed.append((path, list(order))))
    upload(folder, "memory://set")
    assert removed == [("/set/shards.json", [])]  # while it changes, it is not complete
    assert len(order) == 2 and order[0].startswith("index-") and order[1] == "shards.json"


def test_an_incomplete_folder_is_not_uploaded(folder, memory):
    next(folder.glob("shard_00001*")).write_bytes(b"")
    with pytest.raises(MaquetteError, match=r"shard_00001.* wrong size"):
        upload(folder, "memory://set")
    assert memory.find("/set") == []


def test_what_arrives_damaged_is_fetched_again_then_named(tmp_path, folder, memory, monkeypatch):
    upload(folder, "memory://set")
    reader = ShardReader("memory://set", tmp_path / "cache")
    name = reader.shards[1].file
    good = memory.cat_file(f"/set/{name}")
    memory.pipe_file(f"/set/{name}", b"\x00" + good[1:])
    fetched = counted(monkeypatch)
    with pytest.raises(MaquetteError, match=f"memory://set/{name}' is not what shards.json says"):
        reader.array(3, "surface")
    assert fetched == [name] * 3 and len(cached(tmp_path / "cache")) == 1
    memory.pipe_file(f"/set/{name}", good)
    reader.verify(3)
    memory.rm_file(f"/set/{reader.shards[0].file}")
    assert reader.damaged() == [0]
    with pytest.raises(MaquetteError, match="does not exist"):
        reader.array(0, "surface")
    (problem,) = verify("memory://set", tmp_path / "cache")
    assert problem.lost == ("s0", "s1", "s2")


def test_a_part_left_in_the_cache_is_fetched_again(tmp_path, folder, memory):
    upload(folder, "memory://set")
    reader = ShardReader("memory://set", tmp_path / "cache")
    path = tmp_path / "cache" / f"{reader.shards[0].sha256}.safetensors"
    path.write_bytes(b"part")
    (path.parent / f".{path.name}.12345.678").write_bytes(b"of a killed process")
    reader.verify(0)
    assert not list(path.parent.glob("*.678"))
    assert path.stat().st_size == reader.shards[0].bytes


def test_the_cache_keeps_its_bound_and_what_is_in_use(tmp_path, memory):
    folder = folders.write_folder(tmp_path / "f", folders.plain_samples(12), shard_samples=1)
    upload(folder, "memory://set")
    largest = max(shard.bytes for shard in ShardReader(folder).shards)
    cache = Cache(tmp_path / "cache", cache_gb=(20_000 + 6 * largest) / 1e9)
    reader = ShardReader("memory://set", cache)
    reader.folder.most_mapped = 2 * largest
    held = reader.array(0, "surface")
    before = held.copy()
    for number in range(12):
        reader.verify(number)
        assert sum(path.stat().st_size for path in cache.folder.glob("[!.]*")) <= cache.most_bytes + 3 * largest
    assert f"{reader.shards[0].sha256}.safetensors" in cached(cache.folder)
    assert len(reader._open) == 2 and np.array_equal(held, before)
    everything = Cache(cache.folder, 0)
    in_use = {f"{reader.shards[number].sha256}.safetensors" for number in [0, 10, 11]}
    evict(everything)
    assert set(cached(cache.folder)) == in_use
    del held
    reader.close()
    assert set(evict(everything)) == in_use and cached(cache.folder) == []
    reader.verify(5)


def test_the_longest_unused_go_first(tmp_path):
    for age, name in enumerate(["new", "middle", "old"]):
        (tmp_path / name).write_bytes(b"x" * 1000)
        os.utime(tmp_path / name, (1e9 - age, 1e9 - age))
    assert evict(Cache(tmp_path, 2.5e-6)) == ["old"]
    assert evict(Cache(tmp_path, 0), keep=tmp_path / "middle") == ["new"]


def test_threads_that_want_one_file_fetch_it_once(tmp_path, folder, memory, monkeypatch):
    upload(folder, "memory://set")
    fetched = counted(monkeypatch)
    readers = [ShardReader("memory://set", tmp_path / "cache") for _ in range(4)]
    failed = []

    def read(reader):
        try:
            for number in range(8):
                reader.verify(number)
        except MaquetteError as error:
            failed.append(error)

    threads = [threading.Thread(target=read, args=(reader,)) for reader in readers for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == [] and sorted(fetched) == sorted({*fetched}) and len(fetched) == 4


_PROCESS = """
import sys
from pathlib import Path
from maquette_data3d.shards import reader, storage
reader.open_folder = storage.RemoteFolder  # a store that several processes see: the disk, taken for remote
place = storage.Cache(Path(sys.argv[2]), cache_gb=0)
for _ in range(5):
    found = reader.ShardReader(sys.argv[1], place)
    for number in range(len(found)):
        found.verify(number)
        found.close()
"""


def test_processes_share_a_cache_that_is_far_too_small(tmp_path, folder):
    command = [sys.executable, "-c", _PROCESS, f"file://{folder}", str(tmp_path / "cache")]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for process in running:
        assert process.communicate()[1] == "" and process.returncode == 0


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nothing://x/y", "cannot be read: Protocol not known"),
        ("memory://empty", "'memory://empty/shards.json' does not exist"),
    ],
)
def test_urls_that_lead_nowhere_are_told(url, words, memory):
    with pytest.raises(MaquetteError, match=words):
        ShardReader(url)
