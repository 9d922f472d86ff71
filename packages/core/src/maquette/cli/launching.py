"""``maquette launch``: a command on several processes and machines."""

from __future__ import annotations

import os

import click

from maquette.errors import MaquetteError


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--nproc", default="auto", help="Processes on this machine; auto: one a GPU, or one.")
@click.option("--nodes", default="1", metavar="N|MIN:MAX", help="Machines; with a range, as many as there are.")
@click.option("--rendezvous", default="", metavar="HOST:PORT", help="Where several machines meet: one of them.")
@click.option("--id", "job_id", default="", help="The same on all machines of one launch.")
@click.option("--restarts", default=3, help="Restarts after a lost process without a new checkpoint in between.")
@click.option("--grace", default=120, help="Seconds to save and leave after Ctrl-C or SIGTERM.")
@click.option("--show", default="0", metavar="RANKS|all", help="Local ranks whose output is shown, e.g. 0,3.")
@click.option("--plugin", "files", multiple=True, metavar="FILE.py", help="Load a loose-file plugin; repeatable.")
@click.argument("command")
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def launch(context: click.Context, /, command: str, words: tuple[str, ...], **options: object) -> None:
    """Run COMMAND (train, finetune) on several processes, and again from its last checkpoint after a loss."""
    from maquette.launching.job import Job
    from maquette.launching.launch import Placement
    from maquette.launching.launch import launch as run

    above = context.parent.params.get("files", ()) if context.parent else ()
    processes = _processes(str(options["nproc"]))
    placement = Placement(
        processes=processes,
        nodes=_nodes(str(options["nodes"])),
        rendezvous=str(options["rendezvous"]),
        job_id=str(options["job_id"] or os.environ.get("SLURM_JOB_ID", "")),
        restarts=int(str(options["restarts"])),
        grace=int(str(options["grace"])),
        shown=_shown(str(options["show"]), processes),
    )
    run(Job(command, words, (*above, *_paths(options["files"]))), placement)


def _paths(files: object) -> tuple[str, ...]:
    return tuple(str(file) for file in files) if isinstance(files, tuple) else ()


def _processes(given: str) -> int:
    if given == "auto":
        import torch

        return max(torch.cuda.device_count(), 1)
    return _number("--nproc", given, "a number or auto")


def _nodes(given: str) -> tuple[int, int]:
    fewest, _, most = given.partition(":")
    return _number("--nodes", fewest, "N or MIN:MAX"), _number("--nodes", most or fewest, "N or MIN:MAX")


def _shown(given: str, processes: int) -> frozenset[int]:
    if given == "all":
        return frozenset(range(processes))
    return frozenset(_number("--show", rank, "ranks such as 0,3 or all") for rank in given.split(","))


def _number(option: str, given: str, expected: str) -> int:
    if not given.isdigit():
        raise MaquetteError(f"maquette launch: {option} is '{given}'; it must be {expected}")
    return int(given)
