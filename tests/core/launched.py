"""What tests of launched runs share: finding a rank's process, waiting for a checkpoint."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

TOY = Path(__file__).with_name("toy_plugin.py")
TIMEOUT = 180


def worker(launcher: subprocess.Popen[str], rank: int) -> int:
    """The process of a rank."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == launcher.pid and f"RANK={rank}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                return int(entry.name)
        except OSError:
            continue
    raise AssertionError(f"no rank {rank}")


def wait_for_a_checkpoint(process: subprocess.Popen[str], folder: Path) -> None:
    """Until the launched run has saved one."""
    until = time.monotonic() + TIMEOUT
    while not list((folder / "checkpoints").glob("step_*")):
        assert process.poll() is None and time.monotonic() < until, process.communicate()[1]
        time.sleep(0.02)
