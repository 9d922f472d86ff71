"""Checkpoints and weights of strangers: safetensors and JSON that are what they say, no pickles, no bombs."""

import hashlib
import json
import pickle
import struct

import pytest
import torch

from maquette import checkpoint
from maquette.checkpoint import Saver
from maquette.checkpoint.manifest import encode
from maquette.checkpoint.tensor_files import TensorFile, Written
from maquette.checkpoint.weights import load_weights
from maquette.errors import MaquetteError


def safetensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensor(shape, begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


class Evil:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


HOSTILE = {
    "a pickle": pickle.dumps(Evil()),
    "nothing": b"",
    "a short head": b"\x01\x00",
    "a header longer than the file": struct.pack("<Q", 2**62) + b"{}",
    "no JSON": safetensors(b"{" * 100),
    "deep JSON": safetensors(b'{"a":' + b"[" * 200_000),
    "a tensor of 10^12 elements": safetensors({"a": tensor([10**6, 10**6], 0, 4)}, b"\0" * 4),
    "sizes that overflow": safetensors({"a": tensor([2**62, 2**62], 0, 0)}),
    "past the end": safetensors({"a": tensor([4], 0, 16)}, b"\0" * 4),
    "backwards": safetensors({"a": tensor([1], 4, 0)}, b"\0" * 4),
    "overlapping": safetensors({"a": tensor([1], 0, 4), "b": tensor([1], 0, 4)}, b"\0" * 4),
    "a hole": safetensors({"a": tensor([1], 4, 8)}, b"\0" * 8),
    "an unknown type": safetensors({"a": tensor([1], 0, 4, "O")}, b"\0" * 4),
    "negative sizes": safetensors({"a": tensor([-1], 0, 4)}, b"\0" * 4),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_tensor_files_are_refused(tmp_path, name):
    (tmp_path / "a.safetensors").write_bytes(HOSTILE[name])
    with pytest.raises(MaquetteError, match="cannot be read"):
        load_weights(tmp_path / "a.safetensors")


def test_files_of_torch_save_are_refused_with_the_reason(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "a.pt")
    with pytest.raises(MaquetteError, match="pickles can run any code; have it saved as safetensors"):
        load_weights(tmp_path / "a.pt")


def test_headers_of_any_length_are_read(tmp_path):
    """640 begins with the bytes of a pickle, 19280 with those of a ZIP archive."""
    note = {"__metadata__": {"note": ""}, "a": tensor([1], 0, 4)}
    empty = len(json.dumps(note))
    for length in (*range(96, 2049, 8), 19280, 65536 + 640):
        note["__metadata__"]["note"] = "x" * (length - empty)
        raw = safetensors(note, struct.pack("<f", 3))
        assert int.from_bytes(raw[:8], "little") == length
        (tmp_path / "a.safetensors").write_bytes(raw)
        with TensorFile(tmp_path / "a.safetensors") as file:
            assert file.read("a").item() == 3


@pytest.mark.parametrize("protocol", range(2, 6))
def test_pickles_of_any_kind_are_refused_with_the_reason(tmp_path, protocol):
    for size in (1, 10**5):
        (tmp_path / "a.pt").write_bytes(pickle.dumps([Evil(), b" " * size], protocol))
        with pytest.raises(MaquetteError, match="pickles can run any code"):
            load_weights(tmp_path / "a.pt")


def test_folders_of_distributed_checkpoints_are_refused_with_the_reason(tmp_path):
    (tmp_path / "step_00000001").mkdir()
    (tmp_path / "step_00000001" / ".metadata").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(MaquetteError, match="pickles can run any code"):
        checkpoint.open_checkpoint(tmp_path / "step_00000001")


@pytest.fixture
def saved(tmp_path):
    with Saver(tmp_path, keep=1, background=False) as saver:
        saver.save(1, {"model": {"w": torch.arange(6.0).reshape(2, 3)}}, {"step": 1})
    (folder,) = checkpoint.paths(tmp_path)
    return folder


def resigned(folder):
    """What a stranger would do: change the files, and then the manifest, so that every checksum is right."""
    files = [path for path in folder.iterdir() if path.name != "manifest.json"]
    written = [Written(p.name, p.stat().st_size, hashlib.sha256(p.read_bytes()).hexdigest()) for p in files]
    (folder / "manifest.json").write_bytes(encode(1, written))


def changed_index(change):
    def apply(folder):
        index = json.loads((folder / "index.json").read_text())
        change(index["parts"]["model"]["w"])
        (folder / "index.json").write_text(json.dumps(index))

    return apply


def grow(entry):
    entry["shape"], entry["chunks"][0]["sizes"] = [10**6, 10**6], [10**6, 10**6]


def repeat(entry):
    piece = entry["chunks"][0]
    entry["shape"], entry["chunks"] = [2000, 3], [{**piece, "offsets": [2 * i, 0]} for i in range(1000)]


CHANGES = {
    "a larger tensor than there are bytes": (changed_index(grow), "declares 4000000000000 bytes"),
    "one piece a thousand times": (changed_index(repeat), "more than once"),
    "a file elsewhere": (changed_index(lambda e: e["chunks"][0].update(file="../../w.safetensors")), "names the file"),
    "a type that is code": (changed_index(lambda e: e.update(dtype="load")), "unknown type"),
    "a deep state": (lambda folder: (folder / "state.json").write_text("[" * 200_000), "deep"),
    "a deep index": (lambda folder: (folder / "index.json").write_text("[" * 200_000), "deep"),
    "a state that is a list": (lambda folder: (folder / "state.json").write_text("[]"), "no mapping"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_hostile_checkpoints_are_refused_though_their_checksums_are_right(saved, name):
    change, words = CHANGES[name]
    change(saved)
    resigned(saved)
    with pytest.raises(MaquetteError, match=words):
        checkpoint.read(saved)


@pytest.mark.parametrize(("count", "is_read"), [(17 * 2**20, True), (2**20, False)])
def test_an_index_may_be_as_long_as_the_tensors_that_it_describes(tmp_path, count, is_read):
    with Saver(tmp_path, keep=1, background=False) as saver:
        saver.save(1, {"model": {"w": torch.zeros(count)}}, {"step": 1})
    (folder,) = checkpoint.paths(tmp_path)
    with (folder / "index.json").open("a") as file:
        file.write(" " * (65 * 2**20))
    resigned(folder)
    if is_read:
        assert checkpoint.open_checkpoint(folder).index["model"]["w"].shape == (count,)
    else:
        with pytest.raises(MaquetteError, match="bytes of JSON, at most"):
            checkpoint.open_checkpoint(folder)


def test_a_deep_manifest_is_refused(saved):
    (saved / "manifest.json").write_text("[" * 200_000)
    with pytest.raises(MaquetteError, match="damaged"):
        checkpoint.read(saved)


def test_a_good_one_is_still_read(saved):
    resigned(saved)
    assert torch.equal(checkpoint.read(saved).parts["model"]["w"], torch.arange(6.0).reshape(2, 3))
    with TensorFile(next(saved.glob("*.safetensors"))) as file:
        assert file.notes() == {"format": "pt"}
