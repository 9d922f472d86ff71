"""Damaged files of every format: only maquette's own error comes out, no memory beyond the limit, nothing hangs.

The short form runs with the ordinary tests. The long one: `pytest -m slow tests/security/test_fuzz.py -s`; its figures
are in docs/security.md.
"""

import collections
import importlib.util
import json
import os
import subprocess
import sys
import time

import pytest

SHORT, LONG = range(100_000, 100_300), range(24_000)


def run_cases(numbers, folder):
    """What came of each case; a process that is killed by one is replaced, and that case is told."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    first, found = numbers.start, []
    while first < numbers.stop:
        command = [sys.executable, "-m", "tests.security.fuzz_child", str(first), str(numbers.stop), str(folder)]
        with (folder / "errors").open("wb") as errors:
            ended = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=errors, check=False)
        found += [json.loads(line) for line in ended.stdout.splitlines()]
        first = found[-1][0] + 1 if found else first
        if ended.returncode:
            assert found, (folder / "errors").read_text()[-2000:]
            found.append([first, "?", f"killed: code {ended.returncode}", 0.0, 0])
            first += 1
    return found


def check(found, numbers):
    assert [case[0] for case in found] == list(numbers)
    wrong = [case for case in found if not case[2].startswith(("read", "refused"))]
    assert not wrong, wrong[:10]
    assert not [case for case in found if case[2] == "refused: memory"]


def test_some_hundred_damaged_files(tmp_path):
    pytest.importorskip("ufbx")
    found = run_cases(SHORT, tmp_path)
    check(found, SHORT)
    assert 0.02 < sum(case[2] == "read" for case in found) / len(found) < 0.9


@pytest.mark.slow
def test_twenty_four_thousand_damaged_files(tmp_path):
    pytest.importorskip("ufbx")
    begun = time.monotonic()
    found = run_cases(LONG, tmp_path)
    by_format = collections.defaultdict(collections.Counter)
    for _, kind, outcome, _, _ in found:
        by_format[kind]["read" if outcome == "read" else outcome.partition(":")[0]] += 1
    slowest, peak = max(case[3] for case in found), max(case[4] for case in found)
    lines = [f"{len(found)} cases, {time.monotonic() - begun:.0f} s, slowest {slowest:.2f} s of CPU, peak {peak} MiB"]
    lines += [f"{kind:24} {dict(outcomes)}" for kind, outcomes in sorted(by_format.items())]
    sys.stderr.write("\n".join(["", *lines, ""]))
    check(found, LONG)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="pip install atheris")
def test_a_bounded_run_of_atheris(tmp_path):
    command = [sys.executable, "-m", "tests.security.atheris_child", str(tmp_path), "-atheris_runs=20000",
               "-max_total_time=120", "-timeout=20", "-rss_limit_mb=3000", "-seed=1"]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=tmp_path)
    sys.stderr.write(ended.stderr[-1500:])
    assert ended.returncode == 0, ended.stderr[-3000:]
