"""Generate meshes from a trained run and look at them.

python examples/sample.py                                             after examples/pretrain.py
python examples/sample.py run=runs/mine 'prompts=[a tall red chair]' count=8
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from maquette.assets import export, made
from maquette.cli import run
from maquette.config import checked, load, read_words
from maquette.progress import say, track
from maquette.types import Request
from maquette_data3d import contact_sheet
from maquette_serve.generator import Generator


@dataclass
class SampleConfig:
    """``count`` meshes a prompt, with successive seeds."""

    run: str = "runs/pretrain"
    prompts: list[str] = field(default_factory=lambda: ["a tall red chair", "a wide blue table", "a green car"])
    count: int = 4
    seed: int = 0
    format: str = ".glb"
    out: str = "${run}/more-samples"


def main(words: list[str]) -> None:
    config: SampleConfig = checked(load(SampleConfig, read_words(words)))
    out = Path(config.out)
    requests = [Request(prompt, config.seed + i) for prompt in config.prompts for i in range(config.count)]
    assets = made(track(Generator(config.run).generate(requests), "Sampling", total=len(requests)))
    for asset in assets:
        if asset.metadata["unknown_words"]:
            say(f"warning: ignored words that the model never saw: {', '.join(asset.metadata['unknown_words'])}")
        export(asset, out / f"{'-'.join(asset.metadata['prompt'].split())}-{asset.metadata['seed']}{config.format}")
    tiles = [(asset.mesh, asset.metadata["prompt"]) for asset in assets]
    rows = [tiles[i : i + config.count] for i in range(0, len(tiles), config.count)]
    contact_sheet(rows, out / "contact_sheet.png")
    print(f"{len(assets)} meshes and contact_sheet.png in {out}")


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
