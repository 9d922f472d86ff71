"""`maquette launch`: several processes, one line for a mistake, restarts, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch.distributed.elastic.rendezvous import RendezvousConnectionError

from maquette.cli.worker import work
from maquette.config import load_run_config
from maquette.errors import MaquetteError
from maquette.forensics.collectives import record_flights
from maquette.launching import launch as launching
from maquette.launching.environment import worker_environment
from maquette.launching.failure import Failure, read_report, root_cause
from maquette.launching.job import Job
from maquette.launching.launch import Placement
from maquette.launching.outcome import MISTAKE, TRACEBACK
from maquette.runner import train
from maquette.testing import run_ranks
from tests.core.launched import TIMEOUT, TOY, wait_for_a_checkpoint, worker


def words(folder, *more):
    blocks = ["data.name=toy", "model.name=toy", "model.width=${facts:width}", "objective.name=toy"]
    return ["train", *blocks, "strategy.name=ddp", "loggers=[]", "train.threads=1", f"folder={folder}", *more]


def train_without_a_launcher(arguments):
    train(load_run_config(None, [f"plugins=[{TOY}]", *arguments]))


def start(*arguments, nproc=2):
    command = [sys.executable, "-m", "maquette.cli", "launch", "--nproc", str(nproc), "--plugin", str(TOY)]
    return subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    out, error = process.communicate(timeout=TIMEOUT)
    return process.returncode, out, error


def running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def final_tensors(folder):
    newest = max((folder / "checkpoints").glob("step_*"))
    files = sorted(newest.glob("*.safetensors"))
    return newest.name, {f"{file.name}/{k}": v for file in files for k, v in load_file(file).items()}


def test_a_lost_worker_costs_one_line_and_the_run_ends_bit_identical(tmp_path):
    more = ("train.steps=150", "train.checkpoint_every=15", "train.validate_every=0")
    process = start(*words(tmp_path / "killed", *more))
    wait_for_a_checkpoint(process, tmp_path / "killed")
    os.kill(worker(process, 1), signal.SIGKILL)
    code, _, error = finish(process)
    assert code == 0, error
    lines = [line for line in error.splitlines() if line.startswith("maquette:")]
    assert len(lines) == 1 and "rank 1 (pid" in lines[0] and "killed by SIGKILL; going on from step_" in lines[0]
    log = Path(lines[0].rpartition("its log: ")[2])
    assert log.is_file() and log.is_relative_to(tmp_path / "killed" / "logs")
    assert "Traceback" not in error
    starts = sorted(path.name for path in (tmp_path / "killed" / "logs" / "ranks").glob("*/attempt_*"))
    assert starts == ["attempt_0", "attempt_1"]
    run_ranks(train_without_a_launcher, 2, words(tmp_path / "whole", *more)[1:])
    (name, tensors), (other_name, others) = (final_tensors(tmp_path / run) for run in ("killed", "whole"))
    assert name == other_name and tensors.keys() == others.keys()
    assert all(tensors[key].equal(others[key]) for key in tensors)


def test_ctrl_c_reaches_all_ranks_once_and_leaves_a_checkpoint(tmp_path):
    folder = tmp_path / "a"
    more = ("train.steps=100000", "train.checkpoint_every=30", "train.validate_every=0")
    process = start(*words(folder, *more))
    wait_for_a_checkpoint(process, folder)
    process.send_signal(signal.SIGINT)
    code, _, error = finish(process)
    assert code == 130, error
    assert error.count("continue with resume=") == 1 and "Traceback" not in error
    assert not (folder / "result.json").exists()


@pytest.mark.slow
def test_one_rank_that_is_asked_to_stop_stops_all_and_nothing_starts_again(tmp_path):
    """As on a node that goes down for maintenance."""
    folder = tmp_path / "a"
    process = start(*words(folder, "train.steps=100000", "train.checkpoint_every=30", "train.validate_every=0"))
    wait_for_a_checkpoint(process, folder)
    os.kill(worker(process, 1), signal.SIGTERM)
    code, _, error = finish(process)
    assert code == 143, error
    assert "going on from" not in error and not (folder / "result.json").exists()


def test_a_mistake_that_every_rank_finds_is_one_line(tmp_path):
    code, out, error = finish(start(*words(tmp_path / "a", "model.hiden=3")))
    assert (code, out) == (1, "")
    assert error.strip().count("\n") == 0 and "unknown key 'hiden' in model 'toy'; did you mean 'hidden'?" in error
    assert not (tmp_path / "a").exists()


@pytest.mark.slow
def test_workers_save_and_end_when_their_launcher_is_killed(tmp_path):
    folder = tmp_path / "a"
    process = start(*words(folder, "train.steps=100000", "train.checkpoint_every=30", "train.validate_every=0"))
    wait_for_a_checkpoint(process, folder)
    ranks = [worker(process, rank) for rank in range(2)]
    process.kill()
    finish(process)
    until = time.monotonic() + TIMEOUT
    while any(running(pid) for pid in ranks):
        assert time.monotonic() < until, "a worker outlives its launcher"
        time.sleep(0.05)
    assert not (folder / "result.json").exists()


@pytest.mark.slow
def test_a_crash_that_comes_back_ends_with_its_traceback_once(tmp_path):
    plugin = tmp_path / "crashing.py"
    plugin.write_text(
        "from maquette import hookimpl\n\n"
        "class Crashing:\n"
        "    '''Never built.'''\n"
        "    def __init__(self, config):\n"
        "        raise ZeroDivisionError('on purpose')\n\n"
        "@hookimpl\n"
        "def register_objectives(register):\n"
        "    from dataclasses import make_dataclass\n"
        "    register('crashing', make_dataclass('Nothing', []), Crashing)\n"
    )
    run = words(tmp_path / "a", "objective.name=crashing")
    code, _, error = finish(start("--plugin", str(plugin), "--restarts", "1", *run, nproc=1))
    assert code == 1
    assert error.count("ZeroDivisionError: on purpose; going on from the beginning (restart 1") == 1
    assert error.count("Traceback") == 1 and "no restart is left" in error.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "unknown command 'trian'; did you mean 'train'"),
        (["train", "nowhere.yaml"], "'nowhere.yaml' does not exist"),
        (["train", "train.stepz=3"], "unknown key 'stepz' in the config, at train"),
        (["train", "--nproc"], "--nproc"),
        (["--nproc", "many", "train"], "--nproc is 'many'; it must be a number or auto"),
        (["--nproc", "0", "train"], "must be at least 1"),
        (["--nodes", "2:1", "--rendezvous", "a:1", "train"], "must be at least 1"),
        (["--nodes", "2", "train"], "several nodes need --rendezvous HOST:PORT"),
        (["--nodes", "2", "--rendezvous", "head", "train"], "'head' is not HOST:PORT"),
        (["finetune"], "give the run to start from"),
    ],
)
def test_words_that_cannot_be_are_refused_before_anything_starts(arguments, message, tmp_path, monkeypatch, capsys):
    from maquette.cli import run
    from maquette.cli.launching import launch

    monkeypatch.chdir(tmp_path)
    assert run(launch, arguments, standalone_mode=False) in (1, 2)
    error = capsys.readouterr().err
    assert message in error and error.strip().count("\n") == 0
    assert not list(tmp_path.iterdir())


def test_a_run_that_exists_is_not_continued_unasked(tmp_path):
    (tmp_path / "a" / "checkpoints" / "step_00000010").mkdir(parents=True)
    plain = Job("train", (f"folder={tmp_path / 'a'}",))
    with pytest.raises(MaquetteError, match="already holds a run; continue it with resume=auto"):
        plain.check(plain.folder())
    asked = Job("train", (f"folder={tmp_path / 'a'}", "resume=auto"))
    asked.check(asked.folder())
    assert asked.folder() == tmp_path / "a" and asked.arguments().count("resume=auto") == 1
    assert Job("train", (f"resume={tmp_path / 'a'}",)).folder() == tmp_path / "a"
    # A restart must continue, whichever node it starts on: so every worker is told the same from the first start on.
    assert plain.arguments()[-1] == "resume=auto"
    assert Job("plugins", ()).arguments() == ("plugins",) and Job("plugins").folder() is None


def test_the_root_cause_comes_before_what_follows_from_it():
    lost = Failure(1, 11, -signal.SIGKILL, 100.0)
    followed = Failure(0, 10, 1, 99.5, "RuntimeError: Connection reset by peer")
    told = Failure(2, 12, -signal.SIGTERM, 99.0)
    assert root_cause([followed, lost, told]) is lost
    assert str(lost) == "rank 1 (pid 11) was killed by SIGKILL"
    # One that had to be killed half a minute later was only stuck in a collective.
    late = Failure(3, 13, -signal.SIGKILL, 130.0)
    assert root_cause([followed, late]) is followed
    mistake = Failure(4, 14, MISTAKE, 100.0, "unknown key")
    assert root_cause([followed, mistake]) is mistake and mistake.final and not lost.final
    assert Failure(0, 1, 143, 0.0).final and Failure(0, 1, 130, 0.0).asked


@given(st.permutations(range(4)))
def test_the_root_cause_does_not_depend_on_the_order_of_discovery(order):
    codes = [1, -signal.SIGSEGV, -signal.SIGTERM, MISTAKE]
    failures = [Failure(rank, rank, codes[rank], 10.0 + rank) for rank in order]
    assert root_cause(failures).rank == 1


def test_a_worker_tells_its_end_to_the_launcher_alone(tmp_path, monkeypatch, capsys):
    file = tmp_path / "error.json"
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(file))
    assert work(["train", "train.stepz=1"]) == MISTAKE
    message, when = read_report(str(file))
    assert "did you mean 'steps'" in message and abs(when - time.time()) < 60
    assert capsys.readouterr().err == "" and not (tmp_path / TRACEBACK).exists()
    assert json.loads(file.read_text()).keys() == {"message", "timestamp"}  # what torch elastic reads
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE")
    assert work(["show", "no_such_kind"]) == MISTAKE
    assert capsys.readouterr().err.startswith("maquette: ")
    assert read_report(str(tmp_path / "none")) == ("", None)


def test_the_environment_of_workers_yields_to_the_users(tmp_path, monkeypatch):
    own = worker_environment(2, {})
    assert own["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] == "1" and int(own["OMP_NUM_THREADS"]) >= 1
    assert int(worker_environment(10**6, {})["OMP_NUM_THREADS"]) == 1
    assert "OMP_NUM_THREADS" not in worker_environment(2, {"OMP_NUM_THREADS": "7"})
    # Where the flight recorder writes is the run's folder: the environment of its workers must not say otherwise first.
    monkeypatch.delenv("TORCH_FR_DUMP_TEMP_FILE", raising=False)
    monkeypatch.setattr(os, "environ", {**os.environ, **own})
    record_flights(tmp_path)
    assert os.environ["TORCH_FR_DUMP_TEMP_FILE"] == str(tmp_path / "flights" / "rank_")
    assert int(os.environ["TORCH_FR_BUFFER_SIZE"]) > 0


def test_nodes_that_cannot_be_reached_leave_nothing_behind(tmp_path, monkeypatch):
    def unreachable(meeting):
        raise RendezvousConnectionError("refused")

    monkeypatch.setattr(launching, "get_rendezvous_handler", unreachable)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = dict(os.environ)
    with pytest.raises(MaquetteError, match="cannot reach head:1"):
        launching.launch(Job("doctor"), Placement(nodes=(2, 2), rendezvous="head:1"))
    assert not list(tmp_path.iterdir()) and dict(os.environ) == before


@pytest.mark.parametrize("place", [{"processes": 0}, {"restarts": -1}, {"nodes": (0, 1)}, {"grace": 0}])
def test_placements_that_cannot_be_are_refused(place):
    with pytest.raises(MaquetteError, match="at least 1"):
        Placement(**place).check()


FAKE_SLURM = {
    "scontrol": 'case $1 in show) echo node7; echo node8;; requeue) echo "$2" > requeued;; esac',
    "scancel": 'echo "$@" > cancelled; kill -TERM "$(cat launcher)"',
    "srun": (
        "echo \"$@\" > launched; trap 'exit 143' TERM; echo $$ > launcher.new; mv launcher.new launcher; "
        "for _ in $(seq 600); do sleep .05; done"
    ),
}


@pytest.mark.parametrize("how", ["time limit", "finished"])
def test_the_slurm_script_saves_and_requeues_before_its_time_is_up(tmp_path, how):
    """With stand-ins for Slurm's commands."""
    for name, body in FAKE_SLURM.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{body if how != 'finished' or name != 'srun' else 'exit 3'}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"SLURM_JOB_ID": "77", "SLURM_JOB_NODELIST": "node[7-8]", "SLURM_JOB_NUM_NODES": "2"}
    environment = {**os.environ, **slurm, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = Path(__file__).parents[2] / "examples" / "slurm" / "train.sbatch"
    job = subprocess.Popen(["bash", str(script), "a.yaml", "train.steps=5"], cwd=tmp_path, env=environment)
    if how == "finished":
        assert job.wait(TIMEOUT) == 3 and not (tmp_path / "requeued").exists()
        return
    until = time.monotonic() + TIMEOUT
    while not (tmp_path / "launcher").exists() and time.monotonic() < until:
        time.sleep(0.02)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(TIMEOUT) == 0
    assert (tmp_path / "requeued").read_text() == "77\n"
    assert (tmp_path / "cancelled").read_text() == "--signal=TERM 77.0\n"
    launched = (tmp_path / "launched").read_text()
    assert "--nodes 2 --rendezvous node7:20077" in launched and launched.endswith(
        "train a.yaml train.steps=5 resume=auto\n"
    )


@pytest.mark.slow
def test_two_nodes_meet_and_plain_torchrun_does_the_same(tmp_path):
    """Two launchers on one machine stand for two nodes."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        meeting = f"127.0.0.1:{probe.getsockname()[1]}"
    run = words(tmp_path / "nodes", "train.steps=20")
    nodes = [start("--nodes", "2", "--rendezvous", meeting, *run, nproc=1) for _ in range(2)]
    assert [finish(node)[0] for node in nodes] == [0, 0]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run = words(tmp_path / "torchrun", "train.steps=20")
    done = subprocess.run(
        [*command, "-m", "maquette.cli", "--plugin", str(TOY), *run], capture_output=True, timeout=TIMEOUT, check=False
    )
    assert done.returncode == 0, done.stderr
    (name, tensors), (other_name, others) = (final_tensors(tmp_path / run) for run in ("nodes", "torchrun"))
    assert name == other_name and all(tensors[key].equal(others[key]) for key in tensors)
