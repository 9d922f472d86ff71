"""``maquette texture``: a mesh file and a prompt or picture in, the mesh with materials and textures out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from maquette.assets import check_suffix, export, import_asset, open_pipeline
from maquette.config import read_words
from maquette.errors import MaquetteError
from maquette.progress import say
from maquette.types import Request
from maquette_serve.commands.sampling_options import ADAPTERS, GUIDANCE, STEPS
from maquette_serve.picture_files import read_picture

OPTIONS = (
    click.argument("run"),
    click.argument("words", nargs=-1, metavar="[key=value ...]"),
    click.option("--mesh", required=True, type=click.Path(path_type=Path), help="The file to paint."),
    click.option("--prompt", default="", help="What it is to look like."),
    click.option("--class", "class_name", default=None, help="A class the model was trained on, e.g. chair."),
    click.option(
        "--image",
        "images",
        multiple=True,
        type=click.Path(path_type=Path),
        help="A picture to follow; repeat for several views. Transparency cuts the object out.",
    ),
    click.option("--size", type=click.IntRange(16, 8192), default=None, help="Texels a side; default: the run's."),
    click.option("--seed", default=0, show_default=True, help="The same seed gives the same textures."),
    GUIDANCE,
    STEPS,
    ADAPTERS,
    click.option("--out", required=True, type=click.Path(path_type=Path), help="FILE.glb (or another with textures)"),
)


def painting_options(command: Callable[..., None]) -> Callable[..., None]:
    """What `texture` and `retexture` can be told alike."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@click.command()
@painting_options
@click.option(
    "--keep-uv",
    type=click.Choice(["auto", "always", "never"]),
    default=None,
    help="The mesh's own texture coordinates: kept where they can be painted on (auto), always, never.",
)
def texture(run: str, words: tuple[str, ...], keep_uv: str | None, **asked: Any) -> None:
    """Paint a mesh with the trained RUN: base colour, metallic and roughness, as textures.

    Its shape stays as it is. key=value words change the run's pipeline, e.g. points=65536.
    """
    paint(run, words, {"keep_uv": keep_uv} if keep_uv else {}, **asked)


def paint(
    run: str,
    words: tuple[str, ...],
    options: dict[str, Any],
    *,
    textured: bool = False,
    mesh: Path,
    out: Path,
    images: tuple[Path, ...],
    size: int | None,
    adapters: tuple[str, ...],
    **asked: Any,
) -> None:
    """Paint the mesh in a file and write it to another; `asked` is what a request is made of.

    Raises:
        MaquetteError: nothing is asked for, the mesh is to be `textured` and is not, or the run cannot do it.
    """
    if not asked["prompt"] and asked["class_name"] is None and not images:
        raise MaquetteError('nothing to follow; say what with --prompt "a red chair", --class chair or --image FILE')
    check_suffix(out)
    asset = import_asset(mesh)
    if textured and asset.mesh.uv is None:
        raise MaquetteError(f"'{mesh}' has no texture coordinates to keep; use maquette texture")
    options = {**options, **({"size": size} if size else {})}
    pictures = tuple(read_picture(path) for path in images)
    request = Request(**asked, images=pictures, mesh=asset.mesh, options=options)
    painted = open_pipeline(run, read_words(words), adapters)(request)
    if painted.metadata.get("unknown_words"):
        say(f"warning: ignored words that the model never saw: {', '.join(painted.metadata['unknown_words'])}")
    layout = painted.metadata.get("layout", "")
    if ": " in layout or ", " in layout:
        say(f"warning: texture coordinates {layout}")
    export(replace(painted, animations=asset.animations), out)
    click.echo(f"{out}  {len(painted.mesh.faces)} faces  {len(painted.mesh.images)} images  {asked['prompt']}")
