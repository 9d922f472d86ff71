"""The child process that parses and processes, one item at a time, and may be killed at any moment.

It speaks JSON lines: one "ready" when its imports are done, then one answer a request. Samples go to files,
so that nothing large passes through the pipe.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from maquette.errors import MaquetteError
from maquette_data3d.shards import arrays
from maquette_data3d.shards.process import Outcome, Settings, process
from maquette_data3d.shards.sources import Item


def answer(request: dict[str, Any], settings: Settings) -> Outcome:
    """Processes one request; a sample that was made is written before its outcome is told."""
    item = Item(**request["item"])
    try:
        outcome, sample = process(item, request["class_id"], settings)
        outcome = replace(outcome, checksum=arrays.checksum(sample))
        arrays.write(Path(request["target"]), sample)
        return outcome
    except MaquetteError as error:
        reason, _, detail = str(error).partition(": ")
        return Outcome(item.number, reason, detail)
    except MemoryError:
        return Outcome(item.number, "memory", "processing needed more than memory_mb allows")
    except Exception as error:  # libraries under us may raise anything; the file is named, the run goes on
        words = " ".join(str(error).split())[:160]
        return Outcome(item.number, "failed", f"{type(error).__name__}: {words}")


def warm_up(procedural: bool) -> None:
    """Imports and compiles before the first deadline runs."""
    if procedural:
        from maquette_data3d.procedural import sample_shape

        sample_shape(0, 0).fields(8, points=8)
    else:
        import igl  # noqa: F401
        import numpy as np
        import trimesh  # noqa: F401

        from maquette_data3d.geometry.fields import mesh_field

        corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]])
        faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
        mesh_field(corners, faces, np.zeros((4, 3, 3), np.uint8), 8).tsdf(8, 0.1)


def limit_memory(megabytes: int) -> None:
    """Caps what this process may still allocate, where the system can."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * os.sysconf("SC_PAGE_SIZE") + megabytes * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, OSError, ValueError):
        return


def follow_parent() -> None:
    """Asks Linux to end this process when its parent ends; elsewhere the closed pipe does, a file later."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Answers until the pipe closes."""
    setup = json.loads(requests.readline())
    warm_up(setup["procedural"])
    limit_memory(setup["memory_mb"])
    settings = Settings(**setup["settings"])
    print("ready", file=answers, flush=True)
    for line in requests:
        outcome = answer(json.loads(line), settings)
        print(json.dumps(outcome.plain()), file=answers, flush=True)
        if outcome.reason == "memory":
            return  # a heap that was full is not worth trusting


def main() -> None:
    """Entry point of the child: answers go to the inherited stdout, which no library may write to."""
    follow_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends us
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
