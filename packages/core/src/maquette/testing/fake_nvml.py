"""A stand-in for the module ``pynvml``: GPUs whose every reading a test may set, take away, or let fail."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, NoReturn

ERRORS = {
    "INVALID_ARGUMENT": 2,
    "NOT_SUPPORTED": 3,
    "NO_PERMISSION": 4,
    "DRIVER_NOT_LOADED": 9,
    "TIMEOUT": 10,
    "LIBRARY_NOT_FOUND": 12,
    "FUNCTION_NOT_FOUND": 13,
    "GPU_IS_LOST": 15,
    "LIB_RM_VERSION_MISMATCH": 18,
    "UNKNOWN": 999,
}


class FakeNvmlError(Exception):
    """What every call may raise; ``value`` is NVML's number."""

    def __init__(self, value: int) -> None:
        self.value = value
        super().__init__(next((name.replace("_", " ").capitalize() for name, n in ERRORS.items() if n == value), "?"))


@dataclass
class FakeGpu:
    """A healthy H200 that is idle; the units are NVML's own (milliwatts, MHz, KiB).

    ``errors`` maps a call without its ``nvmlDeviceGet``, e.g. ``"RemappedRows"``, to the name of the error it raises,
    one of :data:`ERRORS`; ``{"all": "GPU_IS_LOST"}`` is a GPU that has fallen off the bus.
    """

    name: str = "NVIDIA H200"
    uuid: str = "GPU-00000000-0000-0000-0000-000000000000"
    bus: str = "00000000:3B:00.0"
    utilization: int = 0
    memory_used: int = 5 * 2**20
    memory_total: int = 141 * 2**30
    temperature: int = 35
    slowdown_at: int = 87
    power: int = 75_000
    power_limit: int = 700_000
    sm_clock: int = 345
    sm_clock_max: int = 1980
    memory_clock: int = 2619
    performance_state: int = 0
    throttle: int = 0x1
    ecc: dict[tuple[int, int], int] = field(default_factory=dict)
    """(error type, counter type) -> count; what is not there is 0. Types: 0 corrected, 1 uncorrected; 0 now, 1 ever."""
    remapped: tuple[int, int, int, int] = (0, 0, 0, 0)
    """Rows after corrected and uncorrected errors, whether some are pending, whether one failed."""
    recovery_action: int = 0
    pcie_generation: int = 5
    pcie_generation_max: int = 5
    pcie_width: int = 16
    pcie_width_max: int = 16
    pcie_throughput: tuple[int, int] = (1000, 2000)
    pcie_replays: int = 0
    nvlinks: tuple[bool, ...] = (True,) * 18
    nvlink_errors: int = 0
    """Of each kind on the first link."""
    nvlink_throughput: tuple[int, int] = (0, 0)
    processes: tuple[tuple[int, int], ...] = ()
    """(process, bytes)."""
    errors: dict[str, str] = field(default_factory=dict)


class FakeNvml:
    """Give it to :class:`maquette.hardware.nvml.Nvml` in place of the module.

    Args:
        gpus: the GPUs of the machine; a test may change them between readings.
        driver_error: what the start of NVML raises, e.g. ``DRIVER_NOT_LOADED``; empty for a driver that works.
        driver: its version.
        cuda: the CUDA version it serves, as NVML writes it: 13000 is 13.0.
    """

    NVMLError = FakeNvmlError
    NVML_MEMORY_ERROR_TYPE_CORRECTED, NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 0, 1
    NVML_VOLATILE_ECC, NVML_AGGREGATE_ECC = 0, 1
    NVML_TEMPERATURE_GPU, NVML_TEMPERATURE_THRESHOLD_SLOWDOWN = 0, 1
    NVML_CLOCK_SM, NVML_CLOCK_MEM = 1, 2
    NVML_PCIE_UTIL_TX_BYTES, NVML_PCIE_UTIL_RX_BYTES = 0, 1
    NVML_NVLINK_MAX_LINKS = 36
    NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX = 138, 139
    NVML_FI_DEV_GET_GPU_RECOVERY_ACTION = 230
    nvmlEventTypeSingleBitEccError, nvmlEventTypeDoubleBitEccError, nvmlEventTypeXidCriticalError = 1, 2, 8

    def __init__(self, *gpus: FakeGpu, driver_error: str = "", driver: str = "580.65.06", cuda: int = 13000) -> None:
        self.gpus, self.driver_error, self.driver, self.cuda = list(gpus), driver_error, driver, cuda
        self.opened = 0
        self._events: list[SimpleNamespace] = []

    def __getattr__(self, name: str) -> Any:
        """The numbers of errors, and the simple readings of a GPU."""
        if name.startswith("NVML_ERROR_"):
            return ERRORS[name.removeprefix("NVML_ERROR_")]
        if name.startswith("nvmlDeviceGet") and name.removeprefix("nvmlDeviceGet") in READINGS:
            return lambda gpu, *arguments: self._read(name.removeprefix("nvmlDeviceGet"), gpu, *arguments)
        raise AttributeError(name)

    def tell(self, gpu: int, kind: int, data: int = 0) -> None:
        """Let the driver tell of an event: ``kind`` is one of the ``nvmlEventType...``, ``data`` an XID."""
        self._events.append(SimpleNamespace(device=self.gpus[gpu], eventType=kind, eventData=data))

    def nvmlInit(self) -> None:
        if self.driver_error:
            self._fail(self.driver_error)
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.opened -= 1

    def nvmlSystemGetDriverVersion(self) -> str:
        return self.driver

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:
        return self.cuda

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> FakeGpu:
        return self.gpus[index]

    def nvmlDeviceGetIndex(self, gpu: FakeGpu) -> int:
        return next(index for index, known in enumerate(self.gpus) if known is gpu)

    def nvmlEventSetCreate(self) -> object:
        return object()

    def nvmlDeviceRegisterEvents(self, gpu: FakeGpu, kinds: int, events: object) -> None:
        """Nothing to do: :meth:`tell` is the driver here."""

    def nvmlEventSetWait_v2(self, events: object, timeout_ms: int) -> SimpleNamespace:
        if not self._events:
            self._fail("TIMEOUT")
        return self._events.pop(0)

    def nvmlEventSetFree(self, events: object) -> None:
        """Nothing is held."""

    def _fail(self, error: str) -> NoReturn:
        raise FakeNvmlError(ERRORS[error])

    def _read(self, call: str, gpu: FakeGpu, *arguments: Any) -> Any:
        error = gpu.errors.get(call) or gpu.errors.get("all")
        if error:
            self._fail(error)
        return READINGS[call](gpu, *arguments)


def _link(gpu: FakeGpu, link: int) -> int:
    if link >= len(gpu.nvlinks):
        raise FakeNvmlError(ERRORS["INVALID_ARGUMENT" if gpu.nvlinks else "NOT_SUPPORTED"])
    return int(gpu.nvlinks[link])


def _fields(gpu: FakeGpu, numbers: list[int]) -> list[SimpleNamespace]:
    known = {
        230: (1, gpu.recovery_action),
        138: (3, gpu.nvlink_throughput[0]),
        139: (3, gpu.nvlink_throughput[1]),
    }
    kinds = [(kind, SimpleNamespace(uiVal=value, ullVal=value)) for kind, value in (known[n] for n in numbers)]
    return [SimpleNamespace(nvmlReturn=0, valueType=kind, value=value) for kind, value in kinds]


def _running(gpu: FakeGpu) -> list[SimpleNamespace]:
    return [SimpleNamespace(pid=pid, usedGpuMemory=memory) for pid, memory in gpu.processes]


READINGS: dict[str, Any] = {
    "Name": lambda gpu: gpu.name,
    "UUID": lambda gpu: gpu.uuid,
    "PciInfo": lambda gpu: SimpleNamespace(busId=gpu.bus),
    "UtilizationRates": lambda gpu: SimpleNamespace(gpu=gpu.utilization),
    "MemoryInfo": lambda gpu: SimpleNamespace(used=gpu.memory_used, total=gpu.memory_total),
    "Temperature": lambda gpu, sensor: gpu.temperature,
    "TemperatureThreshold": lambda gpu, threshold: gpu.slowdown_at,
    "MarginTemperature": lambda gpu: gpu.slowdown_at - gpu.temperature,
    "PowerUsage": lambda gpu: gpu.power,
    "EnforcedPowerLimit": lambda gpu: gpu.power_limit,
    "ClockInfo": lambda gpu, clock: gpu.sm_clock if clock == 1 else gpu.memory_clock,
    "MaxClockInfo": lambda gpu, clock: gpu.sm_clock_max,
    "PerformanceState": lambda gpu: gpu.performance_state,
    "CurrentClocksThrottleReasons": lambda gpu: gpu.throttle,
    "TotalEccErrors": lambda gpu, error, counter: gpu.ecc.get((error, counter), 0),
    "RemappedRows": lambda gpu: gpu.remapped,
    "FieldValues": _fields,
    "CurrPcieLinkGeneration": lambda gpu: gpu.pcie_generation,
    "MaxPcieLinkGeneration": lambda gpu: gpu.pcie_generation_max,
    "CurrPcieLinkWidth": lambda gpu: gpu.pcie_width,
    "MaxPcieLinkWidth": lambda gpu: gpu.pcie_width_max,
    "PcieThroughput": lambda gpu, counter: gpu.pcie_throughput[counter],
    "PcieReplayCounter": lambda gpu: gpu.pcie_replays,
    "NvLinkState": _link,
    "NvLinkErrorCounter": lambda gpu, link, counter: gpu.nvlink_errors if link == 0 else 0,
    "ComputeRunningProcesses": _running,
    "GraphicsRunningProcesses": lambda gpu: [],
    "SupportedEventTypes": lambda gpu: 1 | 2 | 8,
}
"""Calls without their ``nvmlDeviceGet`` -> what they give."""
