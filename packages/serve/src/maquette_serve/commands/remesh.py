"""``maquette remesh``: new, even faces for a mesh file."""

from __future__ import annotations

from pathlib import Path

import click

from maquette.assets import check_suffix, import_asset
from maquette.config import read_words
from maquette.finishing import finish
from maquette_serve.commands.finishing_steps import write_finished


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("words", nargs=-1, metavar="[key=value ...]")
@click.option("--faces", type=click.IntRange(8), default=5000, show_default=True, help="About how many; quads once.")
@click.option("--topology", type=click.Choice(["triangle", "quad"]), default="triangle", show_default=True)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="FILE.glb (or .obj, .stl, ...)")
def remesh(file: Path, words: tuple[str, ...], faces: int, topology: str, out: Path) -> None:
    """Give FILE new faces along a smooth field; what it carries is brought over.

    key=value words set more: crease=30 holds edges, resolution=128 first closes the surface on a grid.
    """
    check_suffix(out)
    step = {"name": "remesh", "faces": faces, "topology": topology, **read_words(words)}
    write_finished(finish(import_asset(file), [step]), out)
