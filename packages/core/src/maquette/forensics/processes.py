"""What the kernel says of a process: whether it runs, sleeps, is stopped or waits for a device."""

from __future__ import annotations

from pathlib import Path

from maquette.hardware.host import Host

RUNNING, SLEEPING, STOPPED, TRACED, IN_KERNEL, DEAD, GONE = "R", "S", "T", "t", "D", "Z", ""
"""States as /proc has them; GONE where there is no such process."""

SAID = {
    RUNNING: "runs",
    SLEEPING: "sleeps",
    STOPPED: "is stopped (SIGSTOP)",
    TRACED: "is held by a debugger",
    IN_KERNEL: "waits in the kernel for a device (state D)",
    DEAD: "has ended",
    GONE: "is gone",
}


def state(pid: int, proc: Path = Path("/proc")) -> str:
    """One of the states above, or another letter of the kernel's."""
    reading = Host(proc).process(pid)
    return reading.state if reading else GONE


def describe(pid: int, proc: Path = Path("/proc")) -> str:
    """The state in words, and for one that waits in the kernel the function there, where it may be read."""
    found = state(pid, proc)
    said = SAID.get(found, f"is in state {found}")
    if found != IN_KERNEL:
        return said
    try:
        place = (proc / str(pid) / "wchan").read_text().strip()
    except OSError:
        place = ""
    return f"{said}, at {place}" if place not in ("", "0") else said
