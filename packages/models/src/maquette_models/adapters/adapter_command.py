"""`maquette adapter`: files of adapters, and what they are worth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from maquette_models.adapters.forgetting import Tally


@click.group()
def adapter() -> None:
    """Export, inspect, merge and judge adapters (of runs trained with method=lora)."""


@adapter.command()
@click.argument("run")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--dtype", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True)
def export(run: str, file: Path, dtype: str) -> None:
    """Write what the finetuned RUN has learned to FILE (.safetensors)."""
    from maquette_models.adapters.adapter_file import DTYPES, read_adapter, write_adapter

    write_adapter(read_adapter(run), file, DTYPES[dtype])
    click.echo(f"{file}  {file.stat().st_size:,} bytes")


@adapter.command()
@click.argument("file")
def inspect(file: str) -> None:
    """Say what the adapter FILE (or finetuned run) changes, knows and was trained on."""
    from maquette_models.adapters.adapter_file import read_adapter

    found = read_adapter(file)
    values = sum(change.down.numel() + change.up.numel() for change in found.changes.values())
    ranks = sorted({len(change.down) for change in found.changes.values()})
    click.echo(f"base:    {found.about.get('base')} (weights {found.base_sha256[:12]})")
    click.echo(f"layers:  {len(found.changes)}, rank {', '.join(map(str, ranks))}, {values:,} values")
    click.echo(f"classes: {', '.join(found.words.classes) or 'none'}")
    click.echo(f"words:   {', '.join(found.words.words) or 'none'}")


@adapter.command()
@click.argument("run")
@click.argument("out")
@click.option("--adapter", "adapters", multiple=True, required=True, metavar="FILE[:SCALE]", help="Repeatable.")
def merge(run: str, out: str, adapters: tuple[str, ...]) -> None:
    """Fold adapters into the weights of RUN and write the result as the run OUT."""
    from maquette_models.adapters.merged_run import merge_into_run

    click.echo(f"written: {merge_into_run(run, adapters, out)}")


@adapter.command()
@click.argument("run")
@click.option("--adapter", "adapters", multiple=True, required=True, metavar="FILE[:SCALE]", help="Repeatable.")
@click.option("--data", required=True, help="Shards of real shapes of the old classes and the new one.")
@click.option("--new", "new_class", required=True, help="The class that the adapters are to have taught.")
@click.option("--count", default=200, show_default=True, help="Samples of the new class, and of the old ones.")
@click.option("--seed", default=0, show_default=True)
def judge(  # noqa: PLR0917 - click passes by name
    run: str, adapters: tuple[str, ...], data: str, new_class: str, count: int, seed: int
) -> None:
    """Class accuracy of samples of RUN without and with adapters: is the new class learned, are the old ones kept?"""
    from maquette.assets import open_pipeline
    from maquette_models.adapters.forgetting import learned_and_kept, lost

    found = learned_and_kept(open_pipeline(run), adapters, data, new_class, count=count, seed=seed)
    click.echo(f"the judge on held-out real shapes: {found['ceiling']:.3f}")
    for state in ("before", "after"):
        for kind in ("new", "old"):
            click.echo(f"{state:6s} {kind}: {_shown(found[state][kind])}")
    click.echo(f"the old classes have lost {lost(found):.3f}")


def _shown(tally: Tally) -> str:
    from maquette_models.evaluation.estimates import share

    figure = share(tally.correct, tally.count)
    low, high = figure.interval or (0.0, 1.0)
    return f"{figure.value:.3f} [{low:.3f}, {high:.3f}] (n = {figure.n})"
