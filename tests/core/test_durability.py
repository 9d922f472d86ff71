"""What is on the disk, in which order it came there, and what a full disk leaves."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from maquette import checkpoint
from maquette.config import load_run_config
from maquette.errors import MaquetteError
from maquette.runner import train

TOY = Path(__file__).with_name("toy_plugin.py")
SAVE = """
import sys
from pathlib import Path
import torch
from maquette import checkpoint
weights = {"model": {"w": torch.ones(1000)}, "optimizer": {"w/step": torch.ones(())}}
checkpoint.save(Path(sys.argv[1]), 7, weights, {}, keep=1)
"""


def test_data_then_manifest_then_folder_are_on_the_disk_before_the_rename_and_the_rename_after(tmp_path):
    """As the kernel is asked, by strace."""
    if not shutil.which("strace"):
        pytest.skip("no strace; install Debian's strace")
    folder, log = tmp_path / "checkpoints", tmp_path / "calls"
    traced = ["strace", "-f", "-y", "--seccomp-bpf", "-e", "trace=fsync,rename,renameat,renameat2", "-o", str(log)]
    done = subprocess.run(
        [*traced, sys.executable, "-c", SAVE, str(folder)], capture_output=True, text=True, check=False
    )
    if "ptrace" in done.stderr or not log.exists():
        pytest.skip(f"strace may not trace here: {done.stderr[:200]}")
    assert done.returncode == 0, done.stderr
    calls = []
    for line in log.read_text().splitlines():
        if str(folder) not in line:
            continue
        if synced := re.search(r"fsync\(\d+<(.*?)>", line):
            calls.append("sync " + re.sub(r"\.step_(\d+)\.\w+", r".step_\1", os.path.relpath(synced[1], folder)))
        elif "rename" in line:
            calls.append("rename")
    temporary = ".step_00000007"
    data = [f"sync {temporary}/{file}" for file in ("model.00000.safetensors", "optimizer.00000.safetensors")]
    small = [f"sync {temporary}/{file}" for file in ("index.json", "state.json", "manifest.json")]
    assert calls == [*data, *small, f"sync {temporary}", "rename", "sync ."]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MB in memory."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(place)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("a file system cannot be mounted here; it needs root")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def run(folder, *more):
    blocks = ["data.name=toy", "model.name=toy", "model.width=${facts:width}", "objective.name=toy", "train.threads=1"]
    often = ["train.steps=30", "train.checkpoint_every=5", "train.validate_every=0", f"folder={folder}"]
    train(load_run_config(None, [f"plugins=[{TOY}]", *blocks, *often, *more]))


def fill(place):
    """Until nothing more goes in."""
    with (place / "filler").open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            return


def at_steps(monkeypatch, actions):
    """Call something before a step is made."""
    from maquette.engine.step_engine import StepEngine

    original = StepEngine.run

    def watched(self, *arguments, **named):
        actions.get(self.step, lambda: None)()
        return original(self, *arguments, **named)

    monkeypatch.setattr(StepEngine, "run", watched)


def final(folder):
    return checkpoint.read_newest(folder / "checkpoints")[0]


def test_a_disk_that_is_full_for_a_while_costs_saves_and_nothing_else(small_disk, tmp_path, monkeypatch, capsys):
    run(tmp_path / "whole", "loggers=[]")
    with monkeypatch.context() as patch:
        at_steps(patch, {12: lambda: fill(small_disk), 18: (small_disk / "filler").unlink})
        run(small_disk / "run", "loggers=[]")
    said = capsys.readouterr().err
    assert "step 15 was not saved" in said and "training goes on" in said and "step 20" not in said
    found, whole = final(small_disk / "run"), final(tmp_path / "whole")
    assert found.state == whole.state
    assert all(torch.equal(found.parts[p][n], value) for p, named in whole.parts.items() for n, value in named.items())
    assert not list((small_disk / "run" / "checkpoints").glob(".step_*"))


@pytest.mark.parametrize("logger", ["", "csv"])
def test_a_disk_that_stays_full_ends_the_run_with_the_reason_and_the_good_checkpoint_loads(
    small_disk, monkeypatch, logger
):
    at_steps(monkeypatch, {12: lambda: fill(small_disk)})
    with pytest.raises(MaquetteError, match=r"disk full|MB free and") as caught:
        run(small_disk / "run", f"loggers=[{logger}]", "train.log_every=2")
    assert "\n" not in str(caught.value)
    assert final(small_disk / "run").state["step"] == 10
    assert not list((small_disk / "run" / "checkpoints").glob(".step_*"))
    monkeypatch.undo()
    (small_disk / "filler").unlink()
    run(small_disk / "run", f"loggers=[{logger}]", "resume=auto")
    assert final(small_disk / "run").state["step"] == 30
