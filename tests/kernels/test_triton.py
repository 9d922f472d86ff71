"""Triton kernels without a GPU: interpreted on the CPU, and compiled for sm_90. Each in a child process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton")
CHILD = Path(__file__).with_name("triton_child.py")
SHARED_MEMORY_OF_SM_90 = 227 * 1024


def child(*arguments: str, interpret: bool) -> Any:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TRITON_DEFAULT_FP_FUSION": "1"}
    environment.pop("TRITON_INTERPRET", None)
    environment.pop("MAQUETTE_KERNELS", None)
    if interpret:
        environment["TRITON_INTERPRET"] = "1"
    done = subprocess.run(
        [sys.executable, str(CHILD), *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_interpreted_kernels_hold() -> None:
    cases = child("properties", interpret=True)
    assert cases == {"qk_norm_rope": {"triton": 40}, "gated_norm_modulate": {"triton": 40}}


def test_planted_faults_are_caught(tmp_path: Path) -> None:
    verdicts = child("faults", str(tmp_path), interpret=True)
    assert len(verdicts) >= 7
    assert [label for label, verdict in verdicts.items() if verdict == "missed"] == []


def test_kernels_compile_for_hopper_without_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    facts = child("compile", interpret=False)
    assert len(facts) == 6
    for fact in facts:
        assert fact["shared"] <= SHARED_MEMORY_OF_SM_90, fact
        assert fact["atomics"] == 0, fact
        assert fact["imprecise"] == 0, fact
        assert fact["wide"] > 0 or "sum_kernel" in fact["kernel"], fact
