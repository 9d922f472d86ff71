"""``maquette finish``: a mesh file through steps of finishing."""

from __future__ import annotations

from pathlib import Path

import click

from maquette import plugins
from maquette.assets import check_suffix, import_asset
from maquette.errors import MaquetteError
from maquette.finishing import finish as run_steps
from maquette_serve.commands.finishing_steps import FINISH_HELP, read_steps, write_finished


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=Path))
@click.option("--step", "steps", multiple=True, metavar="STEP[:key=value,...]", help=FINISH_HELP)
@click.option("--out", type=click.Path(path_type=Path), default=None, help="FILE.glb (or .obj, .stl, ...)")
@click.option("--list", "listing", is_flag=True, help="Tell the steps and end.")
def finish(file: Path | None, steps: tuple[str, ...], out: Path | None, listing: bool) -> None:
    """Take FILE through steps, e.g. --step repair --step decimate:share=.1 --step unwrap --step bake."""
    if listing:
        for entry in plugins.registry("finishers"):
            click.echo(entry.name)
        return
    if file is None or out is None or not steps:
        raise MaquetteError(
            "finish needs a FILE, at least one --step and --out; maquette finish --list tells the steps"
        )
    check_suffix(out)
    write_finished(run_steps(import_asset(file), read_steps(steps)), out)
