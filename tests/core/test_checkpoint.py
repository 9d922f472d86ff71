"""Checkpoints are whole or not there, damage is found, and the last good one is used."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from maquette import checkpoint
from maquette.checkpoint import Saver
from maquette.errors import MaquetteError

PARTS = {"model": {"w": torch.arange(6.0).view(2, 3)}, "optimizer": {"w/step": torch.tensor(3.0)}}

ODD = {
    "scalar": torch.tensor(2.5),
    "empty": torch.empty(0, 4),
    "bf16": torch.randn(3, 5).bfloat16(),
    "fp8": torch.randn(4, 4).to(torch.float8_e4m3fn),
    "flags": torch.tensor([True, False, True]),
    "count": torch.tensor([2**40, -1]),
    "half": torch.randn(3).half(),
    "strided": torch.randn(4, 6).t()[1:3],
    "name/with.odd@signs,0": torch.randn(2),
    "nan": torch.tensor([float("nan"), float("inf"), -0.0]),
}


def same_bits(one, two):
    return one.dtype == two.dtype and one.shape == two.shape and bytes_of(one) == bytes_of(two)


def bytes_of(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def test_what_was_saved_comes_back_to_the_bit_whatever_its_type_and_shape(tmp_path):
    path = checkpoint.save(tmp_path, 5, {"model": ODD}, {"micro_step": 5, "data": {"seen": 40}}, keep=2)
    found, reasons = checkpoint.newest(tmp_path)
    assert (found.path, found.step, found.parts, reasons) == (path, 5, ("model",), [])
    assert found.state["micro_step"] == 5 and found.state["data"] == {"seen": 40}
    read = found.read("model")
    assert read.keys() == ODD.keys() and all(same_bits(read[name], tensor) for name, tensor in ODD.items())
    target = {name: torch.zeros_like(tensor) for name, tensor in ODD.items()}
    found.load_into({"model": target})
    assert all(same_bits(target[name], tensor) for name, tensor in ODD.items())


def test_files_are_plain_safetensors_and_hold_nothing_that_runs(tmp_path):
    path = checkpoint.save(tmp_path, 5, {"model": ODD}, {}, keep=2)
    names = {file.name for file in path.iterdir()}
    assert names == {"model.00000.safetensors", "index.json", "state.json", "manifest.json"}
    assert all(same_bits(tensor, ODD[name]) for name, tensor in load_file(path / "model.00000.safetensors").items())
    assert all(json.loads((path / name).read_text()) for name in names if name.endswith(".json"))


def test_parts_are_read_alone(tmp_path):
    path = checkpoint.save(tmp_path, 5, PARTS, {}, keep=2)
    (path / "optimizer.00000.safetensors").unlink()
    assert set(checkpoint.read(path, only=("model", "average*")).parts) == {"model"}
    assert checkpoint.newest(tmp_path, only=("mod*",))[0].parts == ("model", "optimizer")
    with pytest.raises(MaquetteError, match=r"optimizer.00000.safetensors is missing"):
        checkpoint.read(path)


def test_only_the_newest_and_the_best_are_kept_and_nothing_else_is_left(tmp_path):
    with Saver(tmp_path, keep=2, keep_best=2) as saver:
        for step, score in ((1, 5.0), (2, 3.0), (30, 4.0), (400, float("nan")), (5000, None), (123456789, 9.0)):
            saver.save(step, PARTS, {}, score)
    visible = [p.name for p in sorted(tmp_path.iterdir()) if p.name != ".writer"]
    assert visible == ["step_00000002", "step_00000030", "step_00005000", "step_123456789"]
    assert checkpoint.newest(tmp_path)[0].step == 123456789


def test_tied_weights_are_saved_and_loaded(tmp_path):
    weight = torch.ones(3)
    checkpoint.save(tmp_path, 1, {"model": {"a": weight, "b": weight}}, {}, keep=1)
    target = torch.zeros(3)
    found, _ = checkpoint.newest(tmp_path)
    found.load_into({"model": {"a": target, "b": target}})
    assert torch.equal(target, weight) and torch.equal(found.read("model")["b"], weight)


@given(data=st.data())
def test_every_damage_is_found_and_the_previous_one_is_used(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("checkpoints")
    checkpoint.save(folder, 1, PARTS, {"micro_step": 1}, keep=3)
    newest = checkpoint.save(folder, 2, PARTS, {"micro_step": 2}, keep=3)
    file = data.draw(st.sampled_from(sorted(newest.iterdir())))
    content = bytearray(file.read_bytes())
    harm = data.draw(st.sampled_from(["flip", "truncate", "remove", "zero", "zero a block", "longer", "stale", "swap"]))
    at = data.draw(st.integers(0, len(content) - 1))
    if harm == "remove":
        file.unlink()
    elif harm == "stale":
        shutil.copy(folder / "step_00000001" / "manifest.json", newest / "manifest.json")
    elif harm == "swap":
        (newest / "model.00000.safetensors").write_bytes((newest / "optimizer.00000.safetensors").read_bytes())
    else:
        flipped = bytearray(content)
        flipped[at] ^= 1 << data.draw(st.integers(0, 7))
        block = content[:at] + bytes(len(content[at : at + 64])) + content[at + 64 :]
        changed = {"flip": flipped, "truncate": content[:at], "zero": bytes(len(content)), "longer": content + b" "}
        changed["zero a block"] = block if block != content else flipped
        file.write_bytes(changed[harm])
    if harm == "longer" and file.name == "manifest.json":
        return  # a blank behind JSON says nothing else
    found, reasons = checkpoint.newest(folder)
    assert found.state["micro_step"] == 1
    assert len(reasons) == 1 and "step_00000002" in reasons[0]
    if harm in ("flip", "truncate", "remove", "zero", "zero a block", "longer"):
        assert file.name in reasons[0]


def test_a_damaged_one_is_set_aside_so_that_its_step_can_be_written_again(tmp_path):
    good = checkpoint.save(tmp_path, 1, PARTS, {}, keep=3)
    bad = checkpoint.save(tmp_path, 2, PARTS, {}, keep=3)
    (bad / "model.00000.safetensors").write_bytes(b"")
    found, _ = checkpoint.newest(tmp_path)
    checkpoint.quarantine(tmp_path, found.path)
    assert checkpoint.paths(tmp_path) == [good]
    assert (tmp_path / "damaged_step_00000002").is_dir()
    assert checkpoint.save(tmp_path, 2, PARTS, {}, keep=3) == bad and checkpoint.newest(tmp_path)[0].step == 2


def test_none_at_all_is_said(tmp_path):
    with pytest.raises(MaquetteError, match="no checkpoint in"):
        checkpoint.newest(tmp_path)
    with pytest.raises(MaquetteError, match="no checkpoint in"):
        checkpoint.read_newest(tmp_path / "nowhere")


def test_tensors_of_another_model_are_refused_and_nothing_is_changed(tmp_path):
    checkpoint.save(tmp_path, 1, {"model": {"a": torch.ones(3), "b": torch.ones(2)}}, {}, keep=1)
    found, _ = checkpoint.newest(tmp_path)
    target = torch.zeros(3)
    for tensors, message in (
        ({"a": target}, "1 tensors differ, e.g. 'b' is unknown here"),
        ({"a": target, "b": torch.zeros(2), "c": target}, "1 tensors differ, e.g. 'c' is missing there"),
        ({"a": target, "b": torch.zeros(4)}, r"'b' is \[2\] there and \[4\] here"),
    ):
        with pytest.raises(MaquetteError, match=message):
            found.load_into({"model": tensors})
    with pytest.raises(MaquetteError, match="no part 'optimizer'; it has: model"):
        found.load_into({"optimizer": {}})
    assert not target.any()


def test_values_that_cannot_be_saved_are_refused_at_once(tmp_path):
    with Saver(tmp_path, keep=1) as saver:
        saver.save(0, PARTS, {})
        for parts, state, message in (
            ({"model": {"w": 3}}, {}, "'w' in part 'model' of the state is int"),
            ({"a/b": {}}, {}, "a part of the state is called 'a/b'"),
            ({"model": {"w": torch.empty(2, device="meta")}}, {}, "no memory yet"),
            ({"model": {"w": torch.ones(2, dtype=torch.complex128)}}, {}, "which safetensors files cannot hold"),
            (PARTS, {"rng": object()}, "not plain data"),
        ):
            with pytest.raises(MaquetteError, match=message):
                saver.save(1, parts, state)
    assert [path.name for path in checkpoint.paths(tmp_path)] == ["step_00000000"]


def test_an_index_that_lies_is_refused(tmp_path):
    from maquette.checkpoint.index import Chunk, Entry, decode, encode

    def text(shape, chunk):
        return encode({"model": {"w": Entry(torch.float32, shape, (chunk,))}})

    decode(text((2, 3), Chunk("f", "w", (0, 0), (2, 3))))
    for shape, chunk in (
        ((10**6, 10**6), Chunk("f", "w", (0, 0), (2, 3))),
        ((2, 3), Chunk("../../f", "w", (0, 0), (2, 3))),
        ((2, 3), Chunk("f", "w", (1, 0), (2, 3))),
        ((2, 3), Chunk("f", "w", (0,), (6,))),
    ):
        with pytest.raises(MaquetteError, match="is not an index"):
            decode(text(shape, chunk))


def test_the_part_to_sample_from_is_the_longest_average():
    assert checkpoint.weights_part(("model", "optimizer", "average_0.99", "average_0.9999")) == "average_0.9999"
    assert checkpoint.weights_part(("model", "average")) == "average"
    assert checkpoint.weights_part(("model", "optimizer")) == "model"
