"""Make the pictures of docs/gallery.md anew, and say what each cost: trains everything from nothing, on a CPU.

    python examples/gallery.py                       the three that take minutes
    python examples/gallery.py 'only=[voxset]'       the flagship: an hour of one core

Each exhibit is the same commands that its page of the documentation shows. gallery/ gets a picture for each, and
costs.json with the processor time and the commands.
"""

from __future__ import annotations

import json
import os
import resource
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from maquette.cli import run
from maquette.config import checked, load, read_words
from maquette.errors import MaquetteError, unknown_name
from maquette.progress import say

HERE, PYTHON = (shlex.quote(str(path)) for path in (Path(__file__).resolve().parent, sys.executable))
MAQUETTE = f"{PYTHON} -m maquette.cli"
SHARDS = (
    "data build procedural voxset_shards count=2304 variety=0.25"
    ' "classes=[chair,table,lamp,mug,car,creature,pebble,gear]"'
    ' "features=[grid,{name: surface, colors: true},sharp,queries]"'
)
VOXSET = "data.shards=voxset_shards data.autoencoder=runs/voxset_vae pipeline.structure=runs/voxset_structure"
# Name -> the commands, and the picture that they leave.
EXHIBITS: dict[str, tuple[list[str], str]] = {
    "pretrain": ([f"{PYTHON} {HERE}/pretrain.py"], "runs/pretrain/contact_sheet.png"),
    "texture": ([f"{PYTHON} {HERE}/texture.py"], "runs/texture/painted.png"),
    "rig": ([f"{PYTHON} {HERE}/rig.py"], "runs/rig/walking.png"),
    "voxset": (
        [
            f"{MAQUETTE} {SHARDS}",
            f"{MAQUETTE} train {HERE}/configs/voxset_vae.yaml data.folder=voxset_shards",
            f"{MAQUETTE} train {HERE}/configs/voxset_structure.yaml data.shards=voxset_shards",
            f"{MAQUETTE} train {HERE}/configs/voxset_dit.yaml {VOXSET}",
            f"{PYTHON} {HERE}/sample.py run=runs/voxset_dit out=voxset",
        ],
        "voxset/contact_sheet.png",
    ),
}


@dataclass
class GalleryConfig:
    """``only`` names exhibits: pretrain, texture, rig, voxset."""

    only: list[str] = field(default_factory=lambda: ["pretrain", "texture", "rig"])
    out: str = "gallery"
    threads: int = 1


def main(words: list[str]) -> None:
    config: GalleryConfig = checked(load(GalleryConfig, read_words(words)))
    out = Path(config.out)
    out.mkdir(parents=True, exist_ok=True)
    costs = {}
    for name in config.only:
        if name not in EXHIBITS:
            raise unknown_name("exhibit", name, EXHIBITS)
        costs[name] = make(name, out, config.threads)
        (out / "costs.json").write_text(json.dumps(costs, indent=2))
        print(f"{name}: {out}/{name}.png, {costs[name]['processor_minutes']} minutes of processor time")


def make(name: str, out: Path, threads: int) -> dict[str, object]:
    """Run an exhibit's commands below ``out`` and keep its picture."""
    commands, picture = EXHIBITS[name]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    begin, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    for command in commands:
        say(command)
        if subprocess.run(command, shell=True, cwd=out, env=environment, check=False).returncode != 0:
            raise MaquetteError(f"exhibit '{name}' failed at: {command}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    shutil.copy(out / picture, out / f"{name}.png")
    minutes = {"processor_minutes": round(spent / 60, 1), "minutes": round((time.monotonic() - begin) / 60, 1)}
    return {**minutes, "commands": [command.replace(PYTHON, "python") for command in commands]}


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
