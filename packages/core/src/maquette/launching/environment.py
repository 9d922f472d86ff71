"""What the workers of a launch find in their environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

FLIGHT_RECORDER_ENTRIES = "2000"


def worker_environment(processes: int, logs: Path, given: Mapping[str, str]) -> dict[str, str]:
    """Variables that workers need beside what torch elastic sets; what the user has set stays.

    Args:
        processes: workers on this machine, among which its cores are shared out.
        logs: where the flight recorder writes when a collective hangs.
        given: the present environment.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = {
        # With a store that outlives its workers, restarted gloo workers meet the keys of the dead ones and hang
        # (pytorch issue 135712); so each attempt gets a store of its own.
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "OMP_NUM_THREADS": str(max(cores // processes, 1)),
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
        "TORCH_FR_BUFFER_SIZE": FLIGHT_RECORDER_ENTRIES,
        "TORCH_NCCL_DUMP_ON_TIMEOUT": "1",
        "TORCH_FR_DUMP_TEMP_FILE": str(logs / "flight_recorder_rank_"),
    }
    return {name: value for name, value in wanted.items() if name not in given}
