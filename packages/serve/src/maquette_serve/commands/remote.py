"""``maquette remote``: a service from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import click

from maquette.assets import check_suffix
from maquette.config import read_words, split_words
from maquette.progress import say

URL = click.option("--url", default=None, help="The service; default: MAQUETTE_URL, or this machine's.")
KNOWN_TO_ALL = ("prompt", "seed", "guidance", "steps", "class_name", "finish")
KEY = click.option("--key", default=None, help="An API key; default: MAQUETTE_API_KEY.")


@click.group()
def remote() -> None:
    """Ask a service, wherever it runs, for what it serves."""


@remote.command("pipelines")
@URL
@KEY
def pipelines(url: str | None, key: str | None) -> None:
    """What can be asked for."""
    from maquette_serve.client import Client

    with Client(url, key) as client:
        for name in client.pipelines():
            click.echo(name)


@remote.command("make")
@click.argument("pipeline")
@click.argument("words", nargs=-1, metavar="[key=value ...]")
@click.option("--prompt", default="", help="What to make.")
@click.option("--image", "images", multiple=True, type=click.Path(path_type=Path), help="A picture; repeat for views.")
@click.option("--mesh", default=None, type=click.Path(path_type=Path), help="A mesh to change or to follow.")
@click.option("--seed", default=None, type=click.IntRange(0), help="The same seed gives the same mesh.")
@click.option(
    "--then",
    "following",
    multiple=True,
    metavar="PIPELINE[,key=value ...]",
    help="What is done with the mesh then, e.g. --then paint,prompt='old wood' --then rig.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="FILE.glb (or .obj, .stl, .usdz, ...)")
@URL
@KEY
def make(  # noqa: PLR0917 - click passes by name
    pipeline: str,
    words: tuple[str, ...],
    prompt: str,
    images: tuple[Path, ...],
    mesh: Path | None,
    seed: int | None,
    following: tuple[str, ...],
    out: Path,
    url: str | None,
    key: str | None,
) -> None:
    """Order something from PIPELINE, wait for it, and write it. key=value words are steps, guidance, or its options."""
    from maquette_serve.client import Client

    check_suffix(out)
    asked = {"prompt": prompt, "seed": seed, **work_of(pipeline, *words)}
    with Client(url, key) as client:
        task = client.make(
            **asked,
            images=[client.upload(path) for path in images] or None,
            mesh=None if mesh is None else client.upload(mesh),
            then=[work_of(*split_words(word)) for word in following] or None,
            formats=[out.suffix.removeprefix(".")],
        )
        say(f"task {task.id}, seed {task.seed}")
        client.download(client.wait(task.id), f"model{out.suffix}", out)
    click.echo(f"{out}  {asked['prompt']}")


def work_of(pipeline: str, *words: str) -> dict[str, Any]:
    """A piece of work, of its pipeline and key=value words: what every pipeline knows, and else options."""
    from omegaconf import OmegaConf

    given = cast(dict[str, Any], OmegaConf.to_container(read_words(words)))
    work = {name: given.pop(name) for name in KNOWN_TO_ALL if name in given}
    return {"pipeline": pipeline, **work, "options": given}
