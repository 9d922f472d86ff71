"""The process that is fuzzed, with little memory and a clock on every case.

    python -m tests.security.fuzz_child FIRST LAST FOLDER

A line of JSON a case: its number, format and what came of it. The system ends it where a case hangs.
"""

from __future__ import annotations

import json
import random
import resource
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from maquette.errors import MaquetteError
from maquette_data3d.ingest.child_process import limit_memory
from tests.security import loaders
from tests.security.mutations import mutated

SECONDS = 20  # of the processor, for one small file
MEMORY_MB = 1024


def cases(folder: Path, numbers: range) -> Iterator[tuple[int, str, str, bytes]]:
    """The mutations of those numbers: each depends on its number alone."""
    good = loaders.good_files(folder)
    for number in numbers:
        kind, suffix, content = good[number % len(good)]
        yield number, kind, suffix, mutated(content, suffix, random.Random(number))


def outcome(kind: str, suffix: str, content: bytes, folder: Path) -> str:
    """ "read", "refused: reason", or the name of what escaped."""
    try:
        loaders.load_one(kind, suffix, content, folder)
    except MaquetteError as error:
        return "refused: " + str(error).partition(":")[0][:40] if "\n" not in str(error) else "more than one line"
    except BaseException as error:
        return f"escaped: {type(error).__name__}: {str(error)[:100]}"
    return "read"


def main() -> None:
    """Runs its cases."""
    first, last, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    folder.mkdir(exist_ok=True)
    made = cases(folder, range(first, last))
    loaders.fork_fbx_child()
    started = False
    for number, kind, suffix, content in made:
        if not started:
            limit_memory(MEMORY_MB)
            started = True
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        begun = time.process_time()
        found = outcome(kind, suffix, content, folder)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        line = [number, f"{kind} {suffix}", found, round(time.process_time() - begun, 3), peak]
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
