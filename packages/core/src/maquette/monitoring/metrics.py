"""What the monitor measures: one table of names for the journal, the loggers, Prometheus and the dashboard.

Journals and loggers use the short names, e.g. ``gpu_temperature``; Prometheus puts ``maquette_`` before them. Readings
of GPUs also go by the names of NVIDIA's dcgm-exporter, so that dashboards made for it find them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from maquette.hardware.gpu import MIB, THROTTLE_REASONS, GpuReading

BITS = {name: bit for bit, name in THROTTLE_REASONS.items()}


@dataclass(frozen=True)
class Metric:
    """A number with a name; ``counter`` only grows while a process lives."""

    name: str
    help: str
    counter: bool = False


@dataclass(frozen=True)
class Alias:
    """A name of dcgm-exporter and the value it has there, in its unit; None where the GPU does not tell."""

    name: str
    value: Callable[[GpuReading], float | None]


STEPS = (
    Metric("step", "Optimizer steps done"),
    Metric("steps", "Optimizer steps since the process began", counter=True),
    Metric("step_seconds", "Seconds of all steps, without validating and saving", counter=True),
    Metric("data_seconds", "Seconds of steps that were waiting for a batch", counter=True),
    Metric("communication_seconds", "Seconds of steps that were waiting in collectives", counter=True),
    Metric("paused_seconds", "Seconds of validating and saving", counter=True),
)
TRAINING = (
    Metric("loss", "Training loss, as last logged"),
    Metric("samples_per_second", "Of the whole run, as last logged"),
    Metric("mfu", "Share of the accelerators' peak, as last logged"),
)
HOST = (
    Metric("host_cpu", "Share of the machine's processors that is busy"),
    Metric("host_memory_used", "Bytes of memory in use on the machine"),
    Metric("host_memory_total", "Bytes of memory of the machine"),
    Metric("host_pressure_cpu", "Percent of the last 10 s in which some task waited for a processor"),
    Metric("host_pressure_memory", "Percent of the last 10 s in which some task waited for memory"),
    Metric("host_pressure_io", "Percent of the last 10 s in which some task waited for a disk"),
    Metric("host_disk_free", "Bytes free where the run's folder is"),
    Metric("host_disk_total", "Bytes of the file system where the run's folder is"),
    Metric("host_disk_read", "Bytes a second from all disks"),
    Metric("host_disk_written", "Bytes a second to all disks"),
    Metric("host_network_received", "Bytes a second over all interfaces"),
    Metric("host_network_sent", "Bytes a second over all interfaces"),
    Metric("process_memory", "Bytes of resident memory of this process"),
    Metric("process_cpu", "Processors that this process keeps busy"),
    Metric("process_threads", "Threads of this process"),
)
GPU = (
    Metric("gpu_utilization", "Percent of the time in which a kernel ran"),
    Metric("gpu_memory_used", "Bytes"),
    Metric("gpu_memory_total", "Bytes"),
    Metric("gpu_temperature", "Degrees Celsius"),
    Metric("gpu_margin", "Degrees until the GPU slows itself down"),
    Metric("gpu_power", "Watts"),
    Metric("gpu_power_limit", "Watts"),
    Metric("gpu_sm_clock", "MHz"),
    Metric("gpu_sm_clock_max", "MHz"),
    Metric("gpu_memory_clock", "MHz"),
    Metric("gpu_ecc_corrected", "Memory errors since the driver was loaded"),
    Metric("gpu_ecc_uncorrected", "Memory errors since the driver was loaded"),
    Metric("gpu_remap_pending", "1 where rows of memory wait to be replaced"),
    Metric("gpu_remap_failed", "1 where rows of memory could not be replaced"),
    Metric("gpu_pcie_sent", "Bytes a second, over 20 ms"),
    Metric("gpu_pcie_received", "Bytes a second, over 20 ms"),
    Metric("gpu_pcie_replays", "Packets sent again since the driver was loaded"),
    Metric("gpu_nvlink_errors", "Errors of all links"),
    Metric("gpu_nvlink_sent", "Bytes over all links since the driver was loaded"),
    Metric("gpu_nvlink_received", "Bytes over all links since the driver was loaded"),
    Metric("gpu_nvlinks_up", "Links that are up"),
    Metric("gpu_lost", "1 where the GPU has fallen off the bus"),
)
ENGINES = (
    Metric("engine_memory", "Bytes of resident memory of a serving engine's process"),
    Metric("engine_cpu_seconds", "Processor time of a serving engine's process", counter=True),
)
THROTTLED = Metric("gpu_throttled", "1 for each reason why the clocks are below their best")
XIDS = Metric("gpu_xids", "Errors that the driver has told of, by number", counter=True)
SCORE = Metric("straggler_score", "A rank's own speed over the best one's; below the limit it is a straggler")
WARNINGS = Metric("warnings", "Stragglers, throttling and errors of GPUs since the process began", counter=True)
LABELLED = (THROTTLED, XIDS, SCORE, WARNINGS)


def mib(value: int | None) -> float | None:
    """Bytes as dcgm-exporter gives memory."""
    return None if value is None else value / MIB


def throttle_bits(reading: GpuReading) -> float | None:
    """The reasons as NVML's number."""
    return None if reading.throttle is None else float(sum(BITS[name] for name in reading.throttle))


def memory_free(reading: GpuReading) -> float | None:
    """MiB."""
    if reading.memory_used is None or reading.memory_total is None:
        return None
    return mib(reading.memory_total - reading.memory_used)


ALIASES = (
    Alias("DCGM_FI_DEV_GPU_UTIL", lambda gpu: gpu.utilization),
    Alias("DCGM_FI_DEV_FB_USED", lambda gpu: mib(gpu.memory_used)),
    Alias("DCGM_FI_DEV_FB_FREE", memory_free),
    Alias("DCGM_FI_DEV_GPU_TEMP", lambda gpu: gpu.temperature),
    Alias("DCGM_FI_DEV_POWER_USAGE", lambda gpu: gpu.power),
    Alias("DCGM_FI_DEV_SM_CLOCK", lambda gpu: gpu.sm_clock),
    Alias("DCGM_FI_DEV_MEM_CLOCK", lambda gpu: gpu.memory_clock),
    Alias("DCGM_FI_DEV_CLOCK_THROTTLE_REASONS", throttle_bits),
    Alias("DCGM_FI_DEV_ECC_SBE_VOL_TOTAL", lambda gpu: gpu.ecc_corrected),
    Alias("DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", lambda gpu: gpu.ecc_uncorrected),
    Alias("DCGM_FI_DEV_PCIE_REPLAY_COUNTER", lambda gpu: gpu.pcie_replays),
    Alias("DCGM_FI_DEV_ROW_REMAP_FAILURE", lambda gpu: gpu.remap_failed),
)


def gpu_values(reading: GpuReading) -> dict[str, float]:
    """A GPU's numbers by short name, without those that it does not tell."""
    known: dict[str, Any] = {metric.name: getattr(reading, metric.name.removeprefix("gpu_"), None) for metric in GPU}
    if reading.nvlinks is not None:
        known["gpu_nvlinks_up"] = sum(reading.nvlinks)
    return {name: float(value) for name, value in known.items() if value is not None}
