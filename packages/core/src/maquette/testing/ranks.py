"""Runs a function as several processes of one run, as a launcher would, within a second or two."""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import wait
from types import ModuleType
from typing import Any

from maquette.ports import free_port
from maquette.testing.child_answers import answer, heard

PRELOADED = [
    "torch",
    "torch.distributed.fsdp",
    "torch.distributed.tensor",
    "torch.distributed.pipelining",
    "torch.distributed.checkpoint",
    "lightning.pytorch",
    "maquette.testing",
]


def run_ranks(function: Callable[..., Any], world: int, *args: Any, timeout: float = 120.0) -> list[Any]:
    """Call ``function(*args)`` in ``world`` processes that a launcher's environment joins.

    The processes are forked from a server that has torch imported already, with one thread each.

    Args:
        function: at the top level of a module or of a test file.
        world: how many processes.
        args: must be picklable, and so must the results; tensors as they are on the CPU.
        timeout: seconds until the processes are killed.

    Returns:
        The results in the order of ranks.

    Raises:
        AssertionError: a process failed, with its traceback, or the time was up.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOADED)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    place = (sys.modules[function.__module__].__file__ or "", function.__qualname__)
    port = free_port()
    ends, processes = [], []
    for rank in range(world):
        receive, send = context.Pipe(duplex=False)
        process = context.Process(target=_rank, args=(send, place, args, (rank, world, port)), daemon=True)
        process.start()
        send.close()
        ends.append(receive)
        processes.append(process)
    try:
        return _collect(ends, time.monotonic() + timeout)
    finally:
        for process in processes:
            process.kill()
            process.join()


def _collect(ends: list[Any], deadline: float) -> list[Any]:
    results: dict[int, Any] = {}
    open_ends = dict(zip(ends, range(len(ends)), strict=True))
    while open_ends:
        ready = wait(list(open_ends), max(0.0, deadline - time.monotonic()))
        assert ready, f"ranks {sorted(open_ends.values())} gave no answer in time"
        for end in ready:
            rank = open_ends.pop(end)  # type: ignore[call-overload]
            results[rank] = heard(end, f"rank {rank}")  # type: ignore[arg-type]
    return [results[rank] for rank in range(len(ends))]


def _rank(end: Any, place: tuple[str, str], args: tuple[Any, ...], who: tuple[int, int, int]) -> None:
    import torch
    from torch import distributed

    torch.set_num_threads(1)
    rank, world, port = who
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(world),
        LOCAL_WORLD_SIZE=str(world),
        MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port),
    )

    def called() -> Any:
        function: Any = _module(place[0])
        for part in place[1].split("."):
            function = getattr(function, part)
        return function(*args)

    if answer(end, called) and distributed.is_initialized():
        distributed.destroy_process_group()


def _module(path: str) -> ModuleType:
    """A module by its file: test files belong to no package."""
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) == path:
            return module
    spec = importlib.util.spec_from_file_location(f"ranks_{abs(hash(path))}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
