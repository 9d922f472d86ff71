"""Limits that the shell or the scheduler has set for this process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from maquette.doctor.finding import Action, Finding, Status, not_applicable
from maquette.doctor.machine import Machine


@dataclass
class LimitsConfig:
    """The least that training needs."""

    open_files: int = 4096
    """Shards, sockets of other processes, and what loaders hand over."""
    processes: int = 4096
    """Threads count as well."""


class Limits:
    """What ``ulimit`` allows: open files, processes, and locked memory where there is InfiniBand."""

    together = False

    def __init__(self, config: LimitsConfig) -> None:
        self.config = config

    def __call__(self, machine: Machine) -> Iterator[Finding]:
        """All findings of this process."""
        yield _judged("limits.open_files", machine, "RLIMIT_NOFILE", self.config.open_files, "ulimit -n")
        yield _judged("limits.processes", machine, "RLIMIT_NPROC", self.config.processes, "ulimit -u")
        if machine.host.infiniband():
            yield _judged("limits.locked_memory", machine, "RLIMIT_MEMLOCK", None, "ulimit -l unlimited")
        else:
            yield not_applicable("limits.locked_memory", "no InfiniBand, which alone needs much of it")


def _judged(id: str, machine: Machine, name: str, least: int | None, command: str) -> Finding:
    """A limit that must be at least ``least``; None asks for no limit at all."""
    soft = machine.host.limit(name).soft
    fine = soft is None or (least is not None and soft >= least)
    wanted = f">= {least}" if least is not None else "unlimited"
    value = "unlimited" if soft is None else soft
    evidence = "" if fine else f"{value} is too low, it must be {wanted}: {command}"
    return Finding(id, Status.PASS if fine else Status.WARN, "", value, wanted, evidence,
                   Action.NONE if fine else Action.CONFIGURE)  # fmt: skip
