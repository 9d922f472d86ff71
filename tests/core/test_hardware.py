"""Readings of the machine: fake GPUs stand for real ones, folders for /proc and /sys, this machine for itself."""

from __future__ import annotations

import os
import threading
from dataclasses import fields
from pathlib import Path

import pytest

from maquette.errors import MaquetteError
from maquette.hardware import cgroups, disk, xids
from maquette.hardware.gpu import GpuReading
from maquette.hardware.host import Host
from maquette.hardware.nvml import Nvml
from maquette.testing import FakeGpu, FakeNvml


def write(root, **files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_machine_without_a_driver_has_no_gpu():
    assert Nvml.open(FakeNvml(driver_error="LIBRARY_NOT_FOUND")) is None
    assert Nvml.open(FakeNvml(driver_error="DRIVER_NOT_LOADED")) is None


def test_a_driver_that_does_not_answer_is_an_error():
    with pytest.raises(MaquetteError, match="driver does not answer"):
        Nvml.open(FakeNvml(driver_error="LIB_RM_VERSION_MISMATCH"))


def test_every_reading_of_a_healthy_gpu_is_there_in_its_unit():
    library = FakeNvml(FakeGpu(power=120_500, throttle=0x4 | 0x40, processes=((7, 1000),)))
    with Nvml.open(library) as nvml:
        (reading,) = nvml.read_all()
        assert (nvml.driver, nvml.cuda) == ("580.65.06", (13, 0))
    assert library.opened == 0
    empty = [f.name for f in fields(GpuReading) if getattr(reading, f.name) is None]
    assert empty == [] and reading.unreadable == {}
    assert reading.power == 120.5 and reading.pcie_received == 2000 * 1024 and reading.margin == 52
    assert reading.throttle == ("power_cap", "hardware_thermal")
    assert reading.processes[0].pid == 7


def test_what_a_gpu_does_not_have_is_told_apart_from_what_it_does_not_tell():
    gpu = FakeGpu(errors={"TotalEccErrors": "NOT_SUPPORTED", "RemappedRows": "NO_PERMISSION"})
    reading = Nvml(FakeNvml(gpu)).read(0)
    assert reading.ecc_uncorrected is None and reading.remap_failed is None
    assert set(reading.unreadable) == {"remap_pending", "remap_failed"}


def test_a_gpu_off_the_bus_is_lost_and_the_others_are_read():
    lost, fine = Nvml(FakeNvml(FakeGpu(errors={"all": "GPU_IS_LOST"}), FakeGpu())).read_all()
    assert lost.lost and not fine.lost and fine.temperature == 35


def test_the_margin_of_older_gpus_is_the_distance_to_their_threshold():
    assert Nvml(FakeNvml(FakeGpu(errors={"MarginTemperature": "FUNCTION_NOT_FOUND"}))).read(0).margin == 52


@pytest.mark.parametrize(("visible", "indices"), [("1", [1]), ("", []), ("GPU-b", [1]), ("MIG-x", [0, 1])])
def test_only_gpus_of_this_process_are_read(visible, indices, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    readings = Nvml(FakeNvml(FakeGpu(uuid="GPU-a"), FakeGpu(uuid="GPU-b"))).read_all(fast=True)
    assert [reading.index for reading in readings] == indices


def test_events_are_told_once():
    library = FakeNvml(FakeGpu(), FakeGpu())
    nvml = Nvml(library)
    assert list(nvml.events()) == []
    library.tell(1, library.nvmlEventTypeXidCriticalError, 79)
    library.tell(0, library.nvmlEventTypeDoubleBitEccError)
    assert [(e.gpu, e.kind, e.xid) for e in nvml.events()] == [(1, "xid", 79), (0, "ecc_uncorrected", None)]
    assert list(nvml.events()) == []


def test_the_fake_has_nothing_that_the_real_library_lacks():
    pynvml = pytest.importorskip("pynvml")
    names = [name for name in dir(FakeNvml) if name.lower().startswith("nvml")]
    from maquette.testing.fake_nvml import ERRORS, READINGS

    names += [f"nvmlDeviceGet{call}" for call in READINGS]
    assert [name for name in names if not hasattr(pynvml, name)] == []
    assert {name: getattr(pynvml, f"NVML_ERROR_{name}") for name in ERRORS} == ERRORS
    numbers = [name for name in names if isinstance(getattr(FakeNvml, name, None), int)]
    assert {name: getattr(pynvml, name) for name in numbers} == {name: getattr(FakeNvml, name) for name in numbers}


def test_this_machine_can_be_read():
    host = Host()
    memory, cpu, own = host.memory(), host.cpu(), host.process()
    assert 0 < memory.available <= memory.total and 0 < cpu.busy < cpu.total
    assert cpu.count >= len(os.sched_getaffinity(0)) and own.threads >= threading.active_count()
    assert own.memory > 2**20 and own.state == "R"
    assert host.limit("RLIMIT_NOFILE").soft > 0
    found = disk.read(Path("/dev/shm"))
    assert found.kind == "tmpfs" and found.mount == "/dev/shm" and 0 <= found.percent <= 100


PROC = {
    "meminfo": "MemTotal:  1000 kB\nMemAvailable:  250 kB\nSwapTotal: 100 kB\nSwapFree: 40 kB\nHugePages_Total: 0\n",
    "stat": "cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 50 0 50 350 50 0 0 0 0 0\ncpu1 50 0 50 350 50 0 0 0 0 0\nctxt 1\n",
    "pressure/memory": "some avg10=12.50 avg60=0 avg300=0 total=9\nfull avg10=3.25 avg60=0 avg300=0 total=4\n",
    "net/dev": "Inter-|\n face |\n    lo: 9 0 0 0 0 0 0 0 9 0\n  eth0: 100 0 0 0 0 0 0 0 30 0\n",
    "diskstats": "8 0 sda 1 0 10 0 1 0 20 0 0\n8 1 sda1 1 0 10 0 1 0 20 0 0\n253 0 dm-0 1 0 10 0 1 0 20 0 0\n",
    "uptime": "5000.25 1.0\n",
}  # fmt: skip


def test_files_of_proc_and_sys_are_read_in_bytes_and_seconds(tmp_path):
    write(tmp_path, **{f"proc/{name}": text for name, text in PROC.items()})
    port, device = "sys/class/infiniband/mlx5_0/ports/1", "sys/bus/pci/devices/a"
    write(tmp_path, **{"sys/block/sda/size": "1", "sys/block/dm-0/slaves/sda/size": "1"})
    write(tmp_path, **{f"{device}/vendor": "0x10de\n", f"{device}/class": "0x030200\n"})
    write(tmp_path, **{f"{port}/state": "4: ACTIVE\n", f"{port}/rate": "400 Gb/sec (4X NDR)\n"})
    host = Host(tmp_path / "proc", tmp_path / "sys")
    memory = host.memory()
    assert (memory.total, memory.available, memory.swap_free) == (1024_000, 256_000, 40_960)
    ticks = os.sysconf("SC_CLK_TCK")
    cpu = host.cpu()
    assert (cpu.busy, cpu.total, cpu.count) == (200 / ticks, 1000 / ticks, 2)
    assert (host.pressure("memory").some, host.pressure("memory").full) == (12.5, 3.25)
    assert host.pressure("io") is None
    assert (host.network_traffic().incoming, host.network_traffic().outgoing) == (100, 30)
    assert (host.disk_traffic().incoming, host.disk_traffic().outgoing) == (10 * 512, 20 * 512)
    assert host.uptime() == 5000.25 and host.nvidia_devices() == 1
    assert host.infiniband() == {"mlx5_0/1": ("ACTIVE", 400.0)}


def test_nothing_is_made_up_where_nothing_is_told(tmp_path):
    host = Host(tmp_path, tmp_path)
    assert [host.memory(), host.cpu(), host.process(), host.pressure("cpu"), host.uptime()] == [None] * 5
    assert host.disk_traffic() is None and host.network_traffic() is None and host.infiniband() == {}
    assert cgroups.read(tmp_path, tmp_path) is None


def test_limits_of_both_versions_of_control_groups(tmp_path):
    one = write(tmp_path / "one", **{"proc/self/cgroup": "4:memory:/a/b\n0::/\n",
        "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes": "9223372036854771712\n",
        "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "4096\n",
        "sys/fs/cgroup/memory/a/b/memory.usage_in_bytes": "1024\n",
        "sys/fs/cgroup/memory/a/b/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"})  # fmt: skip
    two = write(tmp_path / "two", **{"proc/self/cgroup": "0::/x\n", "sys/fs/cgroup/cgroup.controllers": "memory\n",
        "sys/fs/cgroup/x/memory.max": "max\n", "sys/fs/cgroup/x/memory.current": "7\n",
        "sys/fs/cgroup/x/memory.events": "low 0\noom_kill 2\n"})  # fmt: skip
    assert cgroups.read(one / "proc", one / "sys") == cgroups.CgroupReading(1, 4096, 1024, 3)
    assert cgroups.read(two / "proc", two / "sys") == cgroups.CgroupReading(2, None, 7, 2)


def test_a_file_is_written_read_back_and_gone(tmp_path):
    other = tmp_path / f".maquette_write_{os.getpid()}"  # of a process of the same number, on another machine
    other.touch()
    assert disk.write_and_read(tmp_path, 2**20).equal and other.exists()
    other.unlink()
    reading = disk.write_and_read(tmp_path, 3 * 2**20)
    assert reading.equal and reading.size == 3 * 2**20 and list(tmp_path.iterdir()) == []


def test_the_file_system_of_a_folder_that_is_not_there_yet(tmp_path):
    assert disk.read(tmp_path / "a" / "b").mount == disk.read(tmp_path).mount != ""


def test_xids_are_found_in_the_kernels_log(tmp_path):
    log = tmp_path / "kmsg"
    log.write_text(
        "6,1,1000000,-;something else\n"
        "4,2,2500000,-;NVRM: Xid (PCI:0000:3b:00): 79, pid=17, GPU has fallen off the bus.\n"
        "4,3,3000000,c;NVRM: Xid (PCI:0000:5e:00): 31, pid=18, name=python\n"
    )
    assert xids.read(log) == [xids.Xid(2.5, "0000:3b:00", 79), xids.Xid(3.0, "0000:5e:00", 31)]
    with pytest.raises(OSError):
        xids.read(tmp_path / "nothing")
