"""Finetune a pretrained generator on other shapes: by default on one class that is drawn anew, or on your own folder.

python examples/finetune.py                                   after examples/pretrain.py
python examples/finetune.py run=runs/mine data.source=FOLDER  your own meshes
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from maquette.assets import export, find_generator, made
from maquette.cli import run
from maquette.config import checked, load, read_words
from maquette.finetuning import finetune_config
from maquette.progress import say
from maquette.report import write_figures
from maquette.runner import ensure_trained
from maquette.runs import RunFolder
from maquette.types import Request
from maquette_data3d import BuildConfig, build_shards, contact_sheet
from maquette_data3d.procedural import FIRST_CLASSES
from maquette_models.evaluation.captions import held_out_captions
from maquette_models.evaluation.generation import evaluate_generation
from maquette_serve.generator import Generator


@dataclass
class FinetuneConfig:
    """``changes`` go over the generator's own run config, e.g. ``changes.train.steps=200``."""

    run: str = "runs/pretrain"
    name: str = "finetune"
    folder: str = "runs/${name}"
    data: BuildConfig = field(
        default_factory=lambda: BuildConfig(
            source="procedural", seed=1000, count=160, variety=0.6, classes=list(FIRST_CLASSES), thumbnails=48
        )
    )
    changes: dict[str, Any] = field(
        default_factory=lambda: {
            "train": {"steps": 150, "validate_every": 50},
            "optimizer": {"learning_rate": 3e-4, "warmup_steps": 20},
        }
    )
    samples: int = 6
    evaluate: int = 40


def main(words: list[str]) -> None:
    config = load(FinetuneConfig, read_words(words))
    pretrained = find_generator(config.run)
    folder = Path(config.folder)
    config.data.out = f"{folder}/shards"
    report = build_shards(checked(config.data))
    say(f"shards: {report.kept} shapes kept, {report.quarantined} quarantined")

    autoencoder = RunFolder(pretrained).read_config().data.autoencoder
    places = {
        "name": "generator",
        "folder": f"{folder}/generator",
        "data": {"shards": config.data.out, "autoencoder": autoencoder},
    }
    ensure_trained(finetune_config(pretrained, OmegaConf.merge(places, config.changes)))

    captions = [caption for caption, _ in held_out_captions(config.data.out)][: config.samples]
    rows, figures = [], {}
    for title, generator in (("before", pretrained), ("after", folder / "generator")):
        engine = Generator(generator)
        assets = made(engine.generate([Request(caption, i) for i, caption in enumerate(captions)]))
        for index, asset in enumerate(assets):
            export(asset, folder / "samples" / title / f"{index:02d}.glb")
        rows.append([(asset.mesh, f"{title}: {asset.metadata['prompt']}") for asset in assets])
        figures[title] = evaluate_generation(engine.pipeline, config.data.out, config.evaluate)
    contact_sheet(rows, folder / "contact_sheet.png")
    write_figures(folder / "metrics.json", figures)
    print(f"meshes:   {folder / 'samples'}\npicture:  {folder / 'contact_sheet.png'}")
    print(f"figures:  {folder / 'metrics.json'}")


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
