"""Every Triton kernel compiled ahead for devices that are not here: it compiles, fits and obeys the rules."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from maquette import plugins

pytest.importorskip("triton")

CODE = """
import json, sys
from maquette_kernels.compiled_code import compile_operation
names, targets = sys.argv[1].split(","), tuple(sys.argv[2].split(","))
print(json.dumps([fact for name in names for fact in compile_operation(name, targets)]))
"""
REGISTERED = [entry.name for entry in plugins.registry("kernels")]


def compiled(names: list[str], targets: str, cache: Path) -> list[dict[str, Any]]:
    """In a process without the interpreter, whose kernels the compiler does not know."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TRITON_CACHE_DIR": str(cache)}
    for name in ("TRITON_INTERPRET", "MAQUETTE_KERNELS"):
        environment.pop(name, None)
    command = [sys.executable, "-c", CODE, ",".join(names), targets]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    facts: list[dict[str, Any]] = json.loads(done.stdout)
    return facts


def examine(facts: list[dict[str, Any]], names: list[str]) -> None:
    assert {fact["kernel"].split(".")[0] for fact in facts} == set(names)
    assert [(f["kernel"], f["target"], f["wrong"]) for f in facts if f["wrong"]] == []


@pytest.mark.parametrize(
    "target", ["sm_90", *(pytest.param(t, marks=pytest.mark.kernels_deep) for t in ("sm_80", "sm_100", "gfx942"))]
)
def test_every_kernel_compiles(target: str, tmp_path: Path) -> None:
    processors = os.cpu_count() or 1
    shares = [REGISTERED[first::processors] for first in range(processors) if REGISTERED[first::processors]]
    with ThreadPoolExecutor(processors) as pool:
        for names, facts in zip(shares, pool.map(lambda share: compiled(share, target, tmp_path), shares), strict=True):
            examine(facts, names)
