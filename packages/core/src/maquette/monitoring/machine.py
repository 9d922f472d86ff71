"""Readings of the machine that a process runs on, as rates and shares; and of its GPUs, with what they complain of."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from maquette.errors import MaquetteError
from maquette.hardware import disk
from maquette.hardware.gpu import HARMFUL, GpuEvent, GpuReading
from maquette.hardware.host import CpuReading, Host, ProcessReading, TrafficReading
from maquette.hardware.nvml import Nvml
from maquette.hardware.xids import SERIOUS

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class MachineReading:
    """One look: numbers by their names in :mod:`maquette.monitoring.metrics`, GPUs, and what is new and wrong."""

    host: dict[str, float]
    gpus: tuple[GpuReading, ...] = ()
    events: tuple[GpuEvent, ...] = ()
    """XIDs and memory errors since the last look."""
    complaints: tuple[str, ...] = ()
    """What was not so at the last look, in words."""


@dataclass
class _Before:
    """The counters of the last look."""

    when: float
    cpu: CpuReading | None = None
    process: ProcessReading | None = None
    disks: TrafficReading | None = None
    network: TrafficReading | None = None
    wrong: dict[int, set[str]] = field(default_factory=dict)


class Machine:
    """Looks at this machine; one thread may use it.

    Args:
        folder: whose file system is told of.
        nvml: an open NVML; None where there are no GPUs.
        gpu: the UUID of the one GPU that this process uses; empty for all that it may use.
        host: what reads /proc.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        folder: Path,
        nvml: Nvml | None = None,
        *,
        gpu: str = "",
        host: Host | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder, self.nvml, self.gpu, self.host, self.clock = folder, nvml, gpu, host or Host(), clock
        self._before = _Before(clock(), self.host.cpu(), self.host.process())
        self._before.disks, self._before.network = self.host.disk_traffic(), self.host.network_traffic()
        self._shown: tuple[int, ...] = ()

    @classmethod
    def here(cls, folder: Path, gpu: str = "") -> Machine:
        """With the GPUs of this machine; one whose driver does not answer is looked at without them."""
        try:
            return cls(folder, Nvml.open(), gpu=gpu)
        except MaquetteError:
            return cls(folder)

    def close(self) -> None:
        """Let go of the driver."""
        if self.nvml:
            self.nvml.close()
            self.nvml = None

    def read(self) -> MachineReading:
        """One look."""
        gpus = self._gpus()
        events = self._events({reading.index for reading in gpus})
        complaints = [line for reading in gpus for line in self._new(reading)]
        for event in events:
            serious = event.kind == "ecc_uncorrected" or event.xid in SERIOUS
            what = f"XID {event.xid}" if event.kind == "xid" else event.kind.replace("_", " ")
            complaints += [f"GPU {event.gpu}: {what}"] if serious else []
        return MachineReading(self._host(), tuple(gpus), tuple(events), tuple(complaints))

    def _gpus(self) -> list[GpuReading]:
        if self.nvml is None:
            return []
        if self._shown:  # one that is lost no longer tells its UUID, and the others' readings would cost time
            return [self.nvml.read(index) for index in self._shown]
        readings = self.nvml.read_all()
        chosen = [reading for reading in readings if self.gpu and reading.uuid and self.gpu in reading.uuid]
        self._shown = tuple(reading.index for reading in (chosen if self.gpu else readings))
        return chosen or readings

    def _events(self, shown: set[int]) -> list[GpuEvent]:
        """What is new of the GPUs that are shown; the driver tells each process of all."""
        try:
            return [event for event in self.nvml.events() if event.gpu in shown] if self.nvml else []
        except MaquetteError:  # a driver that tells of no events still gives readings
            return []

    def _new(self, reading: GpuReading) -> list[str]:
        """What is wrong with a GPU now and was not before."""
        wrong = {f"throttled: {reason.replace('_', ' ')}" for reason in reading.throttle or () if reason in HARMFUL}
        wrong |= {"has fallen off the bus"} if reading.lost else set()
        wrong |= {"rows of memory could not be replaced"} if reading.remap_failed else set()
        wrong |= {f"{reading.ecc_uncorrected} uncorrected memory errors"} if reading.ecc_uncorrected else set()
        new = wrong - self._before.wrong.get(reading.index, set())
        self._before.wrong[reading.index] = wrong
        return [f"GPU {reading.index}: {what}" for what in sorted(new)]

    def _host(self) -> dict[str, float]:
        host, before = self.host, self._before
        now = _Before(self.clock(), host.cpu(), host.process(), host.disk_traffic(), host.network_traffic())
        now.wrong = before.wrong
        self._before = now
        seconds = max(now.when - before.when, 1e-9)
        values: dict[str, float] = {}
        if now.cpu and before.cpu and now.cpu.total > before.cpu.total:
            values["host_cpu"] = (now.cpu.busy - before.cpu.busy) / (now.cpu.total - before.cpu.total)
        if now.process:
            values["process_memory"] = now.process.memory
            values["process_threads"] = now.process.threads
            if before.process:
                values["process_cpu"] = (now.process.cpu - before.process.cpu) / seconds
        for name, new, old in (("disk", now.disks, before.disks), ("network", now.network, before.network)):
            if new and old:
                into, out = ("read", "written") if name == "disk" else ("received", "sent")
                values[f"host_{name}_{into}"] = (new.incoming - old.incoming) / seconds
                values[f"host_{name}_{out}"] = (new.outgoing - old.outgoing) / seconds
        return values | self._levels()

    def _levels(self) -> dict[str, float]:
        values: dict[str, float] = {}
        if memory := self.host.memory():
            values["host_memory_used"] = memory.total - memory.available
            values["host_memory_total"] = memory.total
        for name in ("cpu", "memory", "io"):
            if pressure := self.host.pressure(name):
                values[f"host_pressure_{name}"] = pressure.some
        try:
            space = disk.read(self.folder)
            values["host_disk_free"], values["host_disk_total"] = space.free, space.total
        except OSError:  # a disk that does not answer has no free bytes to tell of
            pass
        return values


def uuid_of(device: torch.device) -> str:
    """The UUID of the GPU that a process computes on; empty where it computes on none."""
    import torch

    return str(torch.cuda.get_device_properties(device).uuid) if device.type == "cuda" else ""
