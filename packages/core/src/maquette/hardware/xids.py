"""XIDs, the NVIDIA driver's numbered errors, from the kernel's log."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

SERIOUS = frozenset({48, 56, 57, 58, 62, 63, 64, 65, 68, 69, 73, 74, 79, 80, 81, 92, 119, 120})
"""Errors of the hardware or the driver; the others come from programs, or tell of what another one means."""

RECORD = re.compile(r"^\d+,\d+,(?P<microseconds>\d+),.*?;.*?NVRM: Xid \(PCI:(?P<bus>[0-9a-fA-F:.]+)\): (?P<xid>\d+)")


@dataclass(frozen=True)
class Xid:
    """One error: seconds since the machine's start, the GPU's PCI address, the number."""

    when: float
    bus: str
    number: int


def read(log: Path = Path("/dev/kmsg")) -> list[Xid]:
    """All XIDs that the kernel's log still holds, oldest first.

    Raises:
        OSError: the log may not be read, as mostly in a container.
    """
    found = []
    for record in _records(log):
        match = RECORD.match(record)
        if match:
            found.append(Xid(int(match["microseconds"]) / 1e6, match["bus"], int(match["xid"])))
    return found


def _records(log: Path) -> list[str]:
    """One record a read of the device, or one a line of a file."""
    records: list[str] = []
    descriptor = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    try:
        while True:
            try:
                chunk = os.read(descriptor, 2**16)
            except BlockingIOError:  # the end of what there is
                return records
            except BrokenPipeError:  # older records were overwritten while we read
                continue
            if not chunk:
                return records
            records += chunk.decode(errors="replace").splitlines()
    finally:
        os.close(descriptor)
