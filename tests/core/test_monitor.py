"""The monitor reads the machine, writes it down, shows it to Prometheus, and never ends a training."""

from __future__ import annotations

import json
import os
import re
import socket
import time
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from maquette.errors import MaquetteError
from maquette.hardware.host import Host
from maquette.hardware.nvml import Nvml
from maquette.monitor_config import MonitorConfig
from maquette.monitoring.exposition import Exposition, MachineExposition, serve_metrics
from maquette.monitoring.journal import journal_file, read_journal
from maquette.monitoring.machine import Machine
from maquette.monitoring.metrics import ALIASES, ENGINES, GPU, HOST, LABELLED, STEPS, TRAINING
from maquette.monitoring.monitor import Monitor, Who
from maquette.monitoring.step_clock import StepClock
from maquette.testing import FakeGpu, FakeNvml

DASHBOARD = Path(__file__).parents[2] / "docs" / "grafana" / "maquette.json"


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


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


def test_a_gpu_that_is_lost_is_still_the_own_one_and_its_neighbours_are_not_told_of(tmp_path):
    gpus = [FakeGpu(uuid=f"GPU-{name}", throttle=0x40 * (name == "a")) for name in "abc"]
    library = FakeNvml(*gpus)
    nvml = Nvml(library)
    asked, real = [], nvml.read
    nvml.read = lambda index, **more: asked.append(index) or real(index, **more)
    machine = Machine(tmp_path, nvml, gpu="b")
    assert machine.read().complaints == () and asked == [0, 1, 2]
    gpus[1].errors = {"all": "GPU_IS_LOST"}
    library.tell(0, 8, 79)
    library.tell(1, 8, 79)
    reading = machine.read()
    assert list(reading.complaints) == ["GPU 1: has fallen off the bus", "GPU 1: XID 79"]
    assert [event.gpu for event in reading.events] == [1] and asked == [0, 1, 2, 1]


def monitor_of(folder, *gpus, **settings):
    clock = StepClock()
    return Monitor(
        folder,
        Who(),
        clock,
        MonitorConfig(**settings),
        machine=lambda: machine_of(*gpus, folder=folder),
        progress=lambda: ("train", clock.steps),
    )


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


def test_a_rank_whose_port_would_be_beyond_the_last_is_told_so(tmp_path):
    with pytest.raises(MaquetteError, match="65536 cannot be listened on"):
        serve_metrics(Exposition({}), MonitorConfig(port=65535), 1)


@pytest.mark.parametrize("wrong", [{"interval": -1}, {"port": 70000}, {"journal_mb": 0}, {"straggler_interval": 40}])
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


def test_the_dashboard_asks_only_for_metrics_that_exist(tmp_path):
    dashboard = json.loads(DASHBOARD.read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    names = {name for expression in asked for name in re.findall(r"\b(?:maquette|DCGM)_\w+", expression)}
    every = {"maquette_" + m.name + "_total" * m.counter for m in (*STEPS, *TRAINING, *HOST, *GPU, *ENGINES, *LABELLED)}
    assert names and names <= every | {alias.name for alias in ALIASES}
    assert len(asked) >= 12 and len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
