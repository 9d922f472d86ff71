"""Plants realistic faults in copies of the kernels and tells which of them the properties catch.

``python tests/kernels/seed_faults.py [--family sparse] [--jobs 2] [--examples 25]`` copies the package for each
fault of ``planted_faults/*.toml``, changes one piece of its source, and holds the operation to its properties in a
process of its own. A fault that crashes the process counts as caught. Exits with 1 where more than one in twenty
is missed.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import maquette_kernels

FAULTS = Path(__file__).with_name("planted_faults")
PACKAGE = Path(maquette_kernels.__file__).parent
TOLERATED = 0.05

CHECK = """
import sys
from maquette_kernels.testing import check_registered
name, implementation, examples = sys.argv[1:]
try:
    report = check_registered(name, implementations=[implementation], examples=int(examples), whole=False)
except AssertionError as error:
    print(error)
    sys.exit(3)
sys.exit(0 if report.cases else 4)
"""
MISSED, CAUGHT = 0, 3


@dataclass(frozen=True)
class Fault:
    """One change to the source of one operation's implementation."""

    family: str
    label: str
    operation: str
    implementation: str
    file: str
    old: str
    new: str


def faults(family: str | None = None) -> Iterator[Fault]:
    """The faults of a family, or all."""
    for path in sorted(FAULTS.glob(f"{family or '*'}.toml")):
        for fields in tomllib.loads(path.read_text())["fault"]:
            yield Fault(path.stem, **fields)


def verdict(fault: Fault, examples: int) -> str:
    """``caught``, ``missed``, or what kept it from being planted."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / PACKAGE.name
        shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        file = copy / fault.file
        source = file.read_text()
        if fault.old not in source:
            return f"not planted: its text is no longer in {fault.file}"
        file.write_text(source.replace(fault.old, fault.new))
        environment = {**os.environ, "PYTHONPATH": folder, "OMP_NUM_THREADS": "1", "TRITON_INTERPRET": "1"}
        done = subprocess.run(
            [sys.executable, "-c", CHECK, fault.operation, fault.implementation, str(examples)],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode == MISSED:
        return "missed"
    if done.returncode == CAUGHT or done.returncode < 0:
        return "caught"
    return f"not examined: {done.stderr.strip().splitlines()[-1] if done.stderr.strip() else done.returncode}"


def main() -> None:
    """Print one line a fault, then the count."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--examples", type=int, default=25)
    options = parser.parse_args()
    planted = list(faults(options.family))
    verdicts = []
    with ThreadPoolExecutor(options.jobs) as pool:
        found = pool.map(lambda fault: verdict(fault, options.examples), planted)
        for fault, answer in zip(planted, found, strict=True):
            verdicts.append(answer)
            where = f"{fault.family}: {fault.operation} ({fault.implementation})"
            sys.stdout.write(f"{answer:8s} {where}: {fault.label}\n")
            sys.stdout.flush()
    caught = verdicts.count("caught")
    sys.stdout.write(f"{caught} of {len(planted)} caught\n")
    sys.exit(0 if planted and len(planted) - caught <= TOLERATED * len(planted) else 1)


if __name__ == "__main__":
    main()
