"""What the workers of a launch find in their environment."""

from __future__ import annotations

import os
from collections.abc import Mapping


def worker_environment(processes: int, given: Mapping[str, str]) -> dict[str, str]:
    """Variables that workers need beside what torch elastic sets; what the user has set stays.

    Args:
        processes: workers on this machine, among which its cores are shared out.
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
    }
    return {name: value for name, value in wanted.items() if name not in given}
