"""The monitor says where the time goes and what the machine does, names the rank that is slow, and no other."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from maquette.config import MonitorConfig
from maquette.errors import MaquetteError
from maquette.forensics import incidents
from maquette.hardware.host import Host
from maquette.hardware.nvml import Nvml
from maquette.monitoring.collective_waits import CollectiveWaits
from maquette.monitoring.exposition import MachineExposition
from maquette.monitoring.journal import Journal, journal_file, last_records, read_journal
from maquette.monitoring.machine import Machine
from maquette.monitoring.metrics import ALIASES, ENGINES, GPU, HOST, LABELLED, STEPS, TRAINING
from maquette.monitoring.monitor import Monitor, Who
from maquette.monitoring.step_clock import StepClock
from maquette.monitoring.stragglers import StragglerScores
from maquette.monitoring.view import view_run
from maquette.report import Report, write_report
from maquette.testing import FakeGpu, FakeNvml, run_ranks

DASHBOARD = Path(__file__).parents[2] / "docs" / "grafana" / "maquette.json"


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@given(st.lists(st.tuples(*[st.floats(0, 10)] * 4), min_size=1, max_size=20))
def test_every_second_is_data_computing_communication_or_a_pause(steps):
    clock, communicated = Clock(), [0.0]
    meter = StepClock(clock, lambda: communicated[0])

    def batches():
        for data, *_ in steps:
            clock.now += data
            yield None

    for (_, compute, communication, pause), _ in zip(steps, meter.fetching(batches()), strict=True):
        clock.now += compute + communication
        communicated[0] += communication
        with meter.pausing():
            clock.now += pause
            communicated[0] += pause / 2  # e.g. validating, which reduces too
        meter.stepped()
    for step, (data, compute, communication, _) in zip(meter.last, steps, strict=True):
        found = (step.total, step.data, step.compute, step.communication)
        assert found == pytest.approx((data + compute + communication, data, compute, communication), abs=1e-6)
    assert meter.seconds + meter.paused == pytest.approx(clock.now - 100)
    assert meter.now() == pytest.approx(meter.seconds) and len(meter.since(0)) == len(steps)
    assert meter.since(clock.now) == []


class FakeEvent:
    """A stream whose collective takes 30 ms, seen by the host later."""

    passed = False
    made = 0

    def __init__(self):
        self.at = FakeEvent.made
        FakeEvent.made += 1

    def record(self):
        pass

    def query(self):
        return FakeEvent.passed

    def elapsed_time(self, later):
        return 30.0 * (later.at - self.at)


def test_on_a_stream_the_time_between_two_events_counts_once_it_has_passed(monkeypatch):
    monkeypatch.setattr(FakeEvent, "passed", False)
    waits = CollectiveWaits(FakeEvent)
    plain = torch.distributed.Work.wait
    with waits.measuring():
        store = torch.distributed.HashStore()
        torch.distributed.init_process_group("gloo", rank=0, world_size=1, store=store)
        torch.distributed.all_reduce(torch.ones(1))
        torch.distributed.destroy_process_group()
        assert waits.seconds() == 0
        FakeEvent.passed = True
        assert waits.seconds() == pytest.approx(0.03)
    assert torch.distributed.Work.wait is plain


def waited(_):
    """Seconds in collectives of ranks of which the second comes late to each, and of FSDP with a late second rank."""
    from torch.distributed.fsdp import fully_shard

    from maquette.parallel.layout import Layout
    from maquette.parallel.mesh import Mesh

    mesh, waits = Mesh(Layout(data=2)), CollectiveWaits()
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 8))
    fully_shard(model)
    model(torch.ones(1, 8)).sum().backward()  # connects
    found = []
    with waits.measuring():
        for step in (lambda: mesh.sum(torch.ones(4)), lambda: model(torch.ones(1, 8)).sum().backward()):
            before = waits.seconds()
            for _ in range(4):
                time.sleep(0.2 * mesh.rank)
                step()
            found.append(waits.seconds() - before)
    return found


def test_the_rank_that_comes_last_waits_the_least_with_plain_sums_and_with_fsdp():
    first, second = run_ranks(waited, 2, None)
    for others, own in zip(first, second, strict=True):
        assert others > 0.6 and others > own + 0.3, (first, second)


def test_a_journal_is_bounded_and_its_torn_lines_are_passed_over(tmp_path):
    journal = Journal(tmp_path, 3, size=4000)
    for number in range(200):
        journal.write({"time": float(number), "loss": float("nan"), "number": number})
    kept = list(read_journal(journal_file(tmp_path, 3)))
    assert [record["number"] for record in kept] == list(range(200 - len(kept), 200)) and len(kept) > 40
    assert sum(path.stat().st_size for path in (tmp_path / "monitor").iterdir()) <= 4000 + 2 * 60
    assert kept[0]["loss"] == "nan"  # strict JSON has no such number
    with journal.path.open("a") as file:
        file.write('{"time": 200.0, "num')
    Journal(tmp_path, 3, size=4000).write({"time": 201.0, "number": 201})
    assert [record["number"] for record in read_journal(journal.path)][-2:] == [199, 201]
    assert [r["number"] for r in last_records(journal.path, since=197.5)] == [198, 199, 201]
    assert [r["number"] for r in last_records(journal.path)] == [201]


def test_a_journal_that_cannot_be_written_warns_once(tmp_path, capsys):
    (tmp_path / "monitor").write_text("in the way")
    journal = Journal(tmp_path, 0, size=4000)
    journal.write({"time": 1.0})
    journal.write({"time": 2.0})
    assert capsys.readouterr().err.count("no readings are written") == 1


KILLED = """
import os, sys
from pathlib import Path
from maquette.monitoring.journal import Journal
journal, number = Journal(Path(sys.argv[1]), 0, 10**8), 0
while True:
    journal.write({"time": float(number), "filling": "x" * 2000})
    number += 1
    if number == 50:
        print("on", flush=True)
"""


def test_a_kill_leaves_whole_lines(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE)
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    lines = journal_file(tmp_path, 0).read_text().splitlines()
    assert len(lines) >= 50 and [json.loads(line)["time"] for line in lines] == list(range(len(lines)))


def machine_of(*gpus, folder, **options):
    return Machine(folder, Nvml(FakeNvml(*gpus)), **options)


def test_a_machine_tells_rates_and_its_own_gpu(tmp_path):
    (tmp_path / "proc").mkdir()
    host = Host(tmp_path / "proc", tmp_path / "sys")
    clock = Clock()

    def write(busy, received):
        (tmp_path / "proc/net").mkdir(exist_ok=True)
        (tmp_path / "proc/stat").write_text(f"cpu {busy} 0 0 {1000 - busy} 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0\n")
        (tmp_path / "proc/net/dev").write_text(f"eth0: {received} 0 0 0 0 0 0 0 0 0\n")

    write(0, 0)
    (tmp_path / "proc/stat").write_text("cpu 0 0 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0\n")
    machine = machine_of(FakeGpu(uuid="GPU-a"), FakeGpu(uuid="GPU-b"), folder=tmp_path, gpu="b", host=host, clock=clock)
    clock.now += 4
    write(250, 800)
    reading = machine.read()
    assert reading.host["host_cpu"] == 0.25 and reading.host["host_network_received"] == 200
    assert reading.host["host_disk_free"] > 0 and "process_memory" not in reading.host
    assert [gpu.uuid for gpu in reading.gpus] == ["GPU-b"]


def test_what_is_wrong_with_a_gpu_is_told_once(tmp_path):
    gpu = FakeGpu(throttle=0x1 | 0x4)
    library = FakeNvml(gpu)
    machine = Machine(tmp_path, Nvml(library))
    assert machine.read().complaints == ()
    gpu.throttle, gpu.ecc = 0x40, {(1, 0): 2}
    library.tell(0, 8, 79)
    library.tell(0, 8, 31)  # a program's own mistake
    expected = ["GPU 0: 2 uncorrected memory errors", "GPU 0: throttled: hardware thermal", "GPU 0: XID 79"]
    reading = machine.read()
    assert list(reading.complaints) == expected and [event.xid for event in reading.events] == [79, 31]
    assert machine.read().complaints == ()
    gpu.errors = {"all": "GPU_IS_LOST"}
    assert machine.read().complaints == ("GPU 0: has fallen off the bus",)
    machine.close()
    assert library.opened == -1  # it was never opened here


def monitor_of(folder, *gpus, clock=None, who=None, host=None, record=None, **settings):
    clock = clock or StepClock()
    monitor = Monitor(
        folder,
        who or Who(),
        clock,
        MonitorConfig(**settings),
        machine=lambda: machine_of(*gpus, folder=folder, host=host),
        progress=lambda: ("train", clock.steps),
        record=record or (lambda kind, **facts: None),
    )
    return monitor


def trained(clock, steps=3):
    for _ in clock.fetching(range(steps)):
        clock.stepped()


def test_the_endpoint_answers_in_prometheus_own_format(tmp_path):
    gpu = FakeGpu(utilization=97, throttle=0x40, memory_used=2**30)
    monitor = monitor_of(tmp_path, gpu, port=29417, interval=0.05)
    with monitor.watching():
        trained(monitor.clock)
        monitor.note({"loss": 0.5, "grad_norm/head": 1.0})
        monitor.scores.scores = {0: 1.0, 1: 0.5}
        deadline = time.monotonic() + 20
        while "maquette_loss" not in (text := scrape(29417)) and time.monotonic() < deadline:
            time.sleep(0.05)
    samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    assert samples["maquette_steps_total"][0][1] == 3 and samples["maquette_loss"][0][1] == 0.5
    assert samples["maquette_steps_total"][0][0]["rank"] == "0"
    labels, value = samples["DCGM_FI_DEV_GPU_UTIL"][0]
    assert value == 97 and labels["modelName"] == "NVIDIA H200" and labels["gpu"] == "0"
    assert samples["DCGM_FI_DEV_FB_USED"][0][1] == 1024 and samples["maquette_gpu_memory_used"][0][1] == 2**30
    assert samples["DCGM_FI_DEV_CLOCK_THROTTLE_REASONS"][0][1] == 0x40
    assert samples["maquette_gpu_throttled"][0][0]["reason"] == "hardware_thermal"
    assert {(s["of_rank"], v) for s, v in samples["maquette_straggler_score"]} == {("0", 1.0), ("1", 0.5)}
    assert samples["maquette_warnings_total"][0] == ({**samples["maquette_step"][0][0], "kind": "gpu"}, 1.0)
    with pytest.raises(OSError):
        scrape(29417)


def test_a_server_shows_its_machine_and_its_engines_when_asked(tmp_path):
    gpu = FakeGpu(temperature=41)
    shown = MachineExposition(machine_of(gpu, folder=tmp_path), lambda: [os.getpid(), 2**30], least=1000.0)
    registry = CollectorRegistry()
    registry.register(shown)
    host = socket.gethostname()
    own = {"gpu": "0", "UUID": gpu.uuid, "modelName": gpu.name, "Hostname": host}
    assert registry.get_sample_value("maquette_gpu_temperature", own) == 41
    engine = {"host": host, "engine": "0"}
    assert registry.get_sample_value("maquette_engine_memory", engine) > 2**20
    assert registry.get_sample_value("maquette_engine_memory", engine | {"engine": "1"}) is None  # it has died
    gpu.temperature = 50
    assert registry.get_sample_value("maquette_gpu_temperature", own) == 41  # a reading is good for a while


def scrape(port):
    return urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()


def test_a_port_that_is_taken_is_a_mistake_in_one_line(tmp_path):
    with monitor_of(tmp_path, port=29418, interval=60).watching():
        with pytest.raises(MaquetteError, match="29418 cannot be listened on"):
            with monitor_of(tmp_path, port=29418, interval=60).watching():
                pass


@pytest.mark.parametrize("wrong", [{"interval": -1}, {"port": 70000}, {"journal_mb": 0}])
def test_settings_are_checked(wrong):
    with pytest.raises(ValueError, match="monitor"):
        MonitorConfig(**wrong)


def test_readings_are_written_down_and_the_last_one_says_how_it_ended(tmp_path):
    monitor = monitor_of(tmp_path, FakeGpu(power=350_000), interval=0.02)
    with pytest.raises(KeyError), monitor.watching():
        trained(monitor.clock)
        while not monitor.latest:
            time.sleep(0.01)
        raise KeyError
    records = list(read_journal(journal_file(tmp_path, 0)))
    assert records[-1]["phase"] == "failed" and records[0]["phase"] == "train"
    assert records[0]["gpus"][0]["gpu_power"] == 350 and records[0]["host_values"]["host_memory_total"] > 0
    assert sum(record["step_times"].get("count", 0) for record in records) == 3
    assert monitor.scalars()["gpu_power"] == 350


def test_a_driver_that_fails_ends_the_monitor_and_not_the_training(tmp_path, capsys):
    monitor = monitor_of(tmp_path, interval=0.01)
    monitor.machine = lambda: 1 / 0
    with monitor.watching():
        time.sleep(0.1)
    assert "cannot look at the machine" in capsys.readouterr().err


def readings(times, host="node", work=0, io=0.0):
    """A rank's records of an interval from (data, compute, communication) of each."""
    return [
        {
            "host": host,
            "work": work,
            "host_values": {"host_pressure_io": io},
            "step_times": {"count": 5, "data": d, "compute": c, "communication": m, "total": d + c + m},
        }
        for d, c, m in times
    ]


FAST, SLOW_COMPUTE, SLOW_DATA = (0.01, 1.0, 0.5), (0.01, 1.5, 0.01), (0.8, 1.0, 0.01)


def test_the_slow_rank_is_named_with_its_host_and_the_part(tmp_path):
    scores = StragglerScores()
    (found,) = scores.judge({0: readings([FAST] * 6), 1: readings([SLOW_COMPUTE] * 6, "other")})
    assert (found.rank, found.host, found.part, found.against) == (1, "other", "compute", "rank 0")
    assert found.score == pytest.approx(1.01 / 1.51, abs=1e-3) and scores.scores[0] == 1
    (found,) = scores.judge({0: readings([SLOW_DATA] * 6, io=45.0), 1: readings([FAST] * 6)})
    assert (found.rank, found.part) == (0, "data") and "disks 45 %" in found.line


def test_pipeline_stages_are_compared_among_themselves():
    heavy = (0.01, 3.0, 0.1)
    ranks = {0: readings([FAST] * 6), 1: readings([heavy] * 6, work=1), 2: readings([heavy] * 6, work=1)}
    assert StragglerScores().judge(ranks) == []


def test_a_rank_slower_than_it_was_is_told_and_a_slow_network_is_nobodys_computing():
    scores = StragglerScores()
    assert scores.judge({0: readings([FAST] * 6)}) == []
    (found,) = scores.judge({0: readings([SLOW_COMPUTE] * 6)})
    assert (found.part, found.against) == ("compute", "its own best")
    scores = StragglerScores()
    scores.judge({0: readings([FAST] * 6), 1: readings([FAST] * 6)})
    crawling = (0.01, 1.0, 2.0)
    found = scores.judge({0: readings([crawling] * 6), 1: readings([crawling] * 6)})
    assert [(s.rank, s.part) for s in found] == [(0, "communication"), (1, "communication")]


def test_waiting_for_a_straggler_is_not_the_others_fault():
    scores = StragglerScores()
    scores.judge({0: readings([FAST] * 6), 1: readings([FAST] * 6)})
    found = scores.judge({0: readings([(0.01, 1.0, 4.0)] * 6), 1: readings([(0.01, 5.0, 0.01)] * 6)})
    assert [(s.rank, s.part) for s in found] == [(1, "compute")]


noise = st.floats(0.9, 1.1)


@given(st.lists(st.tuples(noise, noise), min_size=60, max_size=60), st.sets(st.integers(0, 59), max_size=12))
def test_no_alarm_in_an_hour_with_compilations_validations_and_slow_saves(times, odd):
    """An interval's readings are five minutes' of one a minute; up to a fifth of them hold one step of another kind."""
    scores = StragglerScores()
    slow = {place // 5: place for place in odd}.values()  # one in an interval of five
    for begin in range(0, 60, 5):
        ranks = [[], []]
        for place in range(begin, begin + 5):
            for rank, rows in enumerate(ranks):
                rows.append((0.01, times[place][rank] * (20.0 if place in slow and rank == 0 else 1.0), 0.1))
        assert scores.judge({rank: readings(rows) for rank, rows in enumerate(ranks)}) == []


def test_few_readings_and_cheap_differences_say_nothing():
    assert StragglerScores().judge({0: readings([FAST] * 3), 1: readings([SLOW_COMPUTE] * 3)}) == []
    cheap = {0: readings([(0.0, 0.01, 1.0)] * 6), 1: readings([(0.0, 0.02, 1.0)] * 6)}
    assert StragglerScores().judge(cheap) == []
    assert StragglerScores().judge({0: [], 1: [{"step_times": {"count": 0}}]}) == []


def slow_rank(folder, part):
    """Two ranks that train; the second is slow in ``part``. What rank 0's monitor has recorded."""
    from maquette.parallel.layout import Layout
    from maquette.parallel.mesh import Mesh

    mesh, waits = Mesh(Layout(data=2)), CollectiveWaits()
    clock, told = StepClock(communication=waits.seconds), []
    settings = {"interval": 0.25, "straggler_interval": 2.5}
    who = Who(mesh.rank, mesh.world)
    monitor = monitor_of(
        Path(folder), clock=clock, who=who, record=lambda kind, **facts: told.append((kind, facts)), **settings
    )

    def loader():
        while True:
            time.sleep(0.2 if part == "data" and mesh.rank else 0.04)
            yield None

    over = time.monotonic() + 60
    with waits.measuring(), monitor.watching():
        for _ in clock.fetching(loader()):
            time.sleep(0.2 if part == "compute" and mesh.rank else 0.04)
            mesh.sum(torch.ones(10))
            clock.stepped()
            if mesh.any(bool(monitor.scores.scores) or time.monotonic() > over):
                break
    return told


@pytest.mark.parametrize("part", ["compute", "data", ""])
def test_two_processes_find_the_slow_one_and_none_in_a_clean_run(tmp_path, part):
    told, nothing = run_ranks(slow_rank, 2, str(tmp_path), part)
    assert nothing == []
    expected = [("straggler", 1, part)] if part else []
    assert [(kind, facts["straggler"], facts["part"]) for kind, facts in told] == expected


def run_of(folder, age=1.0, **changes):
    """A run of two ranks whose last reading is ``age`` seconds old; the second's last line is torn."""
    for rank in (0, 1):
        row = readings([FAST])[0] | {"time": 1000.0 - age, "interval": 10.0, "rank": rank, "world": 2, "phase": "train"}
        row |= {"step": 40 + rank, "steps": 100, "training": {"loss": 0.125, "steps_per_second": 2.0}}
        gpu = {"index": rank, "gpu_utilization": 93.0, "gpu_memory_used": 2.0**31, "throttle": ["hardware_thermal"]}
        Journal(folder, rank, 10**6).write(row | {"gpus": [gpu]} | changes)
    with journal_file(folder, 1).open("a") as file:
        file.write('{"time": 1000.0, "st')
    (folder / "events").mkdir(exist_ok=True)
    event = {"time": 990.0, "rank": 0, "kind": "straggler", "straggler": 1, "part": "data"}
    (folder / "events" / "rank_00000.jsonl").write_text(json.dumps(event) + "\n")
    incidents.record(folder, "hang", "rank 1 is stopped", {})
    return folder


@pytest.mark.parametrize(
    ("age", "changes", "finished", "state"),
    [
        (1.0, {}, False, "running"),
        (1.0, {}, True, "running"),  # a finished run that goes on with more steps
        (3000.0, {}, False, "dead: no sign of life for 50 min"),
        (200.0, {"phase": "ended"}, True, "finished 3 min ago"),
        (200.0, {"phase": "ended"}, False, "stopped 3 min ago"),
        (9.0, {"phase": "failed"}, False, "failed 9 s ago"),
    ],
)
def test_a_run_is_running_finished_stopped_failed_or_dead(tmp_path, age, changes, finished, state):
    run_of(tmp_path, age, **changes)
    if finished:
        (tmp_path / "result.json").write_text("{}")
    view = view_run(tmp_path, now=1000.0)
    assert view.state == state and view.slowest_step == 40 and len(view.ranks) == 2
    assert view.ranks[1].share("compute") == pytest.approx(1 / 1.51)


def test_a_rank_that_is_silent_is_named(tmp_path):
    run_of(tmp_path, 100.0)
    Journal(tmp_path, 0, 10**6).write(last_records(journal_file(tmp_path, 0))[0] | {"time": 999.0})
    assert view_run(tmp_path, now=1000.0).state == "running; no sign of rank 1"


def test_top_shows_a_run_without_torch(tmp_path):
    run_of(tmp_path)
    code = (
        "import sys; from maquette.cli import cli; cli(['top', sys.argv[1], '--once'], standalone_mode=False);"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for expected in (
        "dead",
        "step 40/100",
        "loss 0.125",
        "93 % hardware_thermal",
        "2.0 GiB",
        "66%",
        "straggler 1",
        "hang: rank 1 is stopped",
    ):
        assert expected in done.stdout, (expected, done.stdout)


def test_top_of_a_folder_without_readings_is_a_mistake_in_one_line(tmp_path):
    with pytest.raises(MaquetteError, match="holds no readings"):
        view_run(tmp_path)


def test_the_report_shows_ranks_and_events_of_a_run_and_nothing_of_one_without(tmp_path):
    (tmp_path / "empty").mkdir()
    run_of(tmp_path / "generator")
    runs = {"generator": tmp_path / "generator", "autoencoder": tmp_path / "empty"}
    write_report(tmp_path / "report.html", Report("title", "", runs=runs))
    text = (tmp_path / "report.html").read_text()
    assert text.count("<svg") == 1 and "generator: the machine" in text and "autoencoder" not in text
    assert "<td>93 %</td>" in text and "straggler 1, part data" in text and "<td>66.2%</td>" in text
    assert "rank 1 is stopped" in text


def test_the_dashboard_asks_only_for_metrics_that_exist(tmp_path):
    dashboard = json.loads(DASHBOARD.read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    names = {name for expression in asked for name in re.findall(r"\b(?:maquette|DCGM)_\w+", expression)}
    every = {"maquette_" + m.name + "_total" * m.counter for m in (*STEPS, *TRAINING, *HOST, *GPU, *ENGINES, *LABELLED)}
    assert names and names <= every | {alias.name for alias in ALIASES}
    assert len(asked) >= 12 and len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
