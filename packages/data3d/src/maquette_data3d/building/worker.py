"""The child process that parses and processes, one source at a time, and may be killed at any moment.

It speaks JSON lines: one "ready" when its imports are done, then one answer a job. Samples go to files, so that
nothing large passes through the pipe.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import IO

from safetensors.numpy import save_file

from maquette import plugins
from maquette.durable import whole_file
from maquette_data3d.building.job import Job
from maquette_data3d.building.outcome import Outcome
from maquette_data3d.building.process import process, warm_up
from maquette_data3d.building.recipe import Recipe
from maquette_data3d.ingest.child_process import follow_parent, limit_memory
from maquette_data3d.shards.format import checksum


def answer(job: Job, recipe: Recipe) -> Outcome:
    """Decides one source; a sample that was made is written before its outcome is told."""
    bare = Outcome(job.item.number, caption=job.item.caption or "", class_name=job.item.class_name or "")
    try:
        outcome, sample = process(job.item, recipe, job.picture)
        if sample is None:
            return outcome
        start = time.perf_counter()
        outcome = replace(outcome, checksum=checksum(sample))
        with whole_file(Path(job.target)) as temporary:
            save_file(sample, temporary)
        return replace(outcome, seconds={**outcome.seconds, "write": time.perf_counter() - start})
    except MemoryError:
        return bare.lost("memory", "processing needed more than memory_mb allows")
    except Exception as error:  # libraries under us may raise anything; the file is named, the run goes on
        words = " ".join(str(error).split())[:160]
        return bare.lost("failed", f"{type(error).__name__}: {words}")


def serve(jobs: IO[str], answers: IO[str]) -> None:
    """Answers until the pipe closes."""
    setup = json.loads(jobs.readline())
    recipe = Recipe(**setup["recipe"])
    plugins.load_files(recipe.plugins)
    warm_up(recipe, setup["procedural"])
    limit_memory(setup["memory_mb"])
    print("ready", file=answers, flush=True)
    for line in jobs:
        outcome = answer(Job.of(json.loads(line)), recipe)
        print(json.dumps(outcome.plain()), file=answers, flush=True)
        if outcome.reason == "memory":
            return  # a heap that was full is not worth trusting


def main() -> None:
    """Entry point of the child: answers go to the inherited stdout, which no library may write to."""
    follow_parent(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends us
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        serve(sys.stdin, answers)


if __name__ == "__main__":
    main()
