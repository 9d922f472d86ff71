"""`maquette data`: building shards and looking into them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import click

from maquette import config as words
from maquette.blocks import instantiate
from maquette.errors import MaquetteError
from maquette_data3d.shards.build import build_shards
from maquette_data3d.shards.config import BuildConfig
from maquette_data3d.shards.reader import ShardReader
from maquette_data3d.shards.report import BuildReport


@click.group()
def data() -> None:
    """Build folders of shards, and look into them."""


@data.command()
@click.argument("source")
@click.argument("out")
@click.argument("settings", nargs=-1, metavar="[key=value ...]")
def build(source: str, out: str, settings: tuple[str, ...]) -> None:
    """Turn SOURCE, a folder of meshes or the word "procedural", into shards in OUT.

    Files that cannot be used are quarantined, counted and named in OUT/report.json. An interrupted build goes
    on where it was when it is started again.
    """
    given = {**words.read_words(settings), "source": source, "out": out}
    config = instantiate(BuildConfig, given, where="data build")
    click.echo(build_shards(config).summary())


@data.command()
@click.argument("out")
@click.option("--verify", is_flag=True, help="Compare every sample with its checksum.")
def inspect(out: str, verify: bool) -> None:
    """Say what the shards in OUT hold."""
    reader = ShardReader(out)
    about = reader.about
    if verify:
        for number in range(len(reader)):
            reader.verify(number)
    held = ", ".join(f"{side} {count}" for side, count in about["splits"].items())
    checked = ", every checksum holds" if verify else ""
    click.echo(f"{out}: {about['samples']} samples ({held}) in {about['shards']} shards{checked}")
    click.echo(f"resolution {about['resolution']}, truncation {about['truncation']}, {about['points']} surface points")
    counts = Counter(entry.class_name for entry in reader.entries)
    click.echo(f"{len(about['classes'])} classes: " + ", ".join(f"{name} {counts[name]}" for name in about["classes"]))
    click.echo(f"{len(about['vocabulary'])} words in the captions, e.g. '{reader.entries[0].caption}'")
    click.echo(_report(Path(out)).summary())


def _report(folder: Path) -> BuildReport:
    path = folder / "report.json"
    if not path.is_file():
        raise MaquetteError(f"'{path}' is missing; build the shards again")
    return BuildReport(folder, **json.loads(path.read_text(encoding="utf-8")))
