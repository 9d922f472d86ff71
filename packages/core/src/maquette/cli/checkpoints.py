"""``maquette checkpoint``: look into checkpoints, verify them, take weights out and in."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from maquette.errors import MaquetteError
from maquette.progress import say, track

if TYPE_CHECKING:
    from maquette.checkpoint import Checkpoint
    from maquette.checkpoint.index import Entry

POSITION_WIDTH = 160
"""Characters shown of the data position."""


@click.group()
def checkpoint() -> None:
    """Inspect, verify, export and import checkpoints."""


@checkpoint.command()
@click.argument("path", type=click.Path(path_type=Path))
def inspect(path: Path) -> None:
    """Show what is in a checkpoint: PATH is its folder, or a run's (then its newest whole one)."""
    from maquette.checkpoint import manifest

    found = _find(path)
    console = Console(soft_wrap=True)
    state = found.state
    rows = {
        "checkpoint": str(found.path),
        "step": str(found.step),
        "saved by": "one process" if state["world"] == 1 else f"{state['world']} processes, {state['layout']}",
        "number of the run's owner": str(manifest.read(found.path).epoch or "none"),
        "score": "none" if state["score"] is None else f"{state['score']:.6g}",
        "data position": _shortened(state.get("data")),
    }
    for name, value in rows.items():
        console.print(Text(f"{name}: ", style="bold") + Text(value, style="not bold"))
    table = Table("part", "tensors", "values", "bytes", "types", "files", box=None, pad_edge=False, header_style="bold")
    for part, entries in found.index.items():
        table.add_row(part, *_row(entries.values()))
    table.add_row("all", *_row(entry for entries in found.index.values() for entry in entries.values()))
    console.print(table)


@checkpoint.command()
@click.argument("path", type=click.Path(path_type=Path))
def verify(path: Path) -> None:
    """Compare every file with its checksum: PATH is a checkpoint's folder, or a run's (then all of its checkpoints).

    Ends with status 1 where any is damaged.
    """
    from maquette.checkpoint import open_checkpoint

    folders = _folders(path)
    damaged = 0
    for folder in track(folders, "Verifying"):
        try:
            found = open_checkpoint(folder)
            click.echo(f"{folder}: whole (step {found.step}, {_total(found)} bytes of tensors)")
        except MaquetteError as error:
            damaged += 1
            click.echo(str(error))
    if damaged:
        raise MaquetteError(f"{damaged} of {len(folders)} checkpoints are damaged")


@checkpoint.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--part", default="", help="model, average (the longest one), or a part by its full name.")
@click.option("--dtype", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True)
def export(path: Path, out: Path, part: str, dtype: str) -> None:
    """Write the weights of PATH (a run or a checkpoint) to OUT, one plain safetensors file.

    Without --part the averaged weights where there are any, else the weights themselves.
    """
    import torch

    from maquette.checkpoint import export_part, weights_part

    found = _find(path)
    chosen = part
    if part in ("", "average"):
        chosen = weights_part(found.parts)
        if part and chosen == "model":
            raise MaquetteError(f"checkpoint '{found.path}' has no averaged weights; give --part model")
    export_part(found, chosen, out, {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype])
    say(f"written: {out} ('{chosen}' of step {found.step}, {dtype})")


@checkpoint.command("import")
@click.argument("source", type=click.Path(path_type=Path))
@click.argument("run", type=click.Path(path_type=Path))
def import_(source: Path, run: Path) -> None:
    """Make the folder RUN from SOURCE, a safetensors file of weights; train from it with start_from=RUN."""
    from maquette.checkpoint import import_weights

    import_weights(source, run)
    say(f"written: {run}; train from it with start_from={run}")


def _folders(path: Path) -> list[Path]:
    """The checkpoints that a path means, newest first.

    Raises:
        MaquetteError: there are none.
    """
    from maquette.checkpoint import paths

    if path.name.startswith(("step_", "damaged_step_")) and path.is_dir():
        return [path]
    found = paths(path / "checkpoints") or paths(path)
    if not found:
        raise MaquetteError(f"no checkpoint in '{path}'; give a run's folder or that of a checkpoint (step_...)")
    return found


def _find(path: Path) -> Checkpoint:
    from maquette.checkpoint import newest, open_checkpoint

    folder = _folders(path)[0]
    if folder == path:
        return open_checkpoint(path)
    found, reasons = newest(folder.parent)
    for reason in reasons:
        say(f"warning: {reason}; showing {found.path.name}")
    return found


def _row(entries: Iterable[Entry]) -> list[str]:
    entries = list(entries)
    types = sorted({str(entry.dtype).removeprefix("torch.") for entry in entries})
    size = sum(entry.bytes for entry in entries)
    values = sum(entry.bytes // entry.dtype.itemsize for entry in entries)
    files = len({chunk.file for entry in entries for chunk in entry.chunks})
    return [str(len(entries)), f"{values:,}", f"{size:,}", ", ".join(types), str(files)]


def _total(found: Checkpoint) -> str:
    return f"{sum(entry.bytes for entries in found.index.values() for entry in entries.values()):,}"


def _shortened(value: Any) -> str:
    text = "none" if value is None else json.dumps(value)
    return text if len(text) <= POSITION_WIDTH else text[: POSITION_WIDTH - 3] + "..."
