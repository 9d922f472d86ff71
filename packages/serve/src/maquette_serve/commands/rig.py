"""``maquette rig``: a mesh file in, the same with a skeleton and skin weights out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from maquette.assets import check_suffix, export, import_asset
from maquette.config import read_words
from maquette.types import Request
from maquette_serve.generator import Generator


@click.command()
@click.argument("run")
@click.argument("words", nargs=-1, metavar="[key=value ...]")
@click.option("--mesh", required=True, type=click.Path(path_type=Path), help="The file to rig; it faces +z, y is up.")
@click.option("--kind", default=None, help="biped, quadruped, bird, fish or other; default: as it looks.")
@click.option("--influences", type=click.IntRange(1, 8), default=None, help="Joints a vertex; default: the run's.")
@click.option("--seed", default=0, show_default=True, help="Matters where the run's temperature is above 0.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="FILE.glb, or another format with skins.")
def rig(  # noqa: PLR0917 - click passes by name
    run: str, words: tuple[str, ...], mesh: Path, kind: str | None, influences: int | None, seed: int, out: Path
) -> None:
    """Give a mesh a skeleton and skin weights with the trained RUN; all else of it stays.

    key=value words change the pipeline, e.g. threshold=0.9.
    """
    check_suffix(out)
    given = {"kind": kind, "influences": influences}
    options: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    request = Request(seed=seed, mesh=import_asset(mesh).mesh, options=options)
    asset = Generator(run, read_words(words)).pipeline(request)
    export(asset, out)
    click.echo(f"{out}  {asset.metadata['kind']}  {asset.metadata['joints']} joints")
