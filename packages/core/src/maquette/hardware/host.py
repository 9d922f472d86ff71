"""The machine's processors, memory, disks and network, as Linux tells of them in /proc and /sys.

Each method is one look: it gives plain numbers, or None where this system does not tell. Rates are left to the caller,
who has two looks and the time between them.
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass
from pathlib import Path

from maquette.hardware.kernel_files import lines

SECTOR = 512
"""Bytes; the unit of /proc/diskstats whatever the disk."""


@dataclass(frozen=True)
class MemoryReading:
    """Bytes of memory and swap; ``available`` is what programs can get without swapping."""

    total: int
    available: int
    swap_total: int
    swap_free: int


@dataclass(frozen=True)
class CpuReading:
    """Seconds that all processors together were busy, and could have been, since the start; and how many there are."""

    busy: float
    total: float
    count: int


@dataclass(frozen=True)
class ProcessReading:
    """A process: bytes of memory that it holds, seconds of processor time, threads, state (e.g. ``R``)."""

    memory: int
    cpu: float
    threads: int
    state: str


@dataclass(frozen=True)
class PressureReading:
    """Percent of the last 10 s in which some, or all, runnable tasks waited for a resource."""

    some: float
    full: float


@dataclass(frozen=True)
class TrafficReading:
    """Bytes in and out since the start: read and written of disks, received and sent of networks."""

    incoming: int
    outgoing: int


@dataclass(frozen=True)
class LimitReading:
    """A limit of this process, soft and hard; None is no limit."""

    soft: int | None
    hard: int | None


class Host:
    """Reads this machine, or folders that look like its /proc and /sys.

    Args:
        proc: the process file system.
        sys: the system's.
    """

    def __init__(self, proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> None:
        self.proc, self.sys = proc, sys

    def memory(self) -> MemoryReading | None:
        """Memory and swap of the whole machine; a container may have less (:func:`maquette.hardware.cgroups.read`)."""
        values = _table(self.proc / "meminfo")
        if "MemTotal" not in values:
            return None
        bytes_of = {name: int(text.split()[0]) * 1024 for name, text in values.items() if text}
        return MemoryReading(
            bytes_of["MemTotal"],
            bytes_of.get("MemAvailable", bytes_of.get("MemFree", 0)),
            bytes_of.get("SwapTotal", 0),
            bytes_of.get("SwapFree", 0),
        )

    def cpu(self) -> CpuReading | None:
        """Processor time since the start of the machine."""
        rows = [line.split() for line in lines(self.proc / "stat") if line.startswith("cpu")]
        if not rows:
            return None
        times = [int(value) / os.sysconf("SC_CLK_TCK") for value in rows[0][1:9]]
        idle = times[3] + (times[4] if len(times) > 4 else 0)
        return CpuReading(sum(times) - idle, sum(times), len(rows) - 1)

    def process(self, pid: int | None = None) -> ProcessReading | None:
        """A process, by default this one; None when it is gone."""
        found = lines(self.proc / str(pid or os.getpid()) / "stat")
        if not found:
            return None
        values = found[0].rpartition(")")[2].split()
        ticks = os.sysconf("SC_CLK_TCK")
        return ProcessReading(
            memory=int(values[21]) * os.sysconf("SC_PAGE_SIZE"),
            cpu=(int(values[11]) + int(values[12])) / ticks,
            threads=int(values[17]),
            state=values[0],
        )

    def pressure(self, resource_name: str) -> PressureReading | None:
        """How long tasks waited for ``cpu``, ``memory`` or ``io``; None where the kernel does not count it."""
        found: dict[str, float] = {}
        for line in lines(self.proc / "pressure" / resource_name):
            kind, *pairs = line.split()
            found[kind] = float(dict(pair.split("=") for pair in pairs)["avg10"])
        return PressureReading(found["some"], found.get("full", 0.0)) if "some" in found else None

    def disk_traffic(self) -> TrafficReading | None:
        """Of all disks; partitions, and volumes that are made of other disks (LVM, RAID), are not counted again."""
        rows = [line.split() for line in lines(self.proc / "diskstats")]
        disks = {
            path.name
            for path in (self.sys / "block").glob("*")
            if not path.name.startswith(("loop", "ram")) and not any((path / "slaves").glob("*"))
        }
        rows = [row for row in rows if len(row) > 9 and row[2] in disks]
        if not rows:
            return None
        return TrafficReading(sum(int(r[5]) for r in rows) * SECTOR, sum(int(r[9]) for r in rows) * SECTOR)

    def network_traffic(self) -> TrafficReading | None:
        """Of all interfaces but the machine's own loop."""
        rows = [line.partition(":") for line in lines(self.proc / "net" / "dev") if ":" in line]
        values = [numbers.split() for name, _, numbers in rows if name.strip() != "lo"]
        if not values:
            return None
        return TrafficReading(sum(int(v[0]) for v in values), sum(int(v[8]) for v in values))

    def uptime(self) -> float | None:
        """Seconds since the machine was started."""
        found = lines(self.proc / "uptime")
        return float(found[0].split()[0]) if found else None

    def nvidia_devices(self) -> int:
        """How many NVIDIA GPUs are plugged in, whether or not a driver serves them."""
        found = 0
        for device in (self.sys / "bus" / "pci" / "devices").glob("*"):
            vendor, kind = lines(device / "vendor"), lines(device / "class")
            # 0x03....: displays and accelerators of 3D graphics.
            found += vendor[:1] == ["0x10de"] and kind[:1] != [] and kind[0].startswith("0x03")
        return found

    def infiniband(self) -> dict[str, tuple[str, float]]:
        """Ports of InfiniBand adapters: ``adapter/port`` -> (state such as ``ACTIVE``, Gb/s)."""
        found = {}
        for port in sorted((self.sys / "class" / "infiniband").glob("*/ports/*")):
            state, rate = lines(port / "state"), lines(port / "rate")
            if state and rate:
                name = f"{port.parent.parent.name}/{port.name}"
                found[name] = (state[0].rpartition(": ")[2], float(rate[0].split()[0]))
        return found

    def limit(self, name: str) -> LimitReading:
        """A limit of this process, by its name in :mod:`resource`, e.g. ``RLIMIT_NOFILE``."""
        soft, hard = resource.getrlimit(getattr(resource, name))
        return LimitReading(_finite(soft), _finite(hard))


def _table(path: Path) -> dict[str, str]:
    return {name: text.strip() for name, _, text in (line.partition(":") for line in lines(path))}


def _finite(value: int) -> int | None:
    return None if value == resource.RLIM_INFINITY else value
