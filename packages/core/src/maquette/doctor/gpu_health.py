"""What the driver says of each GPU: memory errors, rows, links, heat, who else is on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from maquette.doctor.finding import Action, Finding, Status, judge, not_applicable, unknown
from maquette.doctor.machine import Machine
from maquette.errors import MaquetteError
from maquette.hardware import xids
from maquette.hardware.gpu import HARMFUL, MIB, GpuReading

RECOVERY = {
    "gpu_reset": Action.RESET_GPU,
    "drain_and_reset": Action.RESET_GPU,
    "bus_reset": Action.RESET_GPU,
    "drain_p2p": Action.DRAIN,
    "node_reboot": Action.RESTART_OS,
    "system_reboot": Action.RESTART_OS,
}
"""What the driver asks for, as an action; anything else it may ask for is for service."""

RESET_HELPS = frozenset({48, 56, 57, 58, 62, 63, 64, 65, 68, 69, 92})
"""XIDs after which a reset of the GPU is the first thing to try; the other serious ones want a reboot."""


@dataclass
class GpuConfig:
    """Limits of a GPU."""

    corrected_errors: int = 20_000_000
    """Corrected memory errors since the driver was loaded that are a warning."""
    margin: int = 5
    """Degrees to the temperature at which it slows itself down that are a warning."""
    xid_hours: float = 2.0
    """How long a serious XID counts."""
    foreign_mib: int = 15
    """Memory of a process that is not ours, on a GPU that should be idle."""


class Gpu:
    """Each GPU by NVML: memory errors, rows, XIDs, recovery, heat, throttling, PCIe, NVLink, foreign processes."""

    together = False

    def __init__(self, config: GpuConfig) -> None:
        self.config = config

    def __call__(self, machine: Machine) -> Iterator[Finding]:
        """All findings of all GPUs of this machine."""
        try:
            readings = machine.gpus
        except MaquetteError as error:
            yield Finding("gpu.driver", Status.CRITICAL, evidence=str(error), action=Action.RESTART_OS)
            return
        if not readings:
            plugged = machine.host.nvidia_devices() if readings is None else 0
            if plugged:
                evidence = f"{plugged} NVIDIA GPUs are plugged in, and no driver serves them"
                yield Finding("gpu.driver", Status.CRITICAL, "", plugged, "a driver", evidence, Action.INSTALL)
            else:
                yield not_applicable("gpu", "no NVIDIA GPU")
            return
        for reading in readings:
            yield from self._one(reading, machine.ours)
        yield from self._xids(machine, readings)

    def _one(self, gpu: GpuReading, ours: frozenset[int]) -> Iterator[Finding]:
        if gpu.lost or "handle" in gpu.unreadable:
            evidence = "it has fallen off the bus" if gpu.lost else gpu.unreadable["handle"]
            status = Status.CRITICAL if gpu.lost else Status.UNKNOWN
            yield Finding("gpu.present", status, f"GPU {gpu.index}", evidence=evidence, action=Action.RESTART_OS)
            return
        yield Finding("gpu.present", Status.PASS, f"GPU {gpu.index}", gpu.name)
        for id, (fields, check) in CHECKS.items():
            subject = f"GPU {gpu.index}"
            values = [getattr(gpu, name) for name in fields]
            reasons = [gpu.unreadable[name] for name in fields if name in gpu.unreadable]
            if reasons:
                yield unknown(id, f"the driver does not tell: {reasons[0]}", subject)
            elif None in values:
                yield not_applicable(id, "this GPU has no such reading", subject)
            else:
                yield check(_Look(id, subject, gpu, self.config, ours))

    def _xids(self, machine: Machine, readings: list[GpuReading]) -> Iterator[Finding]:
        uptime = machine.host.uptime()
        try:
            logged = xids.read(machine.kernel_log)
        except OSError as error:
            yield unknown("gpu.xid", f"{machine.kernel_log} may not be read ({error.strerror}): errors may be in it")
            return
        if uptime is None:
            yield unknown("gpu.xid", "/proc/uptime does not tell how old the errors in the log are")
            return
        recent = [x for x in logged if x.number in xids.SERIOUS and uptime - x.when < 3600 * self.config.xid_hours]
        for xid in recent:
            subject = next((f"GPU {gpu.index}" for gpu in readings if same_bus(gpu.bus, xid.bus)), xid.bus)
            minutes = (uptime - xid.when) / 60
            action = Action.RESET_GPU if xid.number in RESET_HELPS else Action.RESTART_OS
            yield Finding("gpu.xid", Status.CRITICAL, subject, xid.number, "none that is serious",
                          f"XID {xid.number} {minutes:.0f} minutes ago; when it comes back after that, service",
                          action)  # fmt: skip
        if not recent:
            yield Finding("gpu.xid", Status.PASS, "", 0, "none that is serious")


@dataclass(frozen=True)
class _Look:
    """One check of one GPU."""

    id: str
    subject: str
    gpu: GpuReading
    config: GpuConfig
    ours: frozenset[int]

    def judge(self, value: float, **limits: Any) -> Finding:
        """By numbers; see :func:`maquette.doctor.finding.judge`."""
        return judge(self.id, value, subject=self.subject, **limits)

    def say(
        self, good: bool, value: float | str, wanted: str, *, advice: str, action: Action, critical: bool = False
    ) -> Finding:
        """By a yes or no."""
        bad = Status.CRITICAL if critical else Status.WARN
        if good:
            return Finding(self.id, Status.PASS, self.subject, value, wanted)
        return Finding(self.id, bad, self.subject, value, wanted, advice, action)


def same_bus(reading: str | None, logged: str) -> bool:
    """Whether two ways to write a PCI address mean the same: ``00000000:3B:00.0`` and ``0000:3b:00``."""

    def plain(bus: str) -> list[str]:
        return bus.lower().partition(".")[0].split(":")[-2:]

    return reading is not None and plain(reading) == plain(logged)


def _uncorrected(look: _Look) -> Finding:
    return look.judge(look.gpu.ecc_uncorrected or 0, unit="errors", critical=1,
                      advice="memory gave wrong values since the driver was loaded",
                      action=Action.RESET_GPU)  # fmt: skip


def _corrected(look: _Look) -> Finding:
    return look.judge(look.gpu.ecc_corrected or 0, unit="errors", warn=look.config.corrected_errors,
                      advice="its memory is failing slowly", action=Action.SERVICE)  # fmt: skip


def _pending(look: _Look) -> Finding:
    return look.say(not look.gpu.remap_pending, str(look.gpu.remap_pending), "False",
                    advice="bad rows of memory are replaced at the next reset",
                    action=Action.RESET_GPU, critical=True)  # fmt: skip


def _failed(look: _Look) -> Finding:
    return look.say(not look.gpu.remap_failed, str(look.gpu.remap_failed), "False",
                    advice="a bad row of memory could not be replaced",
                    action=Action.SERVICE, critical=True)  # fmt: skip


def _recovery(look: _Look) -> Finding:
    asked = look.gpu.recovery_action or ""
    return look.say(asked == "none", asked, "none", advice=f"the driver asks for {asked}",
                    action=RECOVERY.get(asked, Action.SERVICE), critical=True)  # fmt: skip


def _margin(look: _Look) -> Finding:
    return look.judge(look.gpu.margin or 0, unit="C", warn=look.config.margin, critical=1, at_least=True,
                      evidence=f"at {look.gpu.temperature} C", advice="it slows itself down at a margin of 0",
                      action=Action.SERVICE)  # fmt: skip


def _throttle(look: _Look) -> Finding:
    reasons = sorted(HARMFUL.intersection(look.gpu.throttle or ()))
    said = ", ".join(reasons)
    return look.say(not reasons, said or "none", "no heat, slowdown or brake",
                    advice=f"it runs slowly because of {said}", action=Action.SERVICE)  # fmt: skip


def _width(look: _Look) -> Finding:
    return look.judge(look.gpu.pcie_width or 0, unit="lanes", warn=look.gpu.pcie_width_max, at_least=True,
                      advice="the slot or riser is bad, or not made for this GPU", action=Action.SERVICE)  # fmt: skip


def _generation(look: _Look) -> Finding:
    if look.gpu.performance_state != 0:
        return not_applicable(look.id, "the GPU rests, and its link with it", look.subject)
    return look.judge(look.gpu.pcie_generation or 0, warn=look.gpu.pcie_generation_max, at_least=True,
                      advice="the link runs slower than GPU and slot could", action=Action.SERVICE)  # fmt: skip


def _links(look: _Look) -> Finding:
    links = look.gpu.nvlinks or ()
    down = [index for index, up in enumerate(links) if not up]
    if len(down) == len(links):  # GPUs on bridges that are not fitted
        return not_applicable(look.id, "no NVLink is connected", look.subject)
    return look.say(not down, len(links) - len(down), f"{len(links)} up",
                    advice=f"NVLinks {down} are down", action=Action.SERVICE)  # fmt: skip


def _link_errors(look: _Look) -> Finding:
    return look.judge(look.gpu.nvlink_errors or 0, unit="errors", warn=1,
                      advice="NVLink sent again or recovered since the driver was loaded",
                      action=Action.SERVICE)  # fmt: skip


def _foreign(look: _Look) -> Finding:
    least = look.config.foreign_mib * MIB
    # Where the driver does not tell the memory, the process still is there.
    strangers = [
        p for p in look.gpu.processes or () if p.pid not in look.ours and (p.memory is None or p.memory > least)
    ]
    said = ", ".join(str(process.pid) for process in strangers)
    return look.say(not strangers, len(strangers), "none", advice=f"processes {said} are on it", action=Action.DRAIN)


CHECKS: dict[str, tuple[tuple[str, ...], Callable[[_Look], Finding]]] = {
    "gpu.ecc_uncorrected": (("ecc_uncorrected",), _uncorrected),
    "gpu.ecc_corrected": (("ecc_corrected",), _corrected),
    "gpu.remap_pending": (("remap_pending",), _pending),
    "gpu.remap_failed": (("remap_failed",), _failed),
    "gpu.recovery_action": (("recovery_action",), _recovery),
    "gpu.margin": (("margin",), _margin),
    "gpu.throttle": (("throttle",), _throttle),
    "gpu.pcie_width": (("pcie_width", "pcie_width_max"), _width),
    "gpu.pcie_generation": (("pcie_generation", "pcie_generation_max", "performance_state"), _generation),
    "gpu.nvlinks": (("nvlinks",), _links),
    "gpu.nvlink_errors": (("nvlink_errors",), _link_errors),
    "gpu.foreign_processes": (("processes",), _foreign),
}
"""Finding -> the readings that it needs, and who judges them."""
