"""Checkpoints are whole or not there, damage is found, and the last good one is used."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from maquette import checkpoint
from maquette.errors import MaquetteError

PARTS = {"model": {"w": torch.arange(6.0).view(2, 3)}, "optimizer": {"w/step": torch.tensor(3.0)}}


def test_what_was_saved_comes_back(tmp_path):
    path = checkpoint.save(tmp_path, 5, PARTS, {"micro_step": 5}, keep=2)
    found = checkpoint.read(path)
    assert torch.equal(found.parts["model"]["w"], PARTS["model"]["w"])
    assert found.state["micro_step"] == 5
    assert set(checkpoint.read(path, only=("model",)).parts) == {"model"}


def test_only_the_newest_are_kept_and_no_temporary_is_left(tmp_path):
    for step in (1, 2, 30, 400):
        checkpoint.save(tmp_path, step, PARTS, {}, keep=2)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["step_00000030", "step_00000400"]


def test_tied_weights_are_saved(tmp_path):
    weight = torch.ones(3)
    found = checkpoint.read(checkpoint.save(tmp_path, 1, {"model": {"a": weight, "b": weight}}, {}, keep=1))
    assert torch.equal(found.parts["model"]["a"], found.parts["model"]["b"])


@given(data=st.data())
def test_every_damage_is_found_and_the_previous_one_is_used(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("checkpoints")
    checkpoint.save(folder, 1, PARTS, {"micro_step": 1}, keep=3)
    newest = checkpoint.save(folder, 2, PARTS, {"micro_step": 2}, keep=3)
    file = data.draw(st.sampled_from(sorted(newest.iterdir())))
    content = bytearray(file.read_bytes())
    harm = data.draw(st.sampled_from(["flip", "truncate", "remove", "zero"]))
    if harm == "remove":
        file.unlink()
    else:
        at = data.draw(st.integers(0, len(content) - 1))
        if harm == "flip":
            content[at] ^= 1 << data.draw(st.integers(0, 7))
        changed = {"flip": content, "truncate": content[:at], "zero": bytes(len(content))}[harm]
        file.write_bytes(changed)
    found, reasons = checkpoint.read_newest(folder)
    assert found.state["micro_step"] == 1
    assert len(reasons) == 1 and "step_00000002" in reasons[0]


def test_a_damaged_one_is_set_aside_so_that_its_step_can_be_written_again(tmp_path):
    good = checkpoint.save(tmp_path, 1, PARTS, {}, keep=3)
    bad = checkpoint.save(tmp_path, 2, PARTS, {}, keep=3)
    (bad / "model.safetensors").write_bytes(b"")
    checkpoint.quarantine(tmp_path, good)
    assert checkpoint.paths(tmp_path) == [good]
    assert (tmp_path / "damaged_step_00000002").is_dir()


def test_none_at_all_is_said(tmp_path):
    with pytest.raises(MaquetteError, match="no checkpoint in"):
        checkpoint.read_newest(tmp_path)
