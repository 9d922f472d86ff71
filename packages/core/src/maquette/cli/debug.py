"""``maquette debug``."""

from __future__ import annotations

import time
from pathlib import Path

import click

from maquette.errors import MaquetteError
from maquette.progress import say


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The archive; by default here, named after the run.",
)
@click.option("--no-doctor", is_flag=True, help="Do not look at this machine.")
def debug(run: Path, output: Path | None, no_doctor: bool) -> None:
    """Collect what is known of RUN in one archive that can be given away: no weights, no secrets.

    Logs, configuration, versions, incidents, events, the monitor's readings, checkpoints' manifests.
    """
    from maquette.forensics.archive import collect

    target = output or Path(f"maquette_debug_{run.resolve().name}_{time.strftime('%Y%m%d-%H%M%S')}.tar.gz")
    try:
        names = collect(run, target, doctor=not no_doctor)
    except OSError as error:
        raise MaquetteError(f"maquette debug: '{target}' cannot be written: {error.strerror or error}") from None
    say(f"{len(names)} files, {target.stat().st_size / 2**10:.0f} KiB; look through it before you give it away")
    click.echo(str(target))
