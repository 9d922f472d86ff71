"""How much of 200 models each file format keeps: written, read back by other libraries, compared; GLB validated.

    python benchmarks/export_round_trips.py [--models FOLDER] [--run RUN] [--count 200] [--seed 0]

A third of the models are real files (of FOLDER), a third procedural surfaces (a half of these drawn by RUN's
generator, where one is given), a third random ones with everything a format may meet. The checks are those of the
tests, tests/data3d/exporting/formats.py; sizes are of the GLB of real files.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np

from maquette.assets import import_asset, open_pipeline
from maquette.types import Asset, Request
from maquette_data3d.procedural import CLASSES, sample_shape

TESTS = Path(__file__).parents[1] / "tests" / "data3d" / "exporting"
GLB = ("glb", "glb draco", "glb meshopt")


def loaded(name: str) -> ModuleType:
    """A module of the tests."""
    spec = importlib.util.spec_from_file_location(name, TESTS / f"{name}.py")
    if spec is None or spec.loader is None:
        sys.exit(f"{TESTS / name}.py is not there")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def models(arguments: argparse.Namespace) -> Iterator[tuple[str, Asset]]:
    """Models with their kind."""
    random, third = np.random.default_rng(arguments.seed), arguments.count // 3
    real = 0
    if arguments.models:
        files = sorted(path for path in arguments.models.rglob("*") if path.suffix in (".glb", ".gltf", ".fbx", ".obj"))
        for place in random.permutation(len(files))[:third]:
            real += 1
            yield "real", import_asset(files[place])
    drawn = third // 2 if arguments.run else 0
    if arguments.run:
        pipeline = open_pipeline(arguments.run)
        for at in range(drawn):
            prompt = sample_shape(1000 + arguments.seed, at, classes=("chair", "table", "lamp", "mug")).caption
            yield "generated", pipeline(Request(prompt, seed=1000 * arguments.seed + at))
    for at in range(third - drawn):
        shape = sample_shape(arguments.seed, at, classes=CLASSES)
        yield "procedural", Asset(shape.mesh(32), {"prompt": shape.caption})
    assets = loaded("random_assets")
    for at in range(arguments.count - real - third):
        yield "random", assets.random_asset(1000 * arguments.seed + at)


def main() -> None:
    """Prints a line a failure, then what each format kept, and sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=None)
    parser.add_argument("--run", type=Path, default=None)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    formats, khronos = loaded("formats"), loaded("khronos")
    kinds: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    sizes: dict[str, list[int]] = defaultdict(list)
    seconds = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for kind, asset in models(arguments):
            inside = Path(folder) / str(sum(kinds.values()))
            kinds[kind] += 1
            for name, message in formats.failures(asset, inside).items():
                lost[name] += 1
                print(f"{name}: {kind} {asset.metadata.get('source', inside.name)}: {message}", flush=True)
            for name in GLB:
                found = next((inside / name.replace(" ", "_")).glob("*.glb"))
                paths.append(found)
                if kind == "real":
                    sizes[name].append(found.stat().st_size)
        if khronos.missing():
            print(f"not validated: {khronos.missing()}")
        else:
            reports = khronos.reports(paths)
            wrong = [report for report in reports if report["errors"]]
            codes = Counter(code for report in reports for code in set(report["codes"]))
            print(f"Khronos validator: {len(reports)} files, {len(wrong)} with errors; {dict(codes)}")
            for report in wrong:
                print(f"  {report['file']}: {report['wrong']}")
    total = sum(kinds.values())
    print(f"{total} models ({', '.join(f'{count} {kind}' for kind, count in kinds.items())})")
    for name in formats.CHECKS:
        print(f"{name:12s} {total - lost[name]:4d} of {total}")
    for name, found in sizes.items():
        print(f"{name:12s} {np.sum(found) / 1e6:7.2f} MB of {len(found)} real files")
    print(f"{time.process_time() - seconds:.0f} s of this process")


if __name__ == "__main__":
    main()
