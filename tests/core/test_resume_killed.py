"""Killed by SIGKILL at any moment and started again, a run ends with the weights of one that was left alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

HERE = Path(__file__).parent
WORDS = [
    f"plugins=[{HERE / 'toy_plugin.py'}]",
    "data.name=toy",
    "model.name=toy",
    "model.width=${facts:width}",
    "objective.name=toy",
    "train.threads=1",
    "train.checkpoint_every=3",
    "train.validate_every=0",
    "loggers=[]",
]


def train(folder, world, kills, *words, seed=0):
    """What `killed_runs.py` says of a run."""
    command = [sys.executable, str(HERE / "killed_runs.py"), str(folder), str(world), str(kills), str(seed)]
    strategy = ["strategy.name=ddp"] if world > 1 else []
    done = subprocess.run(
        [*command, *WORDS, *strategy, *words], capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    log = folder.with_suffix(".log")
    assert said["exit_code"] == 0, log.read_text() if log.exists() else done.stderr
    return said


def final_state(folder):
    """All tensors of the last checkpoint, and the plain state beside them."""
    newest = max((folder / "checkpoints").glob("step_*"))
    files = sorted(newest.glob("*.safetensors"))
    tensors = {f"{file.name}/{name}": tensor for file in files for name, tensor in load_file(file).items()}
    return newest.name, tensors, json.loads((newest / "state.json").read_text())


def assert_same_end(one, two):
    (name, tensors, state), (other_name, others, other_state) = final_state(one), final_state(two)
    assert name == other_name and state == other_state
    assert tensors.keys() == others.keys() and tensors
    different = [key for key in tensors if not torch.equal(tensors[key], others[key])]
    assert not different, f"{len(different)} of {len(tensors)} tensors differ, e.g. {different[:3]}"


def check(tmp_path, world, kills, steps):
    said = train(tmp_path / "killed", world, kills, f"train.steps={steps}")
    train(tmp_path / "whole", world, 0, f"train.steps={steps}")
    assert_same_end(tmp_path / "killed", tmp_path / "whole")
    return said


def test_four_kills_leave_no_trace_in_one_process(tmp_path):
    assert check(tmp_path, 1, 4, 90)["attempts"] == 5


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2])
def test_twenty_five_kills_leave_no_trace(tmp_path, world):
    """At random moments; about half of them are aimed at the writing of a checkpoint."""
    said = check(tmp_path, world, 25, 600)
    assert said["attempts"] >= 26 and said["while_saving"] >= 5
