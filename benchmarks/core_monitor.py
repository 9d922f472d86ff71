"""What the monitor costs: blocks of training steps with it over blocks without it, in turn in one process.

    python benchmarks/core_monitor.py [interval=10] [rounds=10] [width=128] [depth=4] [rows=8] [tokens=128]

A block takes about one interval of steps of the engine on a small transformer. With the monitor, each step's times are
taken and its thread reads the machine at the block's beginning, after the interval and at the end, where a run reads
once an interval: the ratio is an upper bound. Told are the ratios of the process's CPU time, which neighbours on the
machine hardly disturb, and of the wall clock's, with quartiles over the rounds; and how long one reading takes.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from interleaved import measure, ratio

from maquette import plugins
from maquette.config import ParallelConfig, TrainConfig, checked, load, read_words
from maquette.engine.step_engine import StepEngine
from maquette.monitor_config import MonitorConfig
from maquette.monitoring.collective_waits import CollectiveWaits
from maquette.monitoring.machine import Machine
from maquette.monitoring.monitor import Monitor, Who
from maquette.monitoring.step_clock import StepClock
from maquette.parallel.parallelism import Parallelism
from maquette.precision import Precision
from maquette.testing import TinyObjective, TinyTransformer, tiny_batch


@dataclass
class BenchmarkConfig:
    """Seconds between readings, rounds, and the sizes of the transformer and its batch."""

    interval: float = 10.0
    rounds: int = 10
    width: int = 128
    depth: int = 4
    rows: int = 8
    tokens: int = 128


def engine_step(config: BenchmarkConfig) -> Callable[[], object]:
    """One step of a small transformer."""
    parallelism = Parallelism(ParallelConfig(), plugins.build("strategies", {"name": "ddp"}), Precision())
    parts = parallelism.build(
        lambda: TinyTransformer(config.width, config.depth, heads=4, tokens=config.tokens), lambda part: None
    )
    train = TrainConfig(steps=10**6, ema_decays=[])
    engine = StepEngine(
        parts, TinyObjective(), train, plugins.build("optimizers", {"name": "adamw"}), seed=0, parallelism=parallelism
    )
    batch = tiny_batch(config.rows, config.tokens)
    return lambda: engine.run(batch)


def monitored_block(step: Callable[[], object], steps: int, interval: float, folder: Path) -> None:
    """Steps as a session takes them."""
    waits = CollectiveWaits()
    clock = StepClock(communication=waits.seconds)
    settings = MonitorConfig(interval=interval, straggler_interval=5 * interval)
    monitor = Monitor(
        folder, Who(), clock, settings, machine=lambda: Machine.here(folder), progress=lambda: ("train", clock.steps)
    )
    with waits.measuring(), monitor.watching():
        for _ in clock.fetching(range(steps)):
            step()
            clock.stepped()


def plain_block(step: Callable[[], object], steps: int) -> None:
    for _ in range(steps):
        step()


def main() -> None:
    config: BenchmarkConfig = checked(load(BenchmarkConfig, read_words(sys.argv[1:])))
    torch.set_num_threads(1)
    torch.manual_seed(0)
    step = engine_step(config)
    plain_block(step, 10)
    began = time.perf_counter()
    plain_block(step, 10)
    steps = max(int(config.interval / (time.perf_counter() - began) * 10), 10)
    wall: dict[str, list[float]] = {}

    def on_the_wall(name: str, block: Callable[[], None]) -> Callable[[], None]:
        def run() -> None:
            began = time.perf_counter()
            block()
            wall.setdefault(name, []).append(time.perf_counter() - began)

        return run

    with tempfile.TemporaryDirectory() as folder:
        blocks = {
            "without": on_the_wall("without", lambda: plain_block(step, steps)),
            "with": on_the_wall("with", lambda: monitored_block(step, steps, config.interval, Path(folder))),
        }
        times = measure(blocks, config.rounds, warmup=0, clock=time.process_time)
        machine = Machine.here(Path(folder))
        began = time.thread_time()
        for _ in range(100):
            machine.read()
        reading = (time.thread_time() - began) / 100
    for name, found in (("CPU time", times), ("wall clock", wall)):
        low, middle, high = ratio(found, "with", "without")
        print(
            f"{name}: with / without {middle:.4f} ({low:.4f} .. {high:.4f}), n={config.rounds} blocks of {steps} steps"
        )
    print(f"one reading: {reading * 1e3:.2f} ms of CPU, every {config.interval:g} s")


if __name__ == "__main__":
    main()
