"""``maquette sample``: prompts and pictures in, mesh files out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from maquette.assets import check_suffix
from maquette.config import read_words
from maquette.errors import MaquetteError
from maquette.progress import say, track
from maquette.types import Request
from maquette_serve.commands.finishing_steps import finish_option, finished, read_steps, write_finished
from maquette_serve.commands.sampling_options import ADAPTERS, GUIDANCE, STEPS
from maquette_serve.generator import Generator
from maquette_serve.picture_files import read_picture


@click.command()
@click.argument("run")
@click.argument("words", nargs=-1, metavar="[key=value ...]")
@click.option("--prompt", "prompts", multiple=True, help="What to make; repeat for several meshes.")
@click.option("--class", "class_name", default=None, help="A class the model was trained on, e.g. chair.")
@click.option(
    "--image",
    "images",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A picture to follow; repeat for several views of one object. Transparency cuts the object out.",
)
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same mesh.")
@click.option(
    "--count", default=1, show_default=True, type=click.IntRange(1), help="Meshes a prompt, by successive seeds."
)
@GUIDANCE
@STEPS
@ADAPTERS
@finish_option
@click.option("--out", required=True, type=click.Path(path_type=Path), help="FILE.glb (or .obj, .ply, .stl, ...)")
def sample(  # noqa: PLR0917 - click passes by name
    run: str,
    words: tuple[str, ...],
    prompts: tuple[str, ...],
    class_name: str | None,
    images: tuple[Path, ...],
    seed: int,
    count: int,
    guidance: float | None,
    steps: int | None,
    adapters: tuple[str, ...],
    finishers: tuple[str, ...],
    out: Path,
) -> None:
    """Generate meshes from the trained RUN. key=value words change its pipeline, e.g. decoder.min_share=0.01."""
    if not prompts and class_name is None and not images:
        raise MaquetteError('nothing to make; say what with --prompt "a tall red chair", --class chair or --image FILE')
    check_suffix(out)
    finishing = read_steps(finishers)
    pictures = tuple(read_picture(path) for path in images)
    requests = [
        Request(prompt, seed=seed + i, class_name=class_name, guidance=guidance, steps=steps, images=pictures)
        for prompt in prompts or ("",)
        for i in range(count)
    ]
    overrides: dict[str, Any] = dict(read_words(words))
    failures: list[MaquetteError] = []
    assets = finished(Generator(run, overrides, adapters=adapters).generate(requests), finishing)
    for index, asset in enumerate(track(assets, "Sampling", total=len(requests))):
        if isinstance(asset, MaquetteError):
            failures.append(asset)
            say(f"maquette: {asset}")
            continue
        path = out if len(requests) == 1 else out.with_stem(f"{out.stem}_{index:02d}")
        unknown = asset.metadata.get("unknown_words")
        if unknown:
            say(f"warning: ignored words that the model never saw: {', '.join(unknown)}")
        shown = asset.metadata.get("prompt") or class_name or ", ".join(picture.name for picture in images)
        write_finished(asset, path, shown)
    if failures:
        raise MaquetteError(f"{len(failures)} of {len(requests)} could not be made; the others are written")
