"""``maquette doctor``."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from maquette.errors import MaquetteError, Outcome

if TYPE_CHECKING:
    from maquette.doctor.examination import Report
    from maquette.doctor.machine import Machine


@click.command()
@click.argument("words", nargs=-1, metavar="[RUN|CONFIG.yaml] [CHECK.key=value ...]")
@click.option("--nproc", default=1, help="Start so many processes and look at what is between them too.")
@click.option("--quick", is_flag=True, help="Leave out bandwidths and the long burn-in.")
@click.option("--only", multiple=True, metavar="CHECK", help="Do only this check; repeatable.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.option(
    "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write the report as JSON to this file as well."
)
@click.pass_context
def doctor(
    context: click.Context,
    /,
    *,
    words: tuple[str, ...],
    nproc: int,
    quick: bool,
    only: tuple[str, ...],
    as_json: bool,
    output: Path | None,
) -> None:
    """Look at this machine, or all of a launch, and say what is wrong and what to do.

    RUN or CONFIG.yaml: also whether its checkpoints have room. CHECK.key=value: a limit, e.g. disk.full_percent=90.
    Exit status: 0 fine, 1 a warning, 2 critical, 3 something could not be read.
    """
    if nproc < 1:
        raise MaquetteError(f"maquette doctor: --nproc is {nproc}; it must be at least 1")
    if nproc > 1 and "RANK" not in os.environ:
        report = _launched(nproc, words, quick, only, context.parent.params.get("files", ()) if context.parent else ())
    else:
        report = _here(words, quick, only)
    if int(os.environ.get("RANK", "0")) == 0:
        _tell(report, as_json, output)
    if report.exit_status:
        raise Outcome(f"doctor: {report.findings[0]}", report.exit_status)


def _tell(report: Report, as_json: bool, output: Path | None) -> None:
    if output:
        from maquette.durable import write_json

        try:
            write_json(output, report.plain())
        except OSError as error:
            raise MaquetteError(f"maquette doctor: '{output}' cannot be written: {error.strerror or error}") from None
    if as_json:
        click.echo(json.dumps(report.plain(), indent=2))
    else:
        from rich.console import Console

        from maquette.doctor.report import show

        show(report, Console())


def _here(words: tuple[str, ...], quick: bool, only: tuple[str, ...]) -> Report:
    """What this process and those that a launcher has put beside it find together."""
    from maquette.doctor.examination import build_checks, examine
    from maquette.parallel.layout import Layout
    from maquette.parallel.mesh import Mesh

    target = words[0] if words and "=" not in words[0] else None
    checks = build_checks(_settings(words[1:] if target else words), only)
    mesh = Mesh(Layout(data=int(os.environ.get("WORLD_SIZE", "1"))), timeout_minutes=5)
    try:
        return examine(_machine(mesh, quick, target), checks)
    finally:
        mesh.stop()


def _machine(mesh: Any, quick: bool, target: str | None) -> Machine:
    from maquette.doctor.checkpoint_size import newest_checkpoint_bytes, planned_checkpoint_bytes
    from maquette.doctor.machine import Machine

    if target is None:
        return Machine(mesh, quick)
    path = Path(target)
    if path.is_dir():
        return Machine(mesh, quick, path, newest_checkpoint_bytes(path))
    from maquette.config import load_run_config

    node = load_run_config(path, [])
    folder = Path(str(node.folder))
    size = newest_checkpoint_bytes(folder)
    return Machine(mesh, quick, folder, planned_checkpoint_bytes(node) if size is None else size)


def _settings(words: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    from omegaconf import OmegaConf

    from maquette.config import read_words

    if not words:
        return {}
    found = cast(dict[str, Any], OmegaConf.to_container(read_words(words)))
    for name, values in found.items():
        if not isinstance(values, dict):
            raise MaquetteError(f"'{name}' is not of the form CHECK.key=value, e.g. disk.full_percent=90")
    return found


def _launched(nproc: int, words: tuple[str, ...], quick: bool, only: tuple[str, ...], files: tuple[str, ...]) -> Report:
    """What processes of a launch of our own find."""
    from maquette.doctor.examination import Report
    from maquette.launching.job import Job
    from maquette.launching.launch import Placement, launch

    with tempfile.TemporaryDirectory(prefix="maquette_doctor_") as folder:
        output = Path(folder) / "report.json"
        options = ["--output", str(output), *(["--quick"] if quick else []), *(w for o in only for w in ("--only", o))]
        try:
            launch(Job("doctor", (*options, *words), files), Placement(nproc, restarts=0, shown=frozenset()))
        except Outcome:
            pass  # the report tells it
        return Report.read(json.loads(output.read_text()))
