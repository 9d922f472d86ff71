"""Pretrain a text-to-3D generator from nothing, on a CPU, in minutes: meshes in, a trained model, new meshes out.

    python examples/pretrain.py                                  procedural shapes, no download
    python examples/pretrain.py data.source=FOLDER name=mine     your own folder of meshes
    python examples/pretrain.py resume=runs/pretrain             go on where Ctrl-C or a crash left it

Results go to runs/NAME. `maquette show architecture dit`, `maquette show dataset shards`, ... explain every key.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from maquette.assets import export, made
from maquette.cli import run
from maquette.config import RunConfig, checked, load, read_words, read_yaml
from maquette.durable import removed_on_mistake
from maquette.progress import say
from maquette.report import Picture, Report, write_figures, write_report
from maquette.runner import check_blocks, ensure_trained
from maquette.runs import claim
from maquette.types import Request
from maquette_data3d import BuildConfig, build_shards, contact_sheet
from maquette_data3d.procedural import FIRST_CLASSES
from maquette_models.evaluation import captions, generation, reconstruction
from maquette_serve.generator import Generator

CONFIGS = Path(__file__).parent / "configs"


@dataclass
class SampleConfig:
    """What to generate in the end: ``prompts``, or else ``count`` captions; ``evaluate`` samples give the figures."""

    prompts: list[str] = field(default_factory=list)
    count: int = 16
    seed: int = 0
    evaluate: int = 80


@dataclass
class PretrainConfig:
    """The whole way: shards, autoencoder, generator, samples."""

    name: str = "pretrain"
    folder: str = "runs/${name}"
    seed: int = 0
    data: BuildConfig = field(default_factory=BuildConfig)
    autoencoder: RunConfig = field(default_factory=RunConfig)
    generator: RunConfig = field(default_factory=RunConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)
    resume: str | None = None


def main(words: list[str]) -> None:
    config = read_config(words)
    for part in (config.autoencoder, config.generator):
        check_blocks(part)
    folder = Path(config.folder)
    with removed_on_mistake(folder):
        claim(folder / "pretrain.yaml", config)
        report = build_shards(checked(config.data))
    say(f"shards: {report.kept} shapes kept, {report.quarantined} quarantined: see {folder}/shards/report.json")
    ensure_trained(config.autoencoder)
    ensure_trained(config.generator)

    engine, asked = Generator(folder / "generator"), config.sample
    prompts = list(asked.prompts) or [caption for caption, _ in captions.held_out_captions(folder / "shards")]
    requests = [Request(prompt, asked.seed + i) for i, prompt in enumerate(prompts[: asked.count])]
    assets = made(engine.generate(requests))
    for index, asset in enumerate(assets):
        export(asset, folder / "samples" / f"{index:02d}-{'-'.join(asset.metadata['prompt'].split())[:60]}.glb")
    tiles = [(asset.mesh, asset.metadata["prompt"]) for asset in assets]
    contact_sheet([tiles[i : i + 4] for i in range(0, len(tiles), 4)], folder / "contact_sheet.png")

    figures = {
        "reconstruction": reconstruction.evaluate_reconstruction(folder / "autoencoder", folder / "shards"),
        "generation": generation.evaluate_generation(engine.pipeline, folder / "shards", asked.evaluate, asked.seed),
    }
    write_figures(folder / "metrics.json", figures)
    picture = Picture(folder / "contact_sheet.png", "What the generator makes of captions it was not trained on")
    summary = f"{report.kept} shapes from {config.data.source}, {report.quarantined} quarantined"
    yaml, runs = (folder / "pretrain.yaml").read_text(), {name: folder / name for name in ("autoencoder", "generator")}
    told = Report(f"maquette: {config.name}", summary, [picture], figures, config=yaml, runs=runs)
    write_report(folder / "report.html", told)
    print(*(folder / what for what in ("samples", "contact_sheet.png", "metrics.json", "report.html")), sep="\n")
    print(f'more: maquette sample {folder} --prompt "{prompts[0]}" --seed 7 --out mesh.glb')


def read_config(words: list[str]) -> DictConfig:
    """Defaults, then the two YAML files, then the words; a resumed run uses the config it was started with."""
    given = read_words(words)
    if given.get("resume"):
        return load(PretrainConfig, read_yaml(Path(given.resume) / "pretrain.yaml"), given)
    parts = {"autoencoder": read_yaml(CONFIGS / "grid_vae.yaml"), "generator": read_yaml(CONFIGS / "dit.yaml")}
    easy = {"source": "procedural", "classes": list(FIRST_CLASSES), "variety": 0.25, "thumbnails": 48}
    config = load(PretrainConfig, {"data": easy}, parts, given)
    return load(PretrainConfig, config, places(config), given)


def places(config: DictConfig) -> dict[str, Any]:
    """Where the parts of the run lie, and that they share one seed."""
    folder, seed = config.folder, config.seed
    shards, autoencoder, generator = (f"{folder}/{part}" for part in ("shards", "autoencoder", "generator"))
    latents = {"shards": shards, "autoencoder": autoencoder}
    return {
        "data": {"out": shards, "seed": seed},
        "autoencoder": {"name": "autoencoder", "folder": autoencoder, "seed": seed, "data": {"folder": shards}},
        "generator": {"name": "generator", "folder": generator, "seed": seed, "data": latents},
    }


if __name__ == "__main__":
    sys.exit(run(main, sys.argv[1:]))
