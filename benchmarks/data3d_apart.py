"""What it costs to parse a stranger's file in a confined process: the same files read apart and in this process.

    OMP_NUM_THREADS=1 python benchmarks/data3d_apart.py [FOLDER OF MESHES] [meshes=60]

The folder is MAQUETTE_MODELS where none is given. Files are chosen evenly from all, by name; the two ways take turns.
Medians of times and of ratios, by seconds of the clock.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

from maquette_data3d.ingest.reading import ReadLimits, Scene, read
from maquette_data3d.ingest.reading_apart import READERS, Confinement


def timed(function: Callable[[], Scene]) -> float:
    """Seconds of a call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    """Entry point."""
    words = dict(word.split("=") for word in sys.argv[1:] if "=" in word)
    folder = next((word for word in sys.argv[1:] if "=" not in word), os.environ.get("MAQUETTE_MODELS", ""))
    paths = sorted(Path(folder).rglob("*.glb"))
    if not paths:
        raise SystemExit("give a folder of .glb files, or set MAQUETTE_MODELS")
    chosen = paths[:: max(1, len(paths) // int(words.get("meshes", "60")))]
    limits, bounds = ReadLimits(), Confinement()
    first = timed(lambda: READERS.read(chosen[0], limits, bounds))
    read(chosen[0], limits)
    here, apart = [], []
    for path in chosen:
        here.append(timed(lambda path=path: read(path, limits)))
        apart.append(timed(lambda path=path: READERS.read(path, limits, bounds)))
    extra = [1000 * (b - a) for a, b in zip(here, apart, strict=True)]
    print(f"{len(chosen)} files; the first takes {first:.1f} s: the parsers are loaded")
    print(f"here {1000 * statistics.median(here):.1f} ms, apart {1000 * statistics.median(apart):.1f} ms (medians)")
    print(f"all together {sum(here):.2f} s and {sum(apart):.2f} s: {sum(apart) / sum(here):.2f} times")
    print(f"apart costs {statistics.median(extra):.1f} ms more (median of pairs)")


if __name__ == "__main__":
    main()
