"""``maquette parts``: a mesh file in, the same mesh out, cut into named parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from maquette.assets import check_suffix, export, import_asset, open_pipeline
from maquette.config import read_words
from maquette.types import Mesh, Request


@click.command()
@click.argument("run")
@click.argument("words", nargs=-1, metavar="[key=value ...]")
@click.option("--mesh", required=True, type=click.Path(path_type=Path), help="The file to cut.")
@click.option("--instances", is_flag=True, help="Pieces that do not touch are parts of their own: left and right leg.")
@click.option("--no-color", is_flag=True, help="Look at the shape alone.")
@click.option("--seed", default=0, show_default=True, help="Of the points that are looked at.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="FILE.glb, or another format with parts.")
def parts(  # noqa: PLR0917 - click passes by name
    run: str, words: tuple[str, ...], mesh: Path, instances: bool, no_color: bool, seed: int, out: Path
) -> None:
    """Cut a mesh into named parts with the trained RUN, such as "seat", "back" and "legs".

    The mesh stands upright, its front to +z. key=value words change the pipeline, e.g. smoothing=2.
    """
    check_suffix(out)
    asset = import_asset(mesh)
    options: Mapping[str, bool] = {"instances": instances, "color": not no_color}
    made = open_pipeline(run, read_words(words))(Request(seed=seed, mesh=asset.mesh, options=options))
    export(replace(asset, mesh=made.mesh, metadata={**asset.metadata, **made.metadata}), out)
    click.echo(f"{out}  {', '.join(_told(made.mesh))}")


def _told(mesh: Mesh) -> list[str]:
    part = np.zeros(0, np.int32) if mesh.part is None else mesh.part
    return [f"{name} ({(part == place).sum()} faces)" for place, name in enumerate(mesh.part_names)]
