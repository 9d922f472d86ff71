"""Memory: what there is, what the group may use, who was killed for it, and how long tasks wait."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from maquette.accelerators import GIB
from maquette.doctor.finding import Action, Finding, judge, not_applicable, unknown
from maquette.doctor.machine import Machine
from maquette.hardware import cgroups


@dataclass
class MemoryConfig:
    """Limits of memory and of waiting."""

    available_percent: float = 10.0
    """Of all memory that must be free for programs."""
    swap_percent: float = 50.0
    """Of swap in use that is a warning."""
    group_percent: float = 90.0
    """Of the control group's limit in use that is a warning."""
    pressure_percent: float = 10.0
    """Of the last 10 s in which all tasks waited for memory or for disks."""
    cpu_pressure_percent: float = 80.0
    """Of the last 10 s in which some task waited for a processor."""


class Memory:
    """Memory, swap, the control group's limit and kills, and how long tasks wait (PSI)."""

    together = False

    def __init__(self, config: MemoryConfig) -> None:
        self.config = config

    def __call__(self, machine: Machine) -> Iterator[Finding]:
        """All findings of this machine."""
        yield from self._whole(machine)
        yield from self._group(machine)
        yield from self._waiting(machine)

    def _whole(self, machine: Machine) -> Iterator[Finding]:
        found = machine.host.memory()
        if found is None:
            yield unknown("memory.available", "/proc/meminfo does not tell")
            return
        yield judge("memory.available", 100 * found.available / found.total, unit="%",
                    warn=self.config.available_percent, at_least=True,
                    evidence=f"{found.available / GIB:.1f} of {found.total / GIB:.1f} GiB are available",
                    action=Action.DRAIN)  # fmt: skip
        if not found.swap_total:
            yield not_applicable("memory.swap", "no swap")
            return
        yield judge("memory.swap", 100 * (1 - found.swap_free / found.swap_total), unit="%",
                    warn=self.config.swap_percent, advice="memory lies on a disk: everything is slow",
                    action=Action.DRAIN)  # fmt: skip

    def _group(self, machine: Machine) -> Iterator[Finding]:
        found = cgroups.read(machine.host.proc, machine.host.sys)
        if found is None:
            yield unknown("memory.cgroup", "/sys/fs/cgroup does not tell of this process's group")
            return
        if found.limit is None:
            yield not_applicable("memory.cgroup", "the control group has no limit")
        elif found.used is None:
            yield unknown("memory.cgroup", "the control group does not tell what it uses")
        else:
            yield judge("memory.cgroup", 100 * found.used / found.limit, unit="%", warn=self.config.group_percent,
                        evidence=f"{found.used / GIB:.1f} of {found.limit / GIB:.1f} GiB that the group may use",
                        action=Action.CONFIGURE)  # fmt: skip
        if found.oom_kills is None:
            yield unknown("memory.oom_kills", "the control group does not count kills for memory")
        else:
            yield judge("memory.oom_kills", found.oom_kills, unit="kills", warn=1,
                        advice="processes of this group that the kernel killed for memory",
                        action=Action.RESTART_APP)  # fmt: skip

    def _waiting(self, machine: Machine) -> Iterator[Finding]:
        limits = {"memory": self.config.pressure_percent, "io": self.config.pressure_percent,
                  "cpu": self.config.cpu_pressure_percent}  # fmt: skip
        for resource, limit in limits.items():
            found = machine.host.pressure(resource)
            if found is None:
                yield unknown(f"pressure.{resource}", "the kernel does not count waiting (PSI)")
                continue
            # All tasks together never wait for a processor: one of them has it.
            share, who = (found.some, "some task") if resource == "cpu" else (found.full, "all tasks")
            yield judge(f"pressure.{resource}", share, unit="%", warn=limit,
                        evidence=f"{who} waited for {resource} in that share of the last 10 s",
                        action=Action.DRAIN)  # fmt: skip
