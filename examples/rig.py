"""Train a rigger from nothing, on a CPU, in minutes; rig creatures that no training saw, and make them walk.

    python examples/rig.py                 procedural creatures, no download
    python examples/rig.py mesh=wolf.glb   your own mesh (upright, facing +z), once the rigger is trained

Two runs: one writes a skeleton for a surface, joint by joint, the other says how much each joint moves each point.
Results go to runs/rig: rigged.glb with a skin and two clips, and walking.png with frames of them. The defaults
learn from 320 creatures and 80 things that have no joints (a chair must get no rig); docs/models/rigging.md tells
what longer training on more gives.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig
from PIL import Image

from maquette import plugins
from maquette.assets import export, import_mesh, open_pipeline
from maquette.cli import run
from maquette.config import RunConfig, checked, load, read_words, read_yaml
from maquette.errors import MaquetteError
from maquette.progress import say
from maquette.runner import ensure_trained
from maquette.types import Request
from maquette_data3d import BuildConfig, build_shards, sample_shape

CONFIGS = Path(__file__).parent / "configs"
# A surface whose points know which joints hold them, and the joints with what each is of a body.
RIGGED = [
    {"name": "surface", "points": 2048, "skin": True, "precision": "exact"},
    {"name": "skeleton", "roles": True},
]


@dataclass
class RigConfig:
    """``mesh`` rigs your own file; without it a creature of a seed that the shards do not hold."""

    folder: str = "runs/rig"
    creatures: BuildConfig = field(default_factory=BuildConfig)
    things: BuildConfig = field(default_factory=BuildConfig)
    skeleton: RunConfig = field(default_factory=RunConfig)
    skin: RunConfig = field(default_factory=RunConfig)
    mesh: str | None = None
    creature: int = 0
    clips: list[str] = field(default_factory=lambda: ["walk", "jump"])


def main(words: list[str]) -> None:
    config = read_config(words)
    folder = Path(config.folder)
    for data in (config.creatures, config.things):
        report = build_shards(checked(data))
        say(f"shards: {report.kept} shapes in {data.out}")
    ensure_trained(config.skeleton)
    ensure_trained(config.skin)

    if config.mesh:
        mesh = import_mesh(Path(config.mesh))
    else:
        mesh = sample_shape(77_000, config.creature, classes=["creatures"]).mesh(48)
    try:
        rigged = open_pipeline(folder / "skin")(Request(mesh=mesh))
    except MaquetteError as error:
        raise MaquetteError(f"{error}; another creature=N may do better, or longer training") from None
    say(f"a {rigged.metadata['kind']} of {rigged.metadata['joints']} joints")

    animate: Any = plugins.build("pipelines", {"name": "animate"})
    moving = animate(Request(mesh=rigged.mesh, options={"clip": ",".join(config.clips)}))
    export(moving, folder / "rigged.glb")
    rows = [animate.sheet(moving.mesh, clip) for clip in moving.animations]
    Image.fromarray(np.concatenate(rows)).save(folder / "walking.png")
    print(f"mesh:     {folder / 'rigged.glb'}\npicture:  {folder / 'walking.png'}")
    print(f"more:     maquette rig {folder / 'skin'} --mesh FILE --out rigged.glb")


def read_config(words: list[str]) -> DictConfig:
    """The two configs of the repository, shortened to minutes; then the words."""
    given = read_words(words)
    data = {"source": "procedural", "resolution": 32, "points": 2048, "features": RIGGED}
    short: dict[str, Any] = {
        "creatures": {**data, "count": 320, "classes": ["creatures"]},
        "things": {**data, "count": 80, "seed": 1, "classes": ["furniture", "vehicles", "vessels", "stones"]},
        "skeleton": {"train": {"steps": 400}},
        "skin": {"train": {"steps": 250}},
    }
    files = {"skeleton": read_yaml(CONFIGS / "skeleton.yaml"), "skin": read_yaml(CONFIGS / "skin.yaml")}
    config = load(RigConfig, files, short, given)
    creatures, things = f"{config.folder}/creatures", f"{config.folder}/things"
    places = {
        "creatures": {"out": creatures},
        "things": {"out": things},
        "skeleton": {"folder": f"{config.folder}/skeleton", "data": {"shards": [creatures, things]}},
        "skin": {"folder": f"{config.folder}/skin", "data": {"shards": [creatures]}},
    }
    return load(RigConfig, config, places, given)


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
