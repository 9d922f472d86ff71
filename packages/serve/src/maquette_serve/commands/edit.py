"""``maquette edit``: a mesh file and a prompt in, a changed mesh out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from maquette.assets import check_suffix, import_mesh
from maquette.config import read_words
from maquette.errors import MaquetteError
from maquette.finishing import finish
from maquette.progress import say
from maquette.types import Request
from maquette_serve.commands.finishing_steps import finish_option, read_steps, write_finished
from maquette_serve.commands.sampling_options import ADAPTERS, GUIDANCE, STEPS
from maquette_serve.generator import Generator


@click.command()
@click.argument("run")
@click.argument("words", nargs=-1, metavar="[key=value ...]")
@click.option("--mesh", required=True, type=click.Path(path_type=Path), help="The file to change.")
@click.option("--prompt", default="", help="What the whole is to be afterwards.")
@click.option("--source", default=None, help="What the mesh is now, said as the prompt: the edit is what differs.")
@click.option("--box", default=None, metavar="X,Y,Z,X,Y,Z", help="Make this box anew: two corners in the unit cube.")
@click.option("--region", default=None, help='Make this place anew, e.g. "the upper half", "left", "back third".')
@click.option(
    "--part", default=None, metavar="X,Y,Z", help="Make the piece of the mesh anew that is nearest to a point."
)
@click.option("--variation", type=float, default=None, help="Another shape like this one: from 0, the same, to 1.")
@click.option("--toward", type=click.Path(path_type=Path), default=None, help="A shape between this and another file.")
@click.option("--at", type=float, default=None, help="With --toward: from 0, the mesh, to 1, the other; default .5.")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same mesh.")
@GUIDANCE
@STEPS
@ADAPTERS
@finish_option
@click.option("--out", required=True, type=click.Path(path_type=Path), help="FILE.glb (or .obj, .ply, .stl, ...)")
def edit(  # noqa: PLR0917 - click passes by name
    run: str,
    words: tuple[str, ...],
    mesh: Path,
    prompt: str,
    source: str | None,
    box: str | None,
    region: str | None,
    part: str | None,
    variation: float | None,
    toward: Path | None,
    at: float | None,
    seed: int,
    guidance: float | None,
    steps: int | None,
    adapters: tuple[str, ...],
    finishers: tuple[str, ...],
    out: Path,
) -> None:
    """Change a mesh with the trained RUN; the mesh is centred in the unit cube, its longest side .9.

    One of --box, --region, --part (the surface outside stays), --variation and --toward says how. key=value words
    change the pipeline, e.g. candidates=8.
    """
    check_suffix(out)
    finishing = read_steps(finishers)
    given = {"box": box, "region": region, "part": part, "variation": variation, "at": at}
    options: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    if toward is not None:
        options["toward"] = import_mesh(toward)
    if not options:
        raise MaquetteError("nothing to change; give one of --box, --region, --part, --variation and --toward")
    if source is not None:
        options["source"] = source
    request = Request(prompt, seed, guidance=guidance, steps=steps, mesh=import_mesh(mesh), options=options)
    asset = Generator(run, {"name": "edit", **read_words(words)}, adapters=adapters).pipeline(request)
    if asset.metadata.get("unknown_words"):
        say(f"warning: ignored words that the model never saw: {', '.join(asset.metadata['unknown_words'])}")
    write_finished(finish(asset, finishing), out, prompt)
