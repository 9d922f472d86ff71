"""`maquette data`: building shards, looking into them, and changing them as a whole."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from maquette import config as words
from maquette.blocks import instantiate
from maquette.errors import MaquetteError

_PROBLEMS_SHOWN = 20


@click.group()
def data() -> None:
    """Build folders of shards, look into them, and change them as a whole."""


@data.command()
@click.argument("source")
@click.argument("out")
@click.argument("settings", nargs=-1, metavar="[key=value ...]")
def build(source: str, out: str, settings: tuple[str, ...]) -> None:
    """Turn SOURCE, a folder of meshes or the word "procedural", into shards in OUT, a folder or a URL.

    Files that cannot be used are quarantined, counted and named in OUT/files.jsonl. An interrupted build goes on where
    it was when it is started again; a finished one takes up what is new or has changed.
    """
    from maquette_data3d.building.build import build_shards
    from maquette_data3d.building.config import BuildConfig

    given = {**words.read_words(settings), "source": source, "out": out}
    config = instantiate(BuildConfig, given, where="data build")
    click.echo(build_shards(config).summary())


@data.command()
@click.argument("out")
def inspect(out: str) -> None:
    """Say what the shards in OUT hold."""
    from maquette_data3d.building.report import REPORT, read_report
    from maquette_data3d.shards.reader import ShardReader

    reader = ShardReader(out)
    about = reader.about
    held = ", ".join(f"{side} {count}" for side, count in about["splits"].items())
    click.echo(f"{out}: {about['samples']} samples ({held}) in {len(about['shards'])} shards")
    for name, field in reader.fields.items():
        click.echo(f"  {name}: {field}")
    shown = ", ".join(about["classes"][:30]) + (", ..." if len(about["classes"]) > 30 else "")
    click.echo(f"{len(about['classes'])} classes: {shown}")
    click.echo(f"{len(about['vocabulary'])} words in the captions, e.g. '{reader.entry(0).caption}'")
    if (Path(out) / REPORT).is_file():
        click.echo(read_report(Path(out)).summary())


@data.command()
@click.argument("out")
def verify(out: str) -> None:
    """Read every byte of OUT and compare it with its checksums; say which samples are damaged.

    The exit status is 1 when something is.
    """
    from maquette_data3d.shards.verification import verify as find

    problems = find(out)
    for problem in problems[:_PROBLEMS_SHOWN]:
        click.echo(f"{problem}")
    if problems:
        raise MaquetteError(f"'{out}': {len(problems)} problems; delete the damaged files and build again to mend them")
    click.echo(f"{out}: every checksum holds")


@data.command()
@click.argument("out")
def stats(out: str) -> None:
    """Counts by split and class, sizes of fields, and quantiles of what was measured, as YAML."""
    from omegaconf import OmegaConf

    from maquette_data3d.shards.statistics import stats as collect

    click.echo(OmegaConf.to_yaml(OmegaConf.create(collect(out))).rstrip())


@data.command()
@click.argument("out")
@click.argument("shares", nargs=-1, metavar="name=share ...", required=True)
@click.option("--seed", default=0, help="Of the order in which groups are shared out.")
def split(out: str, shares: tuple[str, ...], seed: int) -> None:
    """Share the samples of OUT out anew, e.g. train=0.9 validation=0.1; groups of alike shapes stay together."""
    from maquette_data3d.shards.tools import split as share_out

    given = words.read_words(shares)
    try:
        wanted = {str(name): float(share) for name, share in given.items()}
    except (TypeError, ValueError):
        raise MaquetteError(f"data split: shares are numbers, e.g. train=0.9 validation=0.1; got {shares}") from None
    _say(out, share_out(out, wanted, seed))


@data.command()
@click.argument("folders", nargs=-1, required=True)
@click.argument("out")
def merge(folders: tuple[str, ...], out: str) -> None:
    """Make one folder OUT of several FOLDERS with the same fields."""
    from maquette_data3d.shards.tools import merge as join

    _say(out, join(folders, out))


@data.command()
@click.argument("folder")
@click.argument("out")
@click.argument("where")
def filter(folder: str, out: str, where: str) -> None:
    """Keep the samples of FOLDER for which WHERE holds, e.g. "faces >= 100 and class == 'chair'", in OUT."""
    from maquette_data3d.shards.tools import filter as keep

    _say(out, keep(folder, out, where))


@data.command()
@click.argument("folder")
@click.argument("out")
@click.option("--shard-samples", default=256, type=click.IntRange(1), help="Samples a shard.")
@click.option(
    "--precision", type=click.Choice(["float16", "exact"]), help="Of floating-point fields; kept if not given."
)
@click.option("--field", "fields", multiple=True, help="A field to keep; give it again for more. All by default.")
@click.option("--order", type=click.Choice(["group", "tokens"]), help="Put groups side by side, or short before long.")
def repack(  # noqa: PLR0917  (click hands over one argument an option)
    folder: str, out: str, shard_samples: int, precision: str | None, fields: tuple[str, ...], order: str | None
) -> None:
    """Write the samples of FOLDER anew into OUT: other shards, other precision, fewer fields, another order."""
    from maquette_data3d.shards.repacking import repack as rewrite

    _say(out, rewrite(folder, out, shard_samples, precision=precision, fields=fields or None, order=order))


@data.command()
@click.argument("shards")
@click.option("--out", help="Write one HTML file instead of serving the page.")
@click.option("--count", default=24, type=click.IntRange(1), help="Samples in the file.")
@click.option("--where", default="", help="Which samples: a condition as of `filter`.")
@click.option("--port", default=8765, type=click.IntRange(0, 65535), help="Where the page is served on this machine.")
def view(shards: str, out: str | None, count: int, where: str, port: int) -> None:
    """Look at SHARDS in a browser: meshes, points, slices of the field, views, captions, lineage."""
    import numpy as np

    from maquette_data3d.shards.reader import ShardReader
    from maquette_data3d.shards.where import matching

    reader = ShardReader(shards)
    numbers = np.flatnonzero(matching(reader.index, where)) if where else np.arange(len(reader))
    if not len(numbers):
        raise MaquetteError(f"'{shards}': no sample meets the condition \"{where}\"")
    if out:
        from maquette_data3d.viewing.page import write_page

        click.echo(write_page(reader, numbers[:count].tolist(), out, title=Path(shards).name))
    else:
        from maquette_data3d.viewing.server import serve_page

        serve_page(reader, port, numbers=numbers.tolist(), title=Path(shards).name)


def _say(out: str, counts: dict[str, Any]) -> None:
    told = ", ".join(f"{name} {_plain(value)}" for name, value in counts.items())
    click.echo(f"{out}: {told}")


def _plain(value: Any) -> str:
    return " ".join(f"{key}={count}" for key, count in value.items()) if isinstance(value, dict) else str(value)
