"""What is said of a running training is right, and a look at it on demand never disturbs it."""

from __future__ import annotations

import gzip
import json
import os
import signal
import time
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import distributed, nn

from maquette.accelerators import accelerator
from maquette.errors import MaquetteError
from maquette.forensics.collectives import record_flights, tighten_timeout
from maquette.forensics.live_tensors import describe_live_tensors
from maquette.monitoring.callback import Watch
from maquette.monitoring.noise_bins import NoiseBins
from maquette.monitoring.on_demand import OnDemand
from maquette.monitoring.step_clock import StepClock
from maquette.monitoring.throughput import Throughput
from maquette.planning.own_device import find_accelerator
from maquette.testing import run_ranks


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Counted(nn.Module):
    def flops(self, batch):
        return 10**12 * len(batch["x"])

    def token_count(self, batch):
        return 16 * len(batch["x"])


def test_throughput_counts_the_whole_run_and_takes_the_share_of_its_peak():
    clock = Clock()
    steps = StepClock(clock)
    meter = Throughput(Counted(), "bf16", accelerator("h200"), data_world=4, world=8, clock=steps)

    def loader():
        for _ in range(2):
            clock.now += 1.0  # waiting for the batch
            yield {"caption": ["a", "b"], "x": torch.zeros(2, 3)}

    for batch in steps.fetching(loader()):
        meter.fetched(batch)
        clock.now += 3.0
        steps.stepped()
    figures = meter.read()
    assert figures["steps_per_second"] == pytest.approx(2 / 8)
    assert figures["samples_per_second"] == pytest.approx(2 * 2 * 4 / 8)
    assert figures["tokens_per_second"] == pytest.approx(16 * 2 * 2 * 4 / 8)
    assert figures["data_wait_share"] == pytest.approx(2 / 8)
    # Forward and backward of 4 samples a process, at 10^12 each, on the four shares, over eight devices of 790.
    assert figures["model_tflops"] == pytest.approx(3 * 4 * 4 / 8)
    assert figures["mfu"] == pytest.approx(3 * 4 * 4 / 8 / (8 * 790))
    assert figures["memory_gib"] > 0
    assert meter.read()["samples_per_second"] == 0


def test_pauses_count_neither_as_training_nor_as_waiting():
    clock = Clock()
    steps = StepClock(clock)
    meter = Throughput(nn.Linear(1, 1), "fp32", None, clock=steps)
    meter.fetched({"x": torch.zeros(4)})
    clock.now += 2.0
    steps.stepped()
    steps.pause()
    clock.now += 50.0
    steps.go_on()
    meter.fetched({"x": torch.zeros(4)})
    figures = meter.read()
    assert figures["samples_per_second"] == pytest.approx(4) and figures["data_wait_share"] == 0
    assert steps.paused == 50 and steps.seconds == 2
    assert not {"mfu", "tokens_per_second", "model_tflops"} & figures.keys()


def test_accelerators_are_named_or_found():
    assert find_accelerator("h100", torch.device("cpu")).name == "h100"
    assert find_accelerator("", torch.device("cpu")) is None
    with pytest.raises(MaquetteError, match="accelerator"):
        find_accelerator("h1000", torch.device("cpu"))


@given(
    samples=st.lists(st.tuples(st.floats(0, 1, width=32), st.floats(-5, 5, width=32)), min_size=1, max_size=40),
    bins=st.integers(1, 12),
)
def test_noise_bins_hold_every_sample_once(samples, bins):
    meter = NoiseBins(bins)
    for t, loss in samples:
        meter.add({"t": torch.tensor([t]), "loss": torch.tensor([loss])})
    means = meter.read()
    places = [min(int(torch.tensor(t) * bins), bins - 1) for t, _ in samples]
    for name, mean in means.items():
        low = round(float(name.partition("/")[2].partition("-")[0]) * bins)
        inside = [loss for place, (_, loss) in zip(places, samples, strict=True) if abs(place - low) < 0.5]
        assert mean == pytest.approx(sum(inside) / len(inside), abs=1e-4)
    assert len(means) == len(set(places))
    assert meter.read() == {}


def test_noise_bins_leave_out_what_is_not_finite_and_add_processes_up():
    meter = NoiseBins(2)
    meter.add({"t": torch.tensor([0.1, 0.2, 1.0]), "loss": torch.tensor([1.0, float("nan"), 4.0])})
    assert meter.read(lambda sums: sums * 2) == {"loss_at_noise/0.00-0.50": 1.0, "loss_at_noise/0.50-1.00": 4.0}
    assert NoiseBins().read() == {}


def work(look, first, last):
    for step in range(first, last + 1):
        torch.ones(64, 64) @ torch.ones(64, 64)
        look.after_step(step)


@pytest.fixture
def look(tmp_path):
    look = OnDemand(tmp_path, steps=2, cuda=False)
    before = [signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)]
    look.start()
    yield look
    look.close()
    assert [signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)] == before


def test_a_file_asks_for_a_profile_of_the_next_steps_once(look, tmp_path):
    work(look, 1, 2)
    (tmp_path / "PROFILE").touch()
    work(look, 3, 4)
    assert not list(tmp_path.glob("profiles/*"))
    work(look, 5, 9)
    (trace,) = tmp_path.glob("profiles/*")
    assert trace.name == "step_00000004_rank0.json.gz"
    names = [event.get("name") for event in json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]]
    assert names.count("aten::mm") == 2
    assert not (tmp_path / "PROFILE").exists()


def test_a_signal_asks_too_and_what_is_under_way_at_the_end_is_written(look, tmp_path):
    os.kill(os.getpid(), signal.SIGUSR1)
    work(look, 1, 2)
    look.close()
    assert [path.name for path in tmp_path.glob("profiles/*")] == ["step_00000002_rank0.json.gz"]


def test_a_memory_report_lists_live_tensors_by_size(look, tmp_path):
    held = torch.zeros(123, 457, 7)
    (tmp_path / "MEMORY").touch()
    work(look, 1, 1)
    (report,) = tmp_path.glob("profiles/memory_*.txt")
    assert f"{held.nbytes:,}" in report.read_text() and "[123, 457, 7]" in report.read_text()
    assert not (tmp_path / "MEMORY").exists()
    assert "float32[123, 457, 7]" in describe_live_tensors()


def test_a_profile_that_cannot_be_written_ends_nothing(tmp_path, capsys):
    look = OnDemand(tmp_path, steps=1, cuda=False)
    (tmp_path / "profiles").write_text("in the way")
    (tmp_path / "MEMORY").touch()
    work(look, 1, 3)
    assert "no memory was written" in capsys.readouterr().err


def test_watch_looks_only_between_optimizer_steps(tmp_path):
    seen = []
    look = SimpleNamespace(start=lambda: None, after_step=seen.append, close=lambda: seen.append("closed"))
    done = iter([0, 0, 1, 1, 2])
    watch = Watch(look, lambda: next(done))
    watch.on_train_start(None, None)
    for _ in range(4):
        watch.on_train_batch_end(None, None)
    watch.on_train_end(None, None)
    assert seen == [1, 2, "closed"]


def test_the_flight_recorder_is_on_unless_the_environment_says_otherwise(tmp_path, monkeypatch):
    for name in ("TORCH_NCCL_DUMP_ON_TIMEOUT", "TORCH_FR_DUMP_TEMP_FILE", "TORCH_NCCL_DEBUG_INFO_TEMP_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_FR_BUFFER_SIZE", "7")
    record_flights(tmp_path)
    assert os.environ["TORCH_FR_BUFFER_SIZE"] == "7"
    assert os.environ["TORCH_NCCL_DUMP_ON_TIMEOUT"] == "1"
    assert os.path.isdir(os.path.dirname(os.environ["TORCH_FR_DUMP_TEMP_FILE"]))


def hang(_):
    """Rank 1 stays away from the second sum; what rank 0 then says."""
    from maquette.parallel.layout import Layout
    from maquette.parallel.mesh import Mesh

    mesh = Mesh(Layout(data=2))
    mesh.sum(torch.ones(1))
    seconds = tighten_timeout(0.01, factor=1, least=1.5)
    if mesh.rank == 1:
        time.sleep(4)
        return seconds
    try:
        distributed.all_reduce(torch.ones(1))
    except RuntimeError as error:
        return str(error)
    return "nothing"


def test_a_hang_after_the_first_steps_is_an_error_soon():
    assert tighten_timeout(1.0) is None  # one process
    told, seconds = run_ranks(hang, 2, None, timeout=60)
    assert seconds == 1.5
    assert told != "nothing" and "ime" in told, told
