"""``maquette animate``: a rigged file in, the same with clips out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from maquette import plugins
from maquette.assets import check_suffix, export, import_asset
from maquette.config import read_words
from maquette.errors import MaquetteError
from maquette.types import Asset, Request


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.argument("words", nargs=-1, metavar="[key=value ...]")
@click.option("--clip", "clips", multiple=True, help="What to do, e.g. walk; repeatable. --list tells what there is.")
@click.option("--keep", is_flag=True, help="Keep the clips that the file has.")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="FILE.glb, or another format with clips.")
@click.option("--sheet", type=click.Path(path_type=Path), default=None, help="FILE.png: frames of the clips, in rows.")
@click.option("--list", "listing", is_flag=True, help="Tell the clips and end.")
def animate(  # noqa: PLR0917 - click passes by name
    file: Path | None,
    words: tuple[str, ...],
    clips: tuple[str, ...],
    keep: bool,
    out: Path | None,
    sheet: Path | None,
    listing: bool,
) -> None:
    """Give FILE, a mesh with a skeleton, one or more clips.

    key=value words set how: fps=30, travel=true (the root goes forward), speed, stride, lift and swing, 1 each.
    """
    pipeline: Any = plugins.build("pipelines", {"name": "animate", **read_words(words)})
    if listing:
        for name, told in pipeline.clips().items():
            click.echo(f"{name:6}  {told}")
        return
    if file is None or (out is None and sheet is None):
        raise MaquetteError("animate needs a FILE and --out or --sheet; maquette animate --list tells the clips")
    if out is not None:
        check_suffix(out)
    asset = import_asset(file)
    options = {"clip": ",".join(clips)} if clips else {}
    made: Asset = pipeline(Request(mesh=asset.mesh, options=options))
    if sheet is not None:
        _write_sheet(pipeline, made, sheet)
        click.echo(f"{sheet}  {len(made.animations)} rows")
    if out is not None:
        kept = tuple(clip for clip in asset.animations if clip.name not in made.metadata["animations"]) if keep else ()
        metadata = {**asset.metadata, **made.metadata}
        export(replace(asset, metadata=metadata, animations=kept + made.animations), out)
        told = (f"{name} {clip['seconds']:.2f} s" for name, clip in made.metadata["animations"].items())
        click.echo(f"{out}  {', '.join(told)}")


def _write_sheet(pipeline: Any, asset: Asset, path: Path) -> None:
    import numpy as np
    from PIL import Image

    rows = [pipeline.sheet(asset.mesh, animation) for animation in asset.animations]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows, 0)).save(path)
