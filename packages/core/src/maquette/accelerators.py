"""What accelerators can hold and do, by name: the one table behind ``maquette plan`` and the share of peak in use.

No torch here. Memory is what a driver reports as usable. Rates are the vendors' dense figures (without sparsity, with
accumulation in fp32), except ``h200``, whose bf16 rate is what large products were measured to reach.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from maquette.errors import unknown_name

GIB = 2**30
TERA = 1e12


@dataclass(frozen=True)
class Accelerator:
    """One kind of device.

    Attributes:
        memory: bytes a process can use.
        fp32, bf16, fp8: floating-point operations a second of dense products; 0 where unknown or not there.
        bandwidth: bytes a second between the chip and its memory; 0 where unknown.
    """

    name: str
    memory: int
    fp32: float
    bf16: float
    fp8: float
    bandwidth: float

    def rate(self, precision: str) -> float:
        """Operations a second of products in ``fp32``, ``bf16`` or ``fp8``; 0 where unknown."""
        return {"fp32": self.fp32, "bf16": self.bf16, "fp8": self.fp8 or self.bf16}[precision]


def _device(name: str, gib: float, tera: tuple[float, float, float, float]) -> Accelerator:
    fp32, bf16, fp8, bandwidth = (value * TERA for value in tera)
    return Accelerator(name, int(gib * GIB), fp32, bf16, fp8, bandwidth)


def _main_memory() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB


ACCELERATORS = {
    device.name: device
    for device in (
        _device("h200", 139, (67, 790, 1580, 4.8)),
        _device("h100", 79, (67, 989, 1979, 3.35)),
        _device("a100", 79, (19.5, 312, 0, 2.0)),
        _device("a100_40", 39, (19.5, 312, 0, 1.55)),
        _device("l40s", 44.5, (91.6, 362, 733, 0.864)),
        _device("rtx4090", 23.5, (82.6, 165, 330, 1.008)),
        _device("mi300x", 191, (163, 1307, 2615, 5.3)),
        _device("cpu", _main_memory(), (0, 0, 0, 0)),
    )
}
"""All known accelerators; ``cpu`` is this machine, of unknown speed."""

_MARKS = (
    ("h200", "h200"),
    ("h100", "h100"),
    ("a100-sxm4-40", "a100_40"),
    ("a100-pcie-40", "a100_40"),
    ("a100", "a100"),
    ("l40s", "l40s"),
    ("4090", "rtx4090"),
    ("mi300x", "mi300x"),
)


def accelerator(name: str) -> Accelerator:
    """The accelerator of a name.

    Raises:
        MaquetteError: unknown; suggests one.
    """
    if name not in ACCELERATORS:
        raise unknown_name("accelerator", name, list(ACCELERATORS))
    return ACCELERATORS[name]


def recognise(device_name: str) -> Accelerator | None:
    """The accelerator that a driver calls e.g. ``NVIDIA H200``; None where it is not in the table."""
    lower = device_name.lower()
    return next((ACCELERATORS[name] for mark, name in _MARKS if mark in lower), None)
