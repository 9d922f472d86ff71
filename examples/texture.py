"""Train a painter from nothing, on a CPU, in minutes, and paint meshes by captions.

    python examples/texture.py                                   procedural shapes, no download
    python examples/texture.py mesh=chair.glb 'prompt=a red chair'    your own mesh, once the painter is trained

Two runs: an autoencoder of paint, and a flow that makes paint for a given shape and caption. Results go to
runs/texture: painted GLB files with base colour, metallic and roughness textures, and painted.png, each mesh before
(grey) and after. The defaults see 480 shapes for a few minutes; docs/models/texturing.md tells what four times as
many give.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from maquette.assets import export, import_mesh, made, open_pipeline
from maquette.cli import run
from maquette.config import RunConfig, checked, load, read_words, read_yaml
from maquette.progress import say
from maquette.runner import ensure_trained
from maquette.types import Asset, Mesh, Request
from maquette_data3d import BuildConfig, build_shards, contact_sheet, sample_shape
from maquette_data3d.procedural import FIRST_CLASSES

CONFIGS = Path(__file__).parent / "configs"
# What a painter learns from: points with their colours and materials, and pictures, for those who ask with one.
PAINTED = [{"name": "surface", "colors": True, "materials": True}, {"name": "views", "count": 2, "size": 64}]


@dataclass
class TextureConfig:
    """``mesh`` and ``prompt`` paint your own file; without them ``count`` shapes that no training saw are painted."""

    folder: str = "runs/texture"
    data: BuildConfig = field(default_factory=BuildConfig)
    autoencoder: RunConfig = field(default_factory=RunConfig)
    flow: RunConfig = field(default_factory=RunConfig)
    mesh: str | None = None
    prompt: str = ""
    count: int = 6
    size: int = 512
    """Texels a side."""


def main(words: list[str]) -> None:
    config = read_config(words)
    folder = Path(config.folder)
    report = build_shards(checked(config.data))
    say(f"shards: {report.kept} shapes kept, {report.quarantined} quarantined")
    ensure_trained(config.autoencoder)
    ensure_trained(config.flow)

    if config.mesh:
        bare = [(import_mesh(Path(config.mesh)), config.prompt)]
    else:
        bare = [unseen(index, config.data.resolution) for index in range(config.count)]
    paint = open_pipeline(folder / "flow")
    requests = [Request(prompt, mesh=mesh, options={"size": config.size}) for mesh, prompt in bare]
    painted: list[Asset] = made(paint.batch(requests))
    for index, asset in enumerate(painted):
        export(asset, folder / "painted" / f"{index:02d}.glb")
    before = [(mesh, "as it came") for mesh, _ in bare]
    after = [(asset.mesh, prompt) for asset, (_, prompt) in zip(painted, bare, strict=True)]
    contact_sheet([before, after], folder / "painted.png")
    print(f"meshes:   {folder / 'painted'}\npicture:  {folder / 'painted.png'}")
    print(f'more:     maquette texture {folder / "flow"} --mesh FILE --prompt "a red chair" --out painted.glb')


def unseen(index: int, resolution: int) -> tuple[Mesh, str]:
    """A shape of a seed that the shards do not hold, without its colours, and its caption."""
    shape = sample_shape(77_000, index, variety=0.25)
    return replace(shape.mesh(resolution), colors=None), shape.caption


def read_config(words: list[str]) -> DictConfig:
    """The two configs of the repository, shortened to minutes; then the words."""
    given = read_words(words)
    data = {"source": "procedural", "count": 480, "classes": list(FIRST_CLASSES), "variety": 0.25}
    short: dict[str, Any] = {
        "data": {**data, "features": PAINTED},
        "autoencoder": {"train": {"steps": 150}},
        "flow": {"train": {"steps": 400}},
    }
    files = {"autoencoder": read_yaml(CONFIGS / "texture_vae.yaml"), "flow": read_yaml(CONFIGS / "texture_flow.yaml")}
    config = load(TextureConfig, files, short, given)
    shards, autoencoder = f"{config.folder}/shards", f"{config.folder}/autoencoder"
    places = {
        "data": {"out": shards},
        "autoencoder": {"folder": autoencoder, "data": {"folder": shards}},
        "flow": {"folder": f"{config.folder}/flow", "data": {"shards": shards, "autoencoder": autoencoder}},
    }
    return load(TextureConfig, config, places, given)


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
