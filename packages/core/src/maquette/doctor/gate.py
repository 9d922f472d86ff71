"""The quick look before a run trains: ``doctor: warn`` or ``doctor: require`` in its configuration."""

from __future__ import annotations

from pathlib import Path

from maquette.doctor.checkpoint_size import newest_checkpoint_bytes
from maquette.doctor.examination import Report, build_checks, examine
from maquette.doctor.finding import Status
from maquette.doctor.machine import Machine
from maquette.errors import MaquetteError
from maquette.parallel.mesh import Mesh
from maquette.progress import say


def pass_gate(mode: str, mesh: Mesh, folder: Path) -> None:
    """Look quickly at all machines of a run; all its processes call it together.

    Args:
        mode: ``off`` looks at nothing; ``warn`` says what is critical and goes on; ``require`` goes on only where
            nothing is critical, and says what else is not fine or could not be read.
        mesh: the run's processes.
        folder: the run's.

    Raises:
        MaquetteError: something is critical and ``require`` was asked for; says what and which action mends it.
    """
    if mode == "off":
        return
    machine = Machine(mesh, quick=True, folder=folder, checkpoint_bytes=newest_checkpoint_bytes(folder))
    report = examine(machine, build_checks({}))
    if mesh.rank == 0:
        for finding in report.of(Status.CRITICAL) if mode == "warn" else report.of(Status.WARN, Status.UNKNOWN):
            say(f"warning: doctor: {finding}")
    if mode == "require" and report.status is Status.CRITICAL:
        raise refusal(report)


def refusal(report: Report) -> MaquetteError:
    """One line: the first critical finding with its action, and how many others there are."""
    first, *others = report.of(Status.CRITICAL)
    more = f"; and {len(others)} more, see maquette doctor" if others else ""
    return MaquetteError(f"doctor=require: {first}{more}")
