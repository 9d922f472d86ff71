"""GPUs as NVIDIA's management library sees them, by the ``nvidia-ml-py`` package. No torch and no CUDA context."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib import import_module
from types import TracebackType
from typing import Any

from maquette.errors import MaquetteError
from maquette.hardware.gpu import RECOVERY_ACTIONS, THROTTLE_REASONS, GpuEvent, GpuProcess, GpuReading

SLOW = frozenset({"pcie_sent", "pcie_received"})
"""Readings for which the driver measures during 20 ms each."""

LINK_ERRORS = (0, 1, 2, 3)
"""NVLink's counters of replays, recoveries, and CRC errors of flow control and of data."""


class Nvml:
    """An open NVML; close it, or use it in a ``with``.

    Args:
        library: the module ``pynvml``, or a fake of it (:class:`maquette.testing.FakeNvml`).
    """

    def __init__(self, library: Any) -> None:
        self.library = library
        self._events: Any = None

    @classmethod
    def open(cls, library: Any = None) -> Nvml | None:
        """Start NVML; None where there is no driver, which is how a machine without a GPU looks.

        Raises:
            MaquetteError: there is a driver and it does not answer.
        """
        library = library or import_module("pynvml")
        try:
            library.nvmlInit()
        except library.NVMLError as error:
            if error.value in (library.NVML_ERROR_LIBRARY_NOT_FOUND, library.NVML_ERROR_DRIVER_NOT_LOADED):
                return None
            raise MaquetteError(f"the NVIDIA driver does not answer: {error}; reboot, or install it again") from None
        return cls(library)

    def __enter__(self) -> Nvml:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: object, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the driver."""
        if self._events is not None:
            self.library.nvmlEventSetFree(self._events)
            self._events = None
        self.library.nvmlShutdown()

    @property
    def driver(self) -> str:
        """The driver's version."""
        return _text(self.library.nvmlSystemGetDriverVersion())

    @property
    def cuda(self) -> tuple[int, int]:
        """The newest CUDA that the driver can serve."""
        number = int(self.library.nvmlSystemGetCudaDriverVersion_v2())
        return number // 1000, number % 1000 // 10

    def count(self) -> int:
        """How many GPUs the driver sees."""
        return int(self.library.nvmlDeviceGetCount())

    def read_all(self, *, fast: bool = False) -> list[GpuReading]:
        """All GPUs that CUDA programs of this process may use; see :meth:`read`."""
        readings = [self.read(index, fast=fast) for index in range(self.count())]
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible is None:
            return readings
        wanted = [name.strip() for name in visible.split(",") if name.strip()]
        found = [r for r in readings if str(r.index) in wanted or any(_is(r, name) for name in wanted)]
        return found if found or not wanted else readings  # parts of GPUs (MIG-...) are named in ways of their own

    def read(self, index: int, *, fast: bool = False) -> GpuReading:
        """One look at one GPU; never raises for what a GPU does not have or does not tell.

        Args:
            index: as NVML counts.
            fast: leave out what takes the driver 20 ms each (:data:`SLOW`).
        """
        unreadable: dict[str, str] = {}
        values: dict[str, Any] = {}
        try:
            handle = self.library.nvmlDeviceGetHandleByIndex(index)
            for names, ask in _questions(self.library, handle).items():
                if not (fast and SLOW.intersection(names)):
                    values.update(self._ask(names, ask, unreadable))
        except self.library.NVMLError as error:
            if error.value == self.library.NVML_ERROR_GPU_IS_LOST:
                return GpuReading(index, lost=True)
            return GpuReading(index, unreadable={"handle": str(error)})
        return GpuReading(index, **values, unreadable=unreadable)

    def _ask(self, names: tuple[str, ...], ask: Callable[[], Any], unreadable: dict[str, str]) -> dict[str, Any]:
        """The values of one call; an empty mapping where the GPU has no such thing or did not tell."""
        library = self.library
        absent = (library.NVML_ERROR_NOT_SUPPORTED, library.NVML_ERROR_FUNCTION_NOT_FOUND)
        try:
            value = ask()
        except library.NVMLError as error:
            if error.value == library.NVML_ERROR_GPU_IS_LOST:
                raise
            if error.value not in absent:
                unreadable.update(dict.fromkeys(names, str(error)))
            return {}
        return dict(zip(names, value if len(names) > 1 else (value,), strict=True))

    def events(self, timeout_ms: int = 0) -> Iterator[GpuEvent]:
        """Errors that the driver has told of since the last call, waiting for the first at most ``timeout_ms``.

        The first call registers for them and so gives none of the past. A driver that cannot tell gives none.
        """
        library = self.library
        try:
            if self._events is None:
                self._events = self._listen()
            while True:
                data = library.nvmlEventSetWait_v2(self._events, timeout_ms)
                timeout_ms = 0
                yield self._event(data)
        except library.NVMLError as error:
            if error.value not in (library.NVML_ERROR_TIMEOUT, library.NVML_ERROR_NOT_SUPPORTED):
                raise MaquetteError(f"the NVIDIA driver tells of no events: {error}") from None

    def _listen(self) -> Any:
        library = self.library
        wanted = (
            library.nvmlEventTypeXidCriticalError
            | library.nvmlEventTypeSingleBitEccError
            | library.nvmlEventTypeDoubleBitEccError
        )
        events = library.nvmlEventSetCreate()
        for index in range(self.count()):
            handle = library.nvmlDeviceGetHandleByIndex(index)
            supported = library.nvmlDeviceGetSupportedEventTypes(handle)
            if supported & wanted:
                library.nvmlDeviceRegisterEvents(handle, supported & wanted, events)
        return events

    def _event(self, data: Any) -> GpuEvent:
        index = int(self.library.nvmlDeviceGetIndex(data.device))
        if data.eventType == self.library.nvmlEventTypeXidCriticalError:
            return GpuEvent(index, "xid", int(data.eventData))
        corrected = data.eventType == self.library.nvmlEventTypeSingleBitEccError
        return GpuEvent(index, "ecc_corrected" if corrected else "ecc_uncorrected")


def _questions(nvml: Any, gpu: Any) -> dict[tuple[str, ...], Callable[[], Any]]:
    """Fields of a reading -> the call that gives them."""
    corrected, uncorrected = nvml.NVML_MEMORY_ERROR_TYPE_CORRECTED, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED
    now, ever = nvml.NVML_VOLATILE_ECC, nvml.NVML_AGGREGATE_ECC
    sent, received = nvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_TX, nvml.NVML_FI_DEV_NVLINK_THROUGHPUT_DATA_RX
    return {
        ("name",): lambda: _text(nvml.nvmlDeviceGetName(gpu)),
        ("uuid",): lambda: _text(nvml.nvmlDeviceGetUUID(gpu)),
        ("bus",): lambda: _text(nvml.nvmlDeviceGetPciInfo(gpu).busId),
        ("utilization",): lambda: int(nvml.nvmlDeviceGetUtilizationRates(gpu).gpu),
        ("memory_used", "memory_total"): lambda: _memory(nvml.nvmlDeviceGetMemoryInfo(gpu)),
        ("temperature",): lambda: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU),
        ("margin",): lambda: _margin(nvml, gpu),
        ("power",): lambda: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000,
        ("power_limit",): lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(gpu) / 1000,
        ("sm_clock",): lambda: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM),
        ("sm_clock_max",): lambda: nvml.nvmlDeviceGetMaxClockInfo(gpu, nvml.NVML_CLOCK_SM),
        ("memory_clock",): lambda: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_MEM),
        ("performance_state",): lambda: nvml.nvmlDeviceGetPerformanceState(gpu),
        ("throttle",): lambda: _throttle(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu)),
        ("ecc_corrected",): lambda: nvml.nvmlDeviceGetTotalEccErrors(gpu, corrected, now),
        ("ecc_uncorrected",): lambda: nvml.nvmlDeviceGetTotalEccErrors(gpu, uncorrected, now),
        ("ecc_uncorrected_ever",): lambda: nvml.nvmlDeviceGetTotalEccErrors(gpu, uncorrected, ever),
        ("remap_pending", "remap_failed"): lambda: [bool(v) for v in nvml.nvmlDeviceGetRemappedRows(gpu)[2:4]],
        ("recovery_action",): lambda: _recovery(nvml, gpu),
        ("pcie_generation",): lambda: nvml.nvmlDeviceGetCurrPcieLinkGeneration(gpu),
        ("pcie_generation_max",): lambda: nvml.nvmlDeviceGetMaxPcieLinkGeneration(gpu),
        ("pcie_width",): lambda: nvml.nvmlDeviceGetCurrPcieLinkWidth(gpu),
        ("pcie_width_max",): lambda: nvml.nvmlDeviceGetMaxPcieLinkWidth(gpu),
        ("pcie_sent",): lambda: nvml.nvmlDeviceGetPcieThroughput(gpu, nvml.NVML_PCIE_UTIL_TX_BYTES) * 1024,
        ("pcie_received",): lambda: nvml.nvmlDeviceGetPcieThroughput(gpu, nvml.NVML_PCIE_UTIL_RX_BYTES) * 1024,
        ("pcie_replays",): lambda: nvml.nvmlDeviceGetPcieReplayCounter(gpu),
        ("nvlinks",): lambda: _links(nvml, gpu),
        ("nvlink_errors",): lambda: _link_errors(nvml, gpu),
        ("nvlink_sent",): lambda: _field(nvml, gpu, sent) * 1024,
        ("nvlink_received",): lambda: _field(nvml, gpu, received) * 1024,
        ("processes",): lambda: _processes(nvml, gpu),
    }


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _is(reading: GpuReading, name: str) -> bool:
    """Whether a word of ``CUDA_VISIBLE_DEVICES`` means this GPU by its UUID, of which the beginning is enough."""
    return name.startswith("GPU-") and (reading.uuid or "").startswith(name)


def _memory(info: Any) -> tuple[int, int]:
    return int(info.used), int(info.total)


def _margin(nvml: Any, gpu: Any) -> int:
    try:
        return int(nvml.nvmlDeviceGetMarginTemperature(gpu))
    except nvml.NVMLError as error:
        if error.value == nvml.NVML_ERROR_GPU_IS_LOST:
            raise
    # Before Hopper only the temperature at which it slows down is told.
    limit = nvml.nvmlDeviceGetTemperatureThreshold(gpu, nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN)
    return int(limit) - int(nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU))


def _throttle(bits: int) -> tuple[str, ...]:
    return tuple(name for bit, name in THROTTLE_REASONS.items() if bits & bit)


def _field(nvml: Any, gpu: Any, number: int) -> int:
    (value,) = nvml.nvmlDeviceGetFieldValues(gpu, [number])
    if value.nvmlReturn:
        raise nvml.NVMLError(value.nvmlReturn)
    return int(value.value.ullVal if value.valueType in (2, 3) else value.value.uiVal)


def _recovery(nvml: Any, gpu: Any) -> str:
    number = _field(nvml, gpu, nvml.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION)
    return RECOVERY_ACTIONS.get(number, f"action {number}")


def _links(nvml: Any, gpu: Any) -> tuple[bool, ...]:
    """The state of each link; a GPU has fewer than the library could name, and refuses the rest."""
    found = []
    for link in range(nvml.NVML_NVLINK_MAX_LINKS):
        try:
            found.append(bool(nvml.nvmlDeviceGetNvLinkState(gpu, link)))
        except nvml.NVMLError as error:
            if error.value not in (nvml.NVML_ERROR_NOT_SUPPORTED, nvml.NVML_ERROR_INVALID_ARGUMENT):
                raise
            break
    if not found:
        raise nvml.NVMLError(nvml.NVML_ERROR_NOT_SUPPORTED)
    return tuple(found)


def _link_errors(nvml: Any, gpu: Any) -> int:
    count = len(_links(nvml, gpu))
    return sum(
        int(nvml.nvmlDeviceGetNvLinkErrorCounter(gpu, link, kind)) for link in range(count) for kind in LINK_ERRORS
    )


def _processes(nvml: Any, gpu: Any) -> tuple[GpuProcess, ...]:
    found = [*nvml.nvmlDeviceGetComputeRunningProcesses(gpu), *nvml.nvmlDeviceGetGraphicsRunningProcesses(gpu)]
    by_pid = {int(p.pid): GpuProcess(int(p.pid), p.usedGpuMemory) for p in found}
    return tuple(by_pid.values())
