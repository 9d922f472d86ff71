"""Finishing steps as words of the command line: ``decimate:faces=5000,seams=.2``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from maquette import plugins
from maquette.assets import export
from maquette.config import read_words, split_words
from maquette.errors import MaquetteError, unknown_name
from maquette.finishing import Step, finish
from maquette.progress import say
from maquette.types import Asset

FINISH_HELP = "A finishing step, e.g. decimate:faces=5000 or unwrap; repeatable, in order."


def finish_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds ``--finish STEP[:key=value,...]`` as ``finishers``, a tuple of words."""
    option = click.option("--finish", "finishers", multiple=True, metavar="STEP[:key=value,...]", help=FINISH_HELP)
    return option(command)


def read_steps(words: Sequence[str]) -> list[Step]:
    """Blocks of the steps that words name.

    Raises:
        MaquetteError: no such step, or a word is not of the form step or step:key=value,...
    """
    known = [entry.name for entry in plugins.registry("finishers")]
    steps: list[Step] = []
    for word in words:
        name, _, settings = word.partition(":")
        if name not in known:
            raise unknown_name("finishing step", name, known)
        given: dict[str, Any] = dict(read_words(split_words(settings) if settings else ()))
        steps.append({"name": name, **given})
    return steps


def finished(assets: Iterable[Asset | MaquetteError], steps: Sequence[Step]) -> Iterator[Asset | MaquetteError]:
    """Assets after the steps, one by one; where one failed or a step fails, the error in its place."""
    for asset in assets:
        try:
            yield asset if isinstance(asset, MaquetteError) else finish(asset, steps)
        except MaquetteError as error:
            yield error


def write_finished(asset: Asset, out: Path, told: str = "") -> None:
    """Writes an asset, and its levels of detail as OUT_lod1, OUT_lod2, ...; says what was doubtful."""
    for entry in asset.metadata.get("finishing", ()):
        for warning in entry.get("warnings", ()):
            say(f"warning: {entry['step']}: {warning}")
    levels = asset.metadata.get("lods", ())
    plain = {key: value for key, value in asset.metadata.items() if key != "lods"}
    export(Asset(asset.mesh, plain, asset.animations), out)
    click.echo(f"{out}  {len(asset.mesh.faces)} faces  {told}".rstrip())
    for number, level in enumerate(levels, 1):
        path = out.with_stem(f"{out.stem}_lod{number}")
        export(Asset(level, plain, asset.animations), path)
        click.echo(f"{path}  {len(level.faces)} faces")
