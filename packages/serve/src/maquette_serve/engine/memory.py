"""How much memory this process needs and may have; all in bytes."""

from __future__ import annotations

import math
import sys
from pathlib import Path

from maquette.hardware import cgroups
from maquette.hardware.host import Host

GIB = 2**30
SHARE = 0.8
"""Of the memory that is free when an engine starts, what its passes may take unless somebody says otherwise."""


def free_memory() -> float:
    """What is free on the device, or for this process where there is no GPU; infinite where nobody tells."""
    if has_gpu():
        return float(sys.modules["torch"].cuda.mem_get_info()[0])
    found = [reading.available] if (reading := Host().memory()) else []
    group = cgroups.read()
    if group is not None and group.limit is not None and group.used is not None:
        found.append(group.limit - group.used)
    return float(max(min(found), 0)) if found else math.inf


def has_gpu() -> bool:
    """Whether models compute on a GPU here; torch is not imported for that."""
    if "torch" not in sys.modules:
        return False
    from maquette.inference_device import inference_device

    return inference_device().type == "cuda"


class Peak:
    """Gives, after its block, by how much memory rose above what was taken before: of the GPU, or of the process.

    Where the system does not tell (no GPU and no Linux), `risen` is 0.
    """

    risen: int = 0

    def __enter__(self) -> Peak:
        self._cuda = sys.modules["torch"].cuda if has_gpu() else None
        if self._cuda is not None:
            self._cuda.reset_peak_memory_stats()
            self._before = int(self._cuda.memory_allocated())
        else:
            _forget_peak()
            self._before = resident()
        return self

    def __exit__(self, *error: object) -> None:
        if self._cuda is not None:
            peak = int(self._cuda.max_memory_allocated())
        else:
            peak = 1024 * _of_proc("/proc/self/status", "VmHWM")
        self.risen = max(peak - self._before, 0)


def resident(process: int | str | None = "self") -> int:
    """What a process, this one unless its number is given, has now."""
    return 1024 * _of_proc(f"/proc/{process}/status", "VmRSS")


def told(size: float) -> str:
    """For people: "3.2 GiB"."""
    return f"{size / GIB:.2g} GiB" if size < 10 * GIB else f"{size / GIB:.0f} GiB"


def _of_proc(file: str, key: str) -> int:
    path = Path(file)
    lines = path.read_text().splitlines() if path.exists() else []
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{key}:")), 0)


def _forget_peak() -> None:
    """Lets the kernel count this process's peak from here on (5 is what `man proc` says for that)."""
    path = Path("/proc/self/clear_refs")
    if path.exists():
        path.write_text("5")
