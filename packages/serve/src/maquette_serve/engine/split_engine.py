"""An engine of several processes: one has the requests, and all compute the passes of its models together.

That makes one large request quicker, which more engines do not. The leader is the engine's own process; the others open
the same runs and do what it announces. Where one of them dies the engine ends, and is started again with all of them.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import TYPE_CHECKING

from maquette.errors import MaquetteError
from maquette.ports import free_port
from maquette_serve.engine.call_pool import step_back
from maquette_serve.engine.engine_setup import EngineSetup, open_all, take_device

if TYPE_CHECKING:
    from maquette.split_passes import SplitPasses

LOST = 70
"""With what an engine ends that has lost one of its processes."""


def led(setup: EngineSetup) -> SplitPasses | None:
    """Starts the other processes of an engine, and meets them; None where there are none.

    Raises:
        MaquetteError: adapters are asked for, which the leader alone would put on.
    """
    if setup.split == 1:
        return None
    from maquette.split_passes import SplitPasses

    if setup.adapters is not None:
        raise MaquetteError("--adapters and --split do not go together: adapters are put on by one process alone")
    if setup.device.startswith("cuda:"):
        raise MaquetteError("--split takes a GPU for each process, and --device names one for all; leave it away")
    context, port = multiprocessing.get_context("spawn"), free_port()
    channels: list[Connection] = []
    followers: list[SpawnProcess] = []
    for rank in range(1, setup.split):
        ours, theirs = context.Pipe()
        followers.append(context.Process(target=follow, args=(setup, rank, port, theirs), daemon=True))
        followers[-1].start()
        theirs.close()
        channels.append(ours)
    threading.Thread(target=end_with, args=(followers,), daemon=True).start()
    return SplitPasses(0, setup.split, port, channels)


def end_with(followers: Sequence[SpawnProcess]) -> None:
    """Ends this process as soon as another one has: it would wait for it in the next pass."""
    wait([follower.sentinel for follower in followers])
    os._exit(LOST)


def follow(setup: EngineSetup, rank: int, port: int, channel: Connection) -> None:
    """What another process of the engine does until the leader ends."""
    from maquette.split_passes import SplitPasses

    step_back()
    take_device(setup, rank)
    split = SplitPasses(rank, setup.split, port, [channel])
    try:
        open_all(setup, split)
    except MaquetteError:  # the leader meets the same, and says so; not to end before it does
        wait([channel])
        return
    split.follow()
