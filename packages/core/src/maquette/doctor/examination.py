"""All checks, on all processes, to one report that every process has."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from maquette import plugins
from maquette.doctor.finding import EXIT_STATUS, Action, Finding, Status, unknown, worst
from maquette.doctor.machine import FailedElsewhereError, Machine
from maquette.errors import unknown_name

SCHEMA = 1
"""Of a report as JSON; raised when a key changes its meaning or goes."""


class Check(Protocol):
    """What ``register_checks`` plugins build.

    Attributes:
        together: all processes call it at the same time, it may use ``machine.mesh``, and what it yields on rank 0
            counts; what may fail on one of them goes through ``machine.everybodys``. Else the first process of each
            machine calls it, and what it yields is of that machine.
    """

    together: bool

    def __call__(self, machine: Machine) -> Iterable[Finding]:
        """Look, and yield a finding for each thing that was looked at."""


@dataclass(frozen=True)
class Report:
    """What was found; the same on all processes.

    Attributes:
        findings: the worst first, else in the order of the checks.
        processes: how many took part.
        machines: their names.
        seconds: that the slowest process took.
    """

    findings: list[Finding]
    processes: int = 1
    machines: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def status(self) -> Status:
        """The one that decides."""
        return worst(self.findings)

    @property
    def exit_status(self) -> int:
        """0 fine, 1 a warning, 2 critical, 3 nothing worse than what could not be read."""
        return EXIT_STATUS[self.status]

    def of(self, *statuses: Status) -> list[Finding]:
        """The findings of some statuses."""
        return [finding for finding in self.findings if finding.status in statuses]

    def plain(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {
            "schema": SCHEMA,
            "status": str(self.status),
            "exit_status": self.exit_status,
            "processes": self.processes,
            "machines": self.machines,
            "seconds": round(self.seconds, 3),
            "findings": [
                {"id": f.id, "status": str(f.status), "subject": f.subject, "machine": f.machine, "value": f.value,
                 "unit": f.unit, "threshold": f.threshold, "evidence": f.evidence, "action": str(f.action)}
                for f in self.findings
            ],
        }  # fmt: skip

    @classmethod
    def read(cls, plain: Mapping[str, Any]) -> Report:
        """The report that :meth:`plain` has written."""
        findings = [
            Finding(**{**f, "status": Status(f["status"]), "action": Action(f["action"])}) for f in plain["findings"]
        ]
        return cls(findings, plain["processes"], list(plain["machines"]), plain["seconds"])


def build_checks(settings: Mapping[str, Mapping[str, Any]], only: Sequence[str] = ()) -> dict[str, Check]:
    """Name -> check of all that plugins provide.

    Args:
        settings: of checks, e.g. ``{"disk": {"full_percent": 90}}``.
        only: names of those to do; all where empty.

    Raises:
        MaquetteError: a name or a key is not known.
    """
    known = [entry.name for entry in plugins.registry("checks")]
    for name in (*settings, *only):
        if name not in known:
            raise unknown_name("check", name, known)
    return {name: plugins.build("checks", {"name": name, **settings.get(name, {})})
            for name in known if not only or name in only}  # fmt: skip


def examine(machine: Machine, checks: Mapping[str, Check]) -> Report:
    """Do all checks; all processes call it together, with the same checks."""
    begin = time.perf_counter()
    places = machine.mesh.gather((machine.name, os.getpid()))
    machine.ours = frozenset(pid for name, pid in places if name == machine.name)
    findings: list[Finding] = []
    for name, check in checks.items():
        findings += _together(name, check, machine) if check.together else _on_each_machine(name, check, machine)
    order = list(EXIT_STATUS)
    findings.sort(key=lambda finding: order.index(finding.status))
    seconds = max(machine.mesh.gather(time.perf_counter() - begin))
    return Report(findings, machine.mesh.world, sorted({name for name, _ in places}), seconds)


def _together(name: str, check: Check, machine: Machine) -> list[Finding]:
    """Rank 0's findings, and the failures of all."""
    found = list(_guarded(name, check, machine, f"rank {machine.mesh.rank}"))
    everybodys = machine.mesh.gather(found)
    failures = [f for theirs in everybodys[1:] for f in theirs if f.id == f"{name}.check"]
    return everybodys[0] + failures


def _on_each_machine(name: str, check: Check, machine: Machine) -> list[Finding]:
    """The findings of the first process of each machine."""
    found = list(_guarded(name, check, machine, "")) if machine.first_here else []
    return [f for theirs in machine.mesh.gather([replace(f, machine=machine.name) for f in found]) for f in theirs]


def _guarded(name: str, check: Check, machine: Machine, subject: str) -> Iterator[Finding]:
    """A check that fails has found nothing out."""
    try:
        yield from check(machine)
    except FailedElsewhereError:
        return  # told by those on which it has failed
    except Exception as error:  # a stranger's check may raise anything at all
        yield unknown(f"{name}.check", f"the check itself failed: {type(error).__name__}: {error}", subject)
