"""``maquette checkpoint`` shows, verifies, exports and imports."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from maquette import checkpoint
from maquette.checkpoint import Saver
from maquette.cli import run
from maquette.cli.checkpoints import checkpoint as command
from maquette.errors import MaquetteError
from maquette.runs import RunFolder

MODEL = {"w": torch.randn(3, 4), "count": torch.tensor(3)}
AVERAGES = {f"average_{decay}": {"w": torch.full((3, 4), decay), "count": MODEL["count"]} for decay in (0.9, 0.999)}


@pytest.fixture
def folder(tmp_path):
    checkpoint.save(tmp_path / "run" / "checkpoints", 7, {"model": MODEL, **AVERAGES}, {"data": {"seen": 56}}, keep=3)
    checkpoint.save(tmp_path / "run" / "checkpoints", 8, {"model": MODEL}, {"data": {"seen": 64}}, keep=3)
    return tmp_path / "run"


def call(*words):
    return run(command, [str(word) for word in words], standalone_mode=False)


def damage(folder):
    (folder / "checkpoints" / "step_00000008" / "model.00000.safetensors").write_bytes(b"nothing")


def test_inspect_shows_parts_sizes_layout_and_position_of_the_newest_whole_one(folder, capsys):
    assert call("inspect", folder) == 0
    shown = capsys.readouterr().out
    assert "step: 8" in shown and '{"seen": 64}' in shown and "saved by: one process" in shown
    damage(folder)
    assert call("inspect", folder) == 0
    shown = capsys.readouterr()
    assert "step: 7" in shown.out and "model.00000.safetensors is damaged" in shown.err
    assert [line.split() for line in shown.out.splitlines() if line.startswith("average_0.999")] == [
        ["average_0.999", "2", "13", "56", "float32,", "int64", "1"]
    ]


def test_inspect_shows_which_of_the_runs_owners_has_saved(folder, capsys):
    assert call("inspect", folder) == 0 and "number of the run's owner: none" in capsys.readouterr().out
    for number in (1, 2):
        with RunFolder(folder).owned() as owner, Saver(folder / "checkpoints", owner=owner) as saver:
            saver.save(8 + number, {"model": MODEL}, {})
    assert call("inspect", folder) == 0 and "number of the run's owner: 2" in capsys.readouterr().out


def test_verify_names_what_is_damaged_and_ends_with_status_1(folder, capsys):
    assert call("verify", folder) == 0
    damage(folder)
    assert call("verify", folder) == 1
    shown = capsys.readouterr()
    assert "step_00000007: whole" in shown.out and "model.00000.safetensors is damaged" in shown.out
    assert "1 of 2 checkpoints are damaged" in shown.err
    assert call("verify", folder / "checkpoints" / "step_00000007") == 0
    assert call("verify", folder / "checkpoints" / "step_00000008") == 1
    assert call("verify", folder / "nothing") == 1


def test_export_gives_a_file_that_safetensors_alone_reads(folder, tmp_path, capsys):
    out = tmp_path / "out.safetensors"
    assert call("export", folder / "checkpoints" / "step_00000007", out) == 0
    assert "'average_0.999' of step 7" in capsys.readouterr().err
    assert torch.equal(load_file(out)["w"], AVERAGES["average_0.999"]["w"])
    assert call("export", folder / "checkpoints" / "step_00000007", out, "--part", "average_0.9") == 0
    assert torch.equal(load_file(out)["w"], AVERAGES["average_0.9"]["w"])
    assert call("export", folder, out, "--dtype", "bf16") == 0
    read = load_file(out)
    assert torch.equal(read["w"], MODEL["w"].bfloat16()) and torch.equal(read["count"], MODEL["count"])
    assert call("export", folder, out, "--part", "average") == 1
    assert "has no averaged weights" in capsys.readouterr().err
    assert call("export", folder, out, "--part", "model.w") == 1
    assert "has no part 'model.w'; it has: model" in capsys.readouterr().err


def test_import_makes_what_start_from_takes_and_what_was_exported_comes_back(folder, tmp_path, capsys):
    source, out = tmp_path / "weights.safetensors", tmp_path / "again.safetensors"
    save_file(MODEL, source)
    assert call("import", source, tmp_path / "imported") == 0
    found, _ = checkpoint.read_newest(tmp_path / "imported" / "checkpoints", ("model", "average"))
    assert found.parts.keys() == {"model"} and torch.equal(found.parts["model"]["w"], MODEL["w"])
    assert call("export", tmp_path / "imported", out) == 0
    assert all(torch.equal(tensor, MODEL[name]) for name, tensor in load_file(out).items())
    assert call("import", source, tmp_path / "imported") == 1
    assert call("import", tmp_path / "nothing", tmp_path / "new") == 1
    assert not (tmp_path / "new").exists()
    assert "cannot be read as safetensors" in capsys.readouterr().err


def test_weights_go_out_and_in_as_plain_files(tmp_path):
    path = tmp_path / "weights.safetensors"
    tied = torch.randn(4)
    checkpoint.save_weights(path, {"a": tied, "b": tied, "n": torch.tensor([1])}, torch.float16)
    read = checkpoint.load_weights(path)
    assert torch.equal(read["a"], tied.half()) and torch.equal(read["b"], tied.half()) and read["n"].tolist() == [1]
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(MaquetteError, match="cannot be read as safetensors"):
        checkpoint.load_weights(path)
