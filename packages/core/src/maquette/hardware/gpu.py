"""What one look at a GPU gives."""

from __future__ import annotations

from dataclasses import dataclass, field

MIB = 2**20

THROTTLE_REASONS = {
    0x001: "idle",
    0x002: "application_clocks",
    0x004: "power_cap",
    0x008: "hardware_slowdown",
    0x010: "sync_boost",
    0x020: "software_thermal",
    0x040: "hardware_thermal",
    0x080: "power_brake",
    0x100: "display_clocks",
    0x200: "board_limit",
    0x400: "reliability",
}
"""Bits of NVML's clock event reasons."""

HARMFUL = frozenset({"hardware_slowdown", "software_thermal", "hardware_thermal", "power_brake", "reliability"})
"""Those that something is wrong with the machine; idling, limits of power and clocks that somebody has set are not."""

RECOVERY_ACTIONS = {
    0: "none",
    1: "gpu_reset",
    2: "node_reboot",
    3: "drain_p2p",
    4: "drain_and_reset",
    5: "recover_imex_domain",
    6: "bus_reset",
    7: "system_reboot",
}
"""Values of NVML's GPU recovery action."""


@dataclass(frozen=True)
class GpuProcess:
    """A process that uses a GPU; ``memory`` in bytes, None where the driver does not tell."""

    pid: int
    memory: int | None = None


@dataclass(frozen=True)
class GpuReading:
    """One look at one GPU. A field is None where the GPU does not have it or where it could not be read.

    Attributes:
        index: as NVML counts; ``CUDA_VISIBLE_DEVICES`` does not change it.
        name: e.g. ``NVIDIA H200``.
        uuid: e.g. ``GPU-...``.
        bus: PCI address, e.g. ``00000000:3B:00.0``.
        utilization: share of the last sample in which a kernel ran, in percent.
        memory_used, memory_total: bytes.
        temperature: of the chip, in Celsius.
        margin: how many degrees are left until the GPU slows itself down.
        power, power_limit: watts.
        sm_clock, sm_clock_max, memory_clock: MHz.
        performance_state: 0 is the fastest, e.g. 8 an idle one.
        throttle: why the clocks are below their best, names of :data:`THROTTLE_REASONS`.
        ecc_corrected, ecc_uncorrected: memory errors since the driver was loaded.
        ecc_uncorrected_ever: memory errors in the GPU's life.
        remap_pending, remap_failed: whether rows of memory wait to be replaced, or could not be.
        recovery_action: what the driver asks for, of :data:`RECOVERY_ACTIONS`.
        pcie_generation, pcie_generation_max, pcie_width, pcie_width_max: of the link;
            an idle one lowers its generation.
        pcie_sent, pcie_received: bytes per second over the last 20 ms.
        pcie_replays: packets that were sent again since the driver was loaded.
        nvlinks: for each link that the GPU has, whether it is up.
        nvlink_errors: CRC, replay and recovery errors of all links together.
        nvlink_sent, nvlink_received: bytes over all links since the driver was loaded.
        processes: that use the GPU.
        unreadable: fields that could not be read, with the reason; what the GPU does not have is not among them.
        lost: the GPU has fallen off the bus; nothing else is known then.
    """

    index: int
    name: str | None = None
    uuid: str | None = None
    bus: str | None = None
    utilization: int | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    temperature: int | None = None
    margin: int | None = None
    power: float | None = None
    power_limit: float | None = None
    sm_clock: int | None = None
    sm_clock_max: int | None = None
    memory_clock: int | None = None
    performance_state: int | None = None
    throttle: tuple[str, ...] | None = None
    ecc_corrected: int | None = None
    ecc_uncorrected: int | None = None
    ecc_uncorrected_ever: int | None = None
    remap_pending: bool | None = None
    remap_failed: bool | None = None
    recovery_action: str | None = None
    pcie_generation: int | None = None
    pcie_generation_max: int | None = None
    pcie_width: int | None = None
    pcie_width_max: int | None = None
    pcie_sent: int | None = None
    pcie_received: int | None = None
    pcie_replays: int | None = None
    nvlinks: tuple[bool, ...] | None = None
    nvlink_errors: int | None = None
    nvlink_sent: int | None = None
    nvlink_received: int | None = None
    processes: tuple[GpuProcess, ...] | None = None
    unreadable: dict[str, str] = field(default_factory=dict)
    lost: bool = False


@dataclass(frozen=True)
class GpuEvent:
    """Something that the driver told of: ``kind`` is ``xid``, ``ecc_corrected`` or ``ecc_uncorrected``.

    Attributes:
        gpu: its index.
        kind: what happened.
        xid: the number of the error, for an ``xid``.
    """

    gpu: int
    kind: str
    xid: int | None = None
