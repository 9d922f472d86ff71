"""Train on several processes, lose one by force, and end with the weights of a run that was left alone.

    python examples/distributed.py                                    two processes on this machine, about two minutes
    python examples/distributed.py processes=4 'layout=[strategy.name=fsdp,parallel.tensor=2]'

A tiny generator is trained three times with the same words: by one process; by several; by several again, one of
which is killed with SIGKILL in the middle. The second has the losses of the first, to rounding; the third the
weights of the second, to the bit. On a cluster the same words are launched with --nodes and --rendezvous:
docs/launch.md. Results go to runs/distributed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import torch

from maquette import checkpoint
from maquette.cli import run
from maquette.config import RunConfig, checked, load, read_words, read_yaml
from maquette.errors import MaquetteError
from maquette.progress import say
from maquette.runner import ensure_trained
from maquette.runs import RunFolder, read_weights
from maquette_data3d import BuildConfig, build_shards

CONFIGS = Path(__file__).parent / "configs"
STEPS = ["train.validate_every=0", "train.checkpoint_every=10", "train.log_every=5", "train.precision=fp32"]


@dataclass
class DistributedConfig:
    """``layout`` are the words for several processes, as `maquette train` takes them."""

    folder: str = "runs/distributed"
    processes: int = 2
    layout: list[str] = field(default_factory=lambda: ["strategy.name=fsdp"])
    steps: int = 120
    kill_after: int = 50
    """The step whose checkpoint is waited for, before a process is killed."""


def main(words: list[str]) -> None:
    config: DistributedConfig = checked(load(DistributedConfig, read_words(words)))
    folder = Path(config.folder)
    shards, autoencoder = f"{folder}/shards", f"{folder}/autoencoder"
    build_shards(BuildConfig(source="procedural", out=shards, count=64, resolution=32, points=512))
    places = {"name": "autoencoder", "folder": autoencoder, "data": {"folder": shards}}
    short = {"train": {"steps": 60, "validate_every": 0}}
    ensure_trained(load(RunConfig, read_yaml(CONFIGS / "grid_vae.yaml"), places, short))

    told = [f"data.shards={shards}", f"data.autoencoder={autoencoder}", f"train.steps={config.steps}", *STEPS]
    one = train(folder / "one", 1, told)
    several = train(folder / "several", config.processes, [*told, *config.layout])
    killed = train(folder / "killed", config.processes, [*told, *config.layout], config.kill_after)

    off = max(abs(a / b - 1) for a, b in zip(losses(one), losses(several), strict=True))
    print(f"losses of {config.processes} processes are off those of one by at most {off:.1e}")
    (_, alone), (_, healed) = read_weights(several.path), read_weights(killed.path)
    same = all(torch.equal(alone[name], healed[name]) for name in alone)
    print(f"weights of the run that lost a process are those of the one that lost none, to the bit: {same}")


def train(folder: Path, processes: int, told: list[str], kill_after: int | None = None) -> RunFolder:
    """Launch a run as one would by hand; perhaps kill one of its processes on the way."""
    words = [str(CONFIGS / "tiny.yaml"), f"name={folder.name}", f"folder={folder}", *told, "resume=auto"]
    say(f"training '{folder.name}' on {processes}: maquette launch --nproc {processes} train {' '.join(words[1:])}")
    command = [sys.executable, "-m", "maquette.cli", "launch", "--nproc", str(processes), "train", *words]
    launcher = subprocess.Popen(command)
    if kill_after:
        kill_one(RunFolder(folder), kill_after, launcher)
    if launcher.wait() != 0:
        raise MaquetteError(f"run '{folder}' failed; see {folder}/logs/ranks")
    return RunFolder(folder)


def kill_one(folder: RunFolder, step: int, launcher: subprocess.Popen[bytes]) -> None:
    """SIGKILL to one of the launcher's processes, as soon as a checkpoint of ``step`` or later is there."""
    while launcher.poll() is None:
        saved = checkpoint.paths(folder.checkpoints) if folder.checkpoints.exists() else []
        if any(int(path.name.removeprefix("step_")) >= step for path in saved):
            workers = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
            say(f"killing process {workers[-1]}")
            os.kill(int(workers[-1]), signal.SIGKILL)
            return
        time.sleep(0.05)


def losses(folder: RunFolder) -> list[float]:
    return [value for _, value in folder.metrics()["train/loss"]]


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
