"""Collectives under observation: the flight recorder that tells who was missing, and a timeout that fits a step.

The first step may take minutes (compiling, the first touch of the data); a later one that takes as long is a hang.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path

import torch
from torch import distributed

from maquette.durable import write_text
from maquette.progress import say

RECORDED = "2000"
"""Collectives that each process remembers; 2000 cover some steps of a large model and take about a megabyte."""


def record_flights(folder: Path) -> None:
    """Turn torch's flight recorder on for process groups made from now on; what the environment says stays.

    On a timeout each process writes what it remembers to ``folder/flights/rank_<n>``; torch's ``torchfrtrace`` reads
    them.
    """
    for name, value in (
        ("TORCH_FR_BUFFER_SIZE", RECORDED),
        ("TORCH_NCCL_DUMP_ON_TIMEOUT", "1"),
        ("TORCH_FR_DUMP_TEMP_FILE", str(folder / "flights" / "rank_")),
        ("TORCH_NCCL_DEBUG_INFO_TEMP_FILE", str(folder / "flights" / "rank_")),
    ):
        os.environ.setdefault(name, value)
    (folder / "flights").mkdir(parents=True, exist_ok=True)


def flight_file(folder: Path, rank: int) -> Path:
    """Where a rank writes what it knows of its collectives when the launcher asks."""
    return folder / f"flight.rank{rank}.json"


def write_flight(folder: Path, rank: int) -> None:
    """Write the flight recorder's memory as JSON, with the groups' ranks, which it does not know on gloo.

    Called from a thread beside one that may wait in a collective for ever: talks to no other process.
    """
    if not distributed.is_initialized():
        return
    world = distributed.distributed_c10d._world
    groups = {str(world.pg_names[group]): sorted(ranks) for group, ranks in world.pg_group_ranks.items()}
    recorded = json.loads(torch._C._distributed_c10d._dump_fr_trace_json())  # type: ignore[attr-defined]
    write_text(
        flight_file(folder, rank), json.dumps({"rank": rank, "groups": groups, "entries": recorded.get("entries", [])})
    )


def tighten_timeout(slowest_step: float, *, factor: float = 20.0, least: float = 300.0) -> float | None:
    """Let collectives wait only as long as a hang would take to be one: called on all ranks after the first steps.

    Args:
        slowest_step: seconds that the slowest rank's slowest optimizer step took.
        factor: how many such steps to wait.
        least: seconds to wait at any rate: saving and validating come in between.

    Returns:
        The seconds now in force; None where there are no other processes or the backend keeps to its first timeout.
    """
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return None
    seconds = max(least, factor * slowest_step)
    for group in list(distributed.distributed_c10d._world.pg_map):
        try:
            distributed.distributed_c10d._set_pg_timeout(timedelta(seconds=seconds), group)
        except (RuntimeError, ValueError, AttributeError) as error:
            say(f"warning: the timeout of collectives stays as it was: {error}")
            return None
    return seconds
