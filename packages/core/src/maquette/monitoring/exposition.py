"""Readings as Prometheus scrapes them, from the trainer and from the service alike.

The endpoint listens on the machine itself unless it is told otherwise: readings tell of a machine and of a run.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from maquette.errors import MaquetteError
from maquette.hardware.gpu import GpuReading
from maquette.monitor_config import MonitorConfig
from maquette.monitoring.machine import Machine, MachineReading
from maquette.monitoring.metrics import (
    ALIASES,
    ENGINES,
    GPU,
    HOST,
    SCORE,
    STEPS,
    THROTTLED,
    TRAINING,
    WARNINGS,
    XIDS,
    Metric,
    gpu_values,
)
from maquette.monitoring.step_clock import StepClock

GPU_LABELS = ("gpu", "UUID", "modelName", "Hostname")
"""As dcgm-exporter labels its GPUs."""


class Exposition(Collector):
    """The last reading, as metrics. The monitor's thread shows, the server's threads collect.

    Args:
        labels: on every metric of this process, e.g. its rank; ``host`` names the machine on those of GPUs.
    """

    def __init__(self, labels: Mapping[str, str]) -> None:
        self.labels = dict(labels)
        self.xids: Counter[tuple[int, int]] = Counter()
        self._families: list[Family] = []

    def show(
        self,
        reading: MachineReading,
        clock: StepClock | None = None,
        record: Mapping[str, Any] | None = None,
        scores: Mapping[int, float] | None = None,
        warnings: Mapping[str, int] | None = None,
    ) -> None:
        """Replace what is shown.

        Args:
            reading: of the machine.
            clock: of the training, where there is one.
            record: the journal's: its step and what the training logs.
            scores: by rank.
            warnings: by kind.
        """
        for event in reading.events:
            if event.xid is not None:
                self.xids[event.gpu, event.xid] += 1
        families = [*self._simple(HOST, reading.host), *self._gpus(reading.gpus)]
        if clock is not None and record is not None:
            families += self._training(clock, record)
        if scores:
            families.append(self._by(SCORE, "of_rank", scores))
        if warnings:
            families.append(self._by(WARNINGS, "kind", warnings))
        self._families = families

    def collect(self) -> Iterator[Family]:
        """For the registry."""
        yield from self._families

    def _training(self, clock: StepClock, record: Mapping[str, Any]) -> list[Family]:
        values = {
            "step": record["step"],
            "steps": clock.steps,
            "step_seconds": clock.seconds,
            "data_seconds": clock.waited,
            "communication_seconds": clock.communicated,
            "paused_seconds": clock.paused,
        }
        return [*self._simple(STEPS, values), *self._simple(TRAINING, record["training"])]

    def _simple(self, metrics: Sequence[Metric], values: Mapping[str, float | None]) -> Iterator[Family]:
        for metric in metrics:
            value = values.get(metric.name)
            if value is not None:
                found = family(metric, list(self.labels))
                found.add_metric(list(self.labels.values()), value)
                yield found

    def _by(self, metric: Metric, label: str, values: Mapping[Any, float]) -> Family:
        found = family(metric, [*self.labels, label])
        for key, value in values.items():
            found.add_metric([*self.labels.values(), str(key)], value)
        return found

    def _gpus(self, gpus: Sequence[GpuReading]) -> list[Family]:
        families = {metric.name: family(metric, GPU_LABELS) for metric in GPU}
        aliases = {
            alias.name: family(Metric(alias.name, "As dcgm-exporter has it"), GPU_LABELS, "") for alias in ALIASES
        }
        throttled, xids = family(THROTTLED, [*GPU_LABELS, "reason"]), family(XIDS, [*GPU_LABELS, "xid"])
        for gpu in gpus:
            own = [str(gpu.index), gpu.uuid or "", gpu.name or "", self.labels.get("host", "")]
            for name, value in gpu_values(gpu).items():
                families[name].add_metric(own, value)
            for alias in ALIASES:
                if (told := alias.value(gpu)) is not None:
                    aliases[alias.name].add_metric(own, told)
            for reason in gpu.throttle or ():
                throttled.add_metric([*own, reason], 1)
            for (index, xid), count in self.xids.items():
                if index == gpu.index:
                    xids.add_metric([*own, str(xid)], count)
        return [found for found in (*families.values(), *aliases.values(), throttled, xids) if found.samples]


class MachineExposition(Exposition):
    """The machine of a server, which has no monitor: it is looked at when somebody asks, but not too often.

    Args:
        machine: gives the readings.
        processes: gives the processes that work for the server, e.g. its engines.
        least: seconds for which a reading is good.
    """

    def __init__(self, machine: Machine, processes: Callable[[], Sequence[int]], least: float = 5.0) -> None:
        super().__init__({"host": socket.gethostname()})
        self.machine, self.processes, self.least = machine, processes, least
        self._lock = threading.Lock()
        self._shown = float("-inf")

    def collect(self) -> Iterator[Family]:
        """For the registry; threads may call it."""
        with self._lock:
            if time.monotonic() - self._shown > self.least:
                self.show(self.machine.read())
                self._families += self._engines()
                self._shown = time.monotonic()
            yield from list(self._families)

    def _engines(self) -> list[Family]:
        memory, cpu = (family(metric, [*self.labels, "engine"]) for metric in ENGINES)
        for place, pid in enumerate(self.processes()):
            if reading := self.machine.host.process(pid):
                labels = [*self.labels.values(), str(place)]
                memory.add_metric(labels, reading.memory)
                cpu.add_metric(labels, reading.cpu)
        return [found for found in (memory, cpu) if found.samples]


def family(metric: Metric, labels: Sequence[str], prefix: str = "maquette_") -> Any:
    """An empty family of the right kind."""
    kind = CounterMetricFamily if metric.counter else GaugeMetricFamily
    return kind(prefix + metric.name, metric.help, labels=list(labels))


class MetricsServer:
    """A running endpoint."""

    def __init__(self, server: Any, thread: threading.Thread) -> None:
        self.server, self.thread = server, thread

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server.server_port)

    def close(self) -> None:
        """Stop to listen."""
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(timeout=5.0)


def serve_metrics(exposition: Exposition, settings: MonitorConfig, local_rank: int) -> MetricsServer:
    """Answer ``GET /metrics``: each process of a machine on a port of its own, the first on ``monitor.port``.

    Raises:
        MaquetteError: the port is taken, or may not be used.
    """
    registry = CollectorRegistry()
    registry.register(exposition)
    port = settings.port + local_rank
    try:
        server, thread = start_http_server(port, addr=settings.address, registry=registry)
    except (OSError, OverflowError) as error:  # the last ranks' ports may be beyond the last port
        reason = getattr(error, "strerror", None) or error
        raise MaquetteError(
            f"monitor.port: {settings.address}:{port} cannot be listened on: {reason}; choose another port"
        ) from None
    return MetricsServer(server, thread)
