"""How many procedural shapes a minute: the fields of a shape at 64 with 8192 points, class by class.

    python benchmarks/data3d_procedural.py [SHAPES A CLASS]

One process, one thread, its own processor time (so that neighbours on the machine do not count); wall time
is shown beside it. The first shape of each class warms up and is not counted.
"""

from __future__ import annotations

import statistics
import sys
import time

from maquette_data3d.procedural import CLASSES, FAMILIES, FIRST_CLASSES, sample_shape

RESOLUTION, TRUNCATION, POINTS = 64, 0.05, 8192


def measured(name: str, count: int) -> list[tuple[float, float]]:
    """Processor and wall seconds a shape of a class, sampling included."""
    seconds = []
    for index in range(count + 1):
        processor, wall = time.process_time(), time.perf_counter()
        sample_shape(0, index, classes=(name,)).fields(RESOLUTION, TRUNCATION, POINTS)
        seconds.append((time.process_time() - processor, time.perf_counter() - wall))
    return seconds[1:]


def main() -> None:
    """Prints a line a class, then the averages."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    means, walls = {}, {}
    for family, names in FAMILIES.items():
        for name in names:
            seconds = measured(name, count)
            processor = [1000 * p for p, _ in seconds]
            means[name] = statistics.mean(processor) / 1000
            walls[name] = statistics.mean(wall for _, wall in seconds)
            spread = f"{min(processor):.1f} - {max(processor):.1f}"
            print(f"{family:10s} {name:12s} {statistics.median(processor):6.1f} ms  ({spread})")
    for what, names in (("all classes", CLASSES), ("the first eight", FIRST_CLASSES)):
        processor = statistics.mean(means[name] for name in names)
        wall = statistics.mean(walls[name] for name in names)
        print(f"{what}: {60 / processor:.0f} shapes a minute of one core ({60 / wall:.0f} by the clock on the wall)")


if __name__ == "__main__":
    main()
