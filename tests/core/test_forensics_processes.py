"""Launched runs that hang, crash or get no memory: the launcher names the rank and what it waits for, and goes on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from maquette.forensics.incidents import incidents
from tests.core.launched import TOY, wait_for_a_checkpoint, worker

HERE = Path(__file__).parent
PATIENCE = 400
BLOCKS = (
    "data.name=stuck",
    "model.name=toy",
    "model.width=${facts:width}",
    "objective.name=stuck",
    "strategy.name=ddp",
)
SHORT = ("train.steps=60", "train.checkpoint_every=10", "train.validate_every=0", "train.threads=1", "loggers=[csv]")


def start(folder, *words, nproc=2, **settings):
    plugins = [part for file in (TOY, HERE / "stuck_plugin.py") for part in ("--plugin", str(file))]
    command = [
        sys.executable,
        "-m",
        "maquette.cli",
        "launch",
        "--nproc",
        str(nproc),
        *plugins,
        "train",
    ]
    return subprocess.Popen(
        [*command, *BLOCKS, *SHORT, f"folder={folder}", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        **settings,
    )


def finish(process):
    error = process.communicate(timeout=PATIENCE)[1]
    return process.returncode, [line for line in error.splitlines() if line.startswith("maquette:")], error


def only_incident(folder):
    [found] = incidents(folder)
    return found, json.loads((found / "incident.json").read_text()), (found / "summary.txt").read_text()


def test_a_stopped_rank_is_reported_in_time_and_the_run_goes_on_without_it(tmp_path):
    folder = tmp_path / "a"
    process = start(folder, "train.steps=100000", "train.checkpoint_every=50", "monitor.hang_seconds=4")
    wait_for_a_checkpoint(process, folder)
    pid = worker(process, 1)
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    while not list(incidents(folder)) and time.monotonic() < began + PATIENCE:
        time.sleep(0.05)
    took = time.monotonic() - began
    while len(list((folder / "logs" / "ranks").glob("*/attempt_*"))) < 2 and time.monotonic() < began + PATIENCE:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    code, lines, error = finish(process)
    # Its limit is 4 s, or 5 times the slowest step where the machine is busy; the report itself may take 5 s.
    found, facts, summary = only_incident(folder)
    assert took < 60 and facts["kind"] == "hang" and facts["culprits"] == [1], error
    assert f"rank 1 (pid {pid}) is stopped (SIGSTOP)" in lines[0]
    # In which of a step's collectives the other one waits is chance.
    assert re.search(r"rank 0 waits in \w+ of \w+ \[.*\], number \d+", lines[0])
    assert "going on from step_" in lines[1] and "Traceback" not in error
    assert "the workers were killed" in summary
    assert "session.py" in (found / "stacks.rank0.txt").read_text() and (found / "flight.rank0.json").is_file()
    assert code in (130, 143)


HANGS = {
    "sleep": (["objective.fault=sleep"], [1], ("has not come to", "all_reduce", "sleep (", "stuck_plugin.py")),
    "interpreter": (["objective.fault=hold_the_interpreter"], [1], ("holds the interpreter", "stuck_plugin.py")),
    "skip": (["objective.fault=skip"], None, ("ranks differ in collective", "rank 0: broadcast of Float [3, 5]")),
    "loader": (["data.stuck_at=20"], [1], ("has not come to", "train_dataloader", "stuck_plugin.py")),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HANGS)
def test_a_hang_names_the_rank_and_the_collective_and_the_run_is_finished_after_a_restart(name, tmp_path):
    words, culprits, said = HANGS[name]
    folder = tmp_path / "a"
    code, lines, error = finish(start(folder, "objective.at=25", "monitor.hang_seconds=5", *words))
    found, facts, _ = only_incident(folder)
    assert all(part in lines[0] for part in said), error
    assert culprits is None or facts["culprits"] == culprits
    assert (found / "stacks.rank0.txt").is_file() and (found / "stacks.rank1.txt").is_file()
    assert len(lines) == 2 and "Traceback" not in error
    assert code == 0 and "going on from step_" in lines[1], error


CRASHES = {
    "segfault": ("killed by SIGSEGV", "output.rank1.txt", "Fatal Python error: Segmentation fault"),
    "crash": ("ZeroDivisionError: on purpose", "traceback.rank1.txt", "ZeroDivisionError: on purpose"),
    "killed": ("killed by SIGKILL", "summary.txt", "after step"),
}


@pytest.mark.slow
@pytest.mark.parametrize("fault", CRASHES)
def test_a_crash_leaves_its_stacks_its_last_step_and_its_cause(fault, tmp_path):
    line, file, said = CRASHES[fault]
    code, lines, error = finish(start(tmp_path / "a", f"objective.fault={fault}", "objective.at=25"))
    found, facts, summary = only_incident(tmp_path / "a")
    assert code == 0 and len(lines) == 1 and line in lines[0] and str(found) in lines[0], error
    assert facts["kind"] == "crash" and facts["rank"] == 1 and said in (found / file).read_text()
    assert "in train, after step 24" in summary and "train/loss" in summary


@pytest.mark.slow
def test_on_gloo_different_sizes_are_a_crash_with_its_last_words(tmp_path):
    code, lines, error = finish(start(tmp_path / "a", "objective.fault=mismatch", "objective.at=25"))
    assert code == 0 and len(lines) == 1 and only_incident(tmp_path / "a")[1]["kind"] == "crash", error
    assert "killed by SIGABRT" in lines[0] and "collective mismatch" in lines[0]


@pytest.mark.slow
def test_a_lack_of_memory_is_one_message_and_not_tried_again_in_vain(tmp_path):
    words = ("objective.fault=fill", "objective.at=5", "model.name=toy")
    code, lines, error = finish(start(tmp_path / "a", *words))
    found, facts, _ = only_incident(tmp_path / "a")
    assert code == 1 and len(lines) == 1 and "Traceback" not in error and "no restart" not in error
    assert "out of memory in the forward pass, after step 4 (rank 1)" in lines[0]
    assert facts["kind"] == "out_of_memory" and facts["ranks"] == [1]
    report = (found / "out_of_memory.rank1.txt").read_text()
    assert "8,000,012       1  float32[2000003]" in report and "model conv.weight" in report


@pytest.mark.slow
def test_a_limit_on_memory_gives_the_settings_that_would_fit(tmp_path):
    """A child with RLIMIT_AS trains a transformer that needs more."""
    child = (
        "import resource, sys\n"
        "from maquette.cli import cli, run\n"
        "import maquette.planning.report, maquette.runner\n"
        "now = int(open('/proc/self/statm').read().split()[0]) * 4096\n"
        "resource.setrlimit(resource.RLIMIT_AS, (now + 1200 * 2**20, resource.RLIM_INFINITY))\n"
        "sys.exit(run(cli, sys.argv[1:], standalone_mode=False))\n"
    )
    words = ["data.name=tiny", "data.batch_size=4096", "model.name=tiny", "model.width=256", "model.depth=8"]
    words += ["objective.name=tiny", "train.steps=3", "train.threads=1", f"folder={tmp_path / 'a'}"]
    command = [sys.executable, "-c", child, "--plugin", str(HERE / "tiny_plugin.py"), "train", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    message = [line for line in done.stderr.splitlines() if line.startswith("maquette:")]
    assert done.returncode == 71 and len(message) == 1 and "Traceback" not in done.stderr, done.stderr
    assert "out of memory in" in message[0] and "train.activation_checkpointing=full (" in message[0]
    _, facts, summary = only_incident(tmp_path / "a")
    assert facts["kind"] == "out_of_memory" and "planned peak of a process:" in summary


@pytest.mark.slow
def test_a_clean_run_with_long_validations_and_saves_raises_no_alarm(tmp_path):
    words = ("train.steps=400", "train.validate_every=100", "data.slow_validation=4", "monitor.hang_seconds=2")
    code, lines, error = finish(start(tmp_path / "a", *words))
    assert code == 0 and not lines and not list(incidents(tmp_path / "a")), error
