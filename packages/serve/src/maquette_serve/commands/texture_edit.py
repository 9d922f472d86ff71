"""``maquette texture-edit``: a mesh file and an instruction in, the mesh with a part of its texture changed out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from maquette import plugins
from maquette.assets import check_suffix, export, import_asset
from maquette.config import read_words
from maquette.errors import MaquetteError
from maquette.types import Request
from maquette_serve.commands.sampling_options import GUIDANCE, STEPS
from maquette_serve.picture_files import read_picture


@click.command("texture-edit")
@click.argument("words", nargs=-1, metavar="[key=value ...]")
@click.option("--mesh", required=True, type=click.Path(path_type=Path), help="The file whose texture to change.")
@click.option("--instruction", default=None, help='Where and what in words, e.g. "make the seat dark red".')
@click.option("--part", default=None, help="Where: a part by name, or X,Y,Z, a point near a piece of the mesh.")
@click.option("--region", default=None, help='Where: a place, e.g. "the upper half", "left", "back third".')
@click.option("--box", default=None, metavar="X,Y,Z,X,Y,Z", help="Where: between two corners in the unit cube.")
@click.option("--sphere", default=None, metavar="X,Y,Z,R", help="Where: round a point of the unit cube.")
@click.option(
    "--mask", default=None, type=click.Path(path_type=Path), help="Where: a picture over the texture, bright."
)
@click.option("--color", default=None, help="What: a colour by name or code, e.g. red, #cf3a34.")
@click.option("--metallic", default=None, type=click.FloatRange(0, 1), help="What: 1 for metal, 0 for all else.")
@click.option("--roughness", default=None, type=click.FloatRange(0, 1), help="What: from 0, a mirror, to 1, matt.")
@click.option("--run", default=None, help="A trained run that paints the region anew, by --prompt.")
@click.option("--prompt", default="", help="With --run: what the whole is to look like afterwards.")
@click.option("--seam", type=click.FloatRange(0), default=None, help="Width of the region's border, in the unit cube.")
@click.option("--seed", default=0, show_default=True, help="The same seed gives the same paint.")
@GUIDANCE
@STEPS
@click.option("--keep-uv/--new-uv", default=True, help="Keep the texture's layout, or lay it out anew first.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="FILE.glb (or another with textures)")
def texture_edit(  # noqa: PLR0917 - click passes by name
    words: tuple[str, ...], mesh: Path, mask: Path | None, run: str | None, keep_uv: bool, out: Path, **asked: Any
) -> None:
    """Change the texture of a mesh in a region; every other texel stays as it is, bit for bit.

    Without a region all of it changes. key=value words change the pipeline, e.g. size=1024.
    """
    check_suffix(out)
    if run is None and asked["prompt"]:
        raise MaquetteError("a --prompt is painted by a trained --run; to recolour give --instruction or --color")
    asset = import_asset(mesh)
    of_request = {key: asked.pop(key) for key in ("prompt", "seed", "guidance", "steps")}
    options = {key: value for key, value in asked.items() if value is not None}
    options |= {} if keep_uv else {"keep_uv": "never"}
    options |= {} if mask is None else {"mask": read_picture(mask)}
    block = {"name": "texture_edit", **({} if run is None else {"run": run}), **read_words(words)}
    edited = plugins.build("pipelines", block)(Request(**of_request, mesh=asset.mesh, options=options))
    export(replace(edited, animations=asset.animations), out)
    told = edited.metadata
    click.echo(f"{out}  {told['texels_edited']} texels of {told['images_edited']} images changed")
