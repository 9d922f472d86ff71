"""The launcher's eye on its workers: a hang is reported, ended and told apart from what only takes its time."""

from __future__ import annotations

import errno
import json
import os
import signal
import struct
import subprocess
import time
from types import SimpleNamespace

import pytest
from torch.distributed.elastic.agent.server.api import RunResult, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent

from maquette.forensics import processes, watchdog
from maquette.forensics.collectives import flight_file
from maquette.forensics.incidents import incidents
from maquette.forensics.pulse import BEAT, LAYOUT, LIMIT, MOVED, PHASE, sign_file
from maquette.forensics.stacks import stacks_file
from maquette.forensics.watchdog import Watchdog
from maquette.launching.aftermath import Aftermath
from maquette.launching.agent import Agent
from maquette.launching.failure import Failure


class Workers:
    """Sleeping processes with signs of life that a test sets, and a watchdog with a clock of its own."""

    def __init__(self, folder):
        self.folder, self.now = folder, 1000.0
        folder.mkdir()
        self.processes = [subprocess.Popen(["sleep", "600"]) for _ in range(2)]
        self.pids = {rank: process.pid for rank, process in enumerate(self.processes)}
        self.dog = Watchdog(folder, folder / "run", clock=lambda: self.now)
        for rank, pid in self.pids.items():
            sign_file(folder, rank).write_bytes(LAYOUT.pack(pid, 0, 0, 60, 60, 7, 0, b"train"))
            flight_file(folder, rank).write_text("{}")
            stacks_file(folder, rank).touch()
            self.tell(rank)

    def tell(self, rank, phase=b"train", moved=None, limit=60.0):
        form = {PHASE: "24s", MOVED: "@d", LIMIT: "@d", BEAT: "@d"}
        values = {PHASE: phase, MOVED: self.now if moved is None else moved, LIMIT: limit, BEAT: self.now}
        content = bytearray(sign_file(self.folder, rank).read_bytes())
        for place, value in values.items():
            struct.pack_into(form[place], content, place, value)
        sign_file(self.folder, rank).write_bytes(content)

    def pass_time(self, seconds, keep=()):
        """Looks once a second; ranks in ``keep`` tell that they get on."""
        ends = False
        for _ in range(seconds):
            self.now += 1
            for rank in keep:
                self.tell(rank)
            ends = self.dog.look(self.pids)
        return ends

    def found(self):
        return [path.name for path in incidents(self.folder / "run")]


@pytest.fixture
def workers(tmp_path, monkeypatch):
    monkeypatch.setattr(watchdog, "ANSWER_SECONDS", 0.0)
    monkeypatch.setattr(watchdog, "ask_for_stacks", lambda pid: None)
    made = Workers(tmp_path / "watched")
    yield made
    for process in made.processes:
        process.kill()
        process.wait()


def test_a_silent_worker_is_reported_at_its_limit_and_ended_at_one_and_a_half(workers, capsys):
    assert not workers.pass_time(59, keep=[0]) and not workers.found()
    assert not workers.pass_time(3, keep=[0]) and len(workers.found()) == 1
    said = capsys.readouterr().err
    assert said.count("maquette: a hang: rank 1 (pid") == 1 and "summary.txt" in said
    assert not workers.pass_time(20, keep=[0]) and len(workers.found()) == 1
    assert workers.pass_time(10, keep=[0])
    workers.dog.end()
    assert [process.wait(20) for process in workers.processes] == [-signal.SIGKILL] * 2
    workers.pass_time(3)  # the launcher may look again before it has noticed
    assert workers.dog.verdict.culprits == (1,)
    workers.pids = {0: os.getpid()}
    workers.pass_time(1)
    assert workers.dog.verdict is None


def test_a_worker_that_gets_on_again_is_let_alone(workers, capsys):
    workers.pass_time(62, keep=[0])
    assert not workers.pass_time(60, keep=[0, 1]) and workers.dog.verdict is None
    assert "get on again" in capsys.readouterr().err
    [folder] = incidents(workers.folder / "run")
    assert "got on again by themselves" in (folder / "summary.txt").read_text()


@pytest.mark.parametrize("phase", [b"start", b"save", b"compile", b"restore", b"report", b"finish"])
def test_who_waits_for_one_that_saves_or_compiles_does_not_hang(workers, phase):
    workers.tell(0, phase, limit=1800)
    for _ in range(30):
        assert not workers.pass_time(10)
    assert not workers.found()
    assert not workers.pass_time(1400)
    workers.pass_time(200)  # but it may not take for ever
    assert len(workers.found()) == 1


def test_a_launcher_that_was_stopped_itself_does_not_blame_its_workers(workers):
    workers.pass_time(5, keep=[0, 1])
    workers.now += 3600
    assert not workers.pass_time(1) and not workers.pass_time(30) and not workers.found()


def test_a_stopped_process_is_reported_in_every_phase_and_a_debugged_or_ended_one_never(workers, monkeypatch):
    workers.tell(0, b"start", limit=1800)
    workers.tell(1, b"start", limit=1800)
    os.kill(workers.pids[1], signal.SIGSTOP)
    while processes.state(workers.pids[1]) != processes.STOPPED:
        time.sleep(0.01)
    workers.pass_time(62)
    [folder] = incidents(workers.folder / "run")
    found = json.loads((folder / "incident.json").read_text())
    assert found["culprits"] == [1] and "is stopped (SIGSTOP)" in found["line"]
    monkeypatch.setattr(watchdog, "state", lambda pid: processes.TRACED)
    assert not workers.pass_time(7200)


def test_a_report_that_takes_long_does_not_hide_the_hang(workers, monkeypatch):
    real = watchdog.record

    def slow(*given):
        workers.now += 4 * watchdog.AWAY_SECONDS
        return real(*given)

    monkeypatch.setattr(watchdog, "record", slow)
    workers.pass_time(62, keep=[0])
    assert len(workers.found()) == 1 and workers.pass_time(30, keep=[0]) and len(workers.found()) == 1


def test_a_debugger_on_one_worker_makes_the_others_wait(workers, monkeypatch):
    real = watchdog.state
    monkeypatch.setattr(watchdog, "state", lambda pid: processes.TRACED if pid == workers.pids[0] else real(pid))
    assert not workers.pass_time(300) and not workers.found()


def test_a_finished_worker_that_beats_no_more_is_not_to_blame(workers):
    workers.tell(0, b"end", limit=0.0)
    workers.pass_time(62)
    [folder] = incidents(workers.folder / "run")
    assert json.loads((folder / "incident.json").read_text())["culprits"] == [1]
    rows = (folder / "summary.txt").read_text().splitlines()
    assert ["its threads do not run" in row for row in rows if row.startswith("rank ")] == [False, True]


def test_a_full_disk_keeps_nobody_from_ending_a_hang(workers, monkeypatch, capsys):
    def full(*given):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(watchdog, "record", full)
    assert workers.pass_time(95, keep=[0])
    assert capsys.readouterr().err.count("maquette: a hang: rank 1 (pid") == 1
    workers.dog.end()
    lost = Failure(1, workers.pids[1], -signal.SIGKILL, 100.0)
    told = Aftermath(workers.dog, workers.folder / "run").explain([lost], 2)
    assert str(told).startswith("a hang: rank 1") and told.incident == ""


def test_only_a_training_is_watched(monkeypatch):
    """A command of another kind gives no sign of life, and may take as long as it likes."""
    monkeypatch.setattr(LocalElasticAgent, "_monitor_workers", lambda self, group: RunResult(WorkerState.HEALTHY))
    looked = []
    dog = SimpleNamespace(look=looked.append)
    agent = object.__new__(Agent)
    group = SimpleNamespace(workers=[SimpleNamespace(global_rank=0, id=os.getpid())])
    for run in (None, "run"):
        agent.aftermath = SimpleNamespace(run=run, watchdog=dog)
        agent._monitor_workers(group)
    assert looked == [{0: os.getpid()}]
