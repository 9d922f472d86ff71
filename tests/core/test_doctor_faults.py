"""`maquette doctor`: each fault of a GPU, of the host and of the software is found, named, and told with its action."""

from __future__ import annotations

import os
import socket
from types import SimpleNamespace

import pytest

from maquette.doctor import clocks, disks, versions
from maquette.doctor.finding import Action, Status
from maquette.testing import FakeGpu
from tests.core.fake_machines import found, machine

GPU_FAULTS = {
    "uncorrected": (FakeGpu(ecc={(1, 0): 1}), "gpu.ecc_uncorrected", Status.CRITICAL, Action.RESET_GPU),
    "corrected": (FakeGpu(ecc={(0, 0): 20_000_000}), "gpu.ecc_corrected", Status.WARN, Action.SERVICE),
    "pending": (FakeGpu(remapped=(0, 1, 1, 0)), "gpu.remap_pending", Status.CRITICAL, Action.RESET_GPU),
    "failed": (FakeGpu(remapped=(0, 1, 0, 1)), "gpu.remap_failed", Status.CRITICAL, Action.SERVICE),
    "reset": (FakeGpu(recovery_action=1), "gpu.recovery_action", Status.CRITICAL, Action.RESET_GPU),
    "reboot": (FakeGpu(recovery_action=2), "gpu.recovery_action", Status.CRITICAL, Action.RESTART_OS),
    "drain": (FakeGpu(recovery_action=3), "gpu.recovery_action", Status.CRITICAL, Action.DRAIN),
    "drain and reset": (FakeGpu(recovery_action=4), "gpu.recovery_action", Status.CRITICAL, Action.RESET_GPU),
    "imex": (FakeGpu(recovery_action=5), "gpu.recovery_action", Status.CRITICAL, Action.SERVICE),
    "new action": (FakeGpu(recovery_action=77), "gpu.recovery_action", Status.CRITICAL, Action.SERVICE),
    "warm": (FakeGpu(temperature=84), "gpu.margin", Status.WARN, Action.SERVICE),
    "hot": (FakeGpu(temperature=87), "gpu.margin", Status.CRITICAL, Action.SERVICE),
    "throttled": (FakeGpu(throttle=0x40), "gpu.throttle", Status.WARN, Action.SERVICE),
    "brake": (FakeGpu(throttle=0x80 | 0x4), "gpu.throttle", Status.WARN, Action.SERVICE),
    "narrow": (FakeGpu(pcie_width=8), "gpu.pcie_width", Status.WARN, Action.SERVICE),
    "old slot": (FakeGpu(pcie_generation=3), "gpu.pcie_generation", Status.WARN, Action.SERVICE),
    "link down": (FakeGpu(nvlinks=(True, False, True)), "gpu.nvlinks", Status.WARN, Action.SERVICE),
    "link errors": (FakeGpu(nvlink_errors=2), "gpu.nvlink_errors", Status.WARN, Action.SERVICE),
    "stranger": (FakeGpu(processes=((999_999, 16 * 2**20),)), "gpu.foreign_processes", Status.WARN, Action.DRAIN),
    "lost": (FakeGpu(errors={"all": "GPU_IS_LOST"}), "gpu.present", Status.CRITICAL, Action.RESTART_OS),
    "no word": (FakeGpu(errors={"RemappedRows": "NO_PERMISSION"}), "gpu.remap_failed", Status.UNKNOWN, Action.NONE),
    "odd error": (FakeGpu(errors={"FieldValues": "UNKNOWN"}), "gpu.recovery_action", Status.UNKNOWN, Action.NONE),
}


ROOMY = SimpleNamespace(f_blocks=1000, f_bfree=500, f_bavail=500, f_frsize=2**30, f_files=100, f_favail=90, f_flag=0)


@pytest.fixture(autouse=True)
def _a_disk_with_room(monkeypatch):
    """What the disk of these tests has free is no fault of the machine that is examined."""
    monkeypatch.setattr(os, "statvfs", lambda path: ROOMY)


@pytest.mark.parametrize("fault", GPU_FAULTS)
def test_each_fault_of_a_gpu_is_found_on_that_gpu_and_nothing_else(fault, tmp_path):
    gpu, id, status, action = GPU_FAULTS[fault]
    bad = found("gpu", machine(tmp_path, gpus=(FakeGpu(), gpu)))
    assert (bad[id].status, bad[id].action, bad[id].subject) == (status, action, "GPU 1")
    assert bad[id].evidence and bad[id].machine
    assert set(bad) <= {id, "gpu.remap_pending"}  # both are told of by the same call


def test_a_healthy_gpu_has_no_finding_whatever_it_lacks(tmp_path):
    lacking = FakeGpu(nvlinks=(), throttle=0x1 | 0x2 | 0x4, performance_state=8, pcie_generation=1,
                      processes=((os.getpid(), 2**30), (999_999, 2**20)),
                      errors={"TotalEccErrors": "NOT_SUPPORTED", "RemappedRows": "NOT_SUPPORTED"})  # fmt: skip
    assert found("gpu", machine(tmp_path, gpus=(FakeGpu(), lacking))) == {}


@pytest.mark.parametrize(("number", "action"), [(48, Action.RESET_GPU), (79, Action.RESTART_OS)])
def test_a_serious_xid_counts_for_two_hours(number, action, tmp_path):
    def log(seconds_ago):
        line = f"4,2,{int((10000 - seconds_ago) * 1e6)},-;NVRM: Xid (PCI:0000:3b:00): {number}, pid=1\n"
        harmless = f"4,2,{int(9999e6)},-;NVRM: Xid (PCI:0000:3b:00): 31, pid=1\n"
        return found("gpu", machine(tmp_path, gpus=(FakeGpu(),), files={"kmsg": line + harmless}))

    (finding,) = log(3600).values()
    assert (finding.id, finding.value, finding.subject, finding.action) == ("gpu.xid", number, "GPU 0", action)
    assert log(3 * 3600) == {}


def test_a_kernel_log_that_may_not_be_read_is_unknown_and_not_fine(tmp_path):
    where = machine(tmp_path, gpus=(FakeGpu(),))
    where.kernel_log = tmp_path / "nothing"
    assert found("gpu", where)["gpu.xid"].status is Status.UNKNOWN


def test_a_driver_that_is_broken_or_missing_is_critical(tmp_path):
    assert found("gpu", machine(tmp_path, driver_error="LIB_RM_VERSION_MISMATCH"))["gpu.driver"].action == "restart_os"
    pci = {"sys/bus/pci/devices/a/vendor": "0x10de\n", "sys/bus/pci/devices/a/class": "0x030200\n"}
    assert found("gpu", machine(tmp_path, files=pci))["gpu.driver"].action is Action.INSTALL


HOST_FAULTS = {
    "no memory": ("memory", {"proc/meminfo": "MemTotal: 100 kB\nMemAvailable: 5 kB\n"}, "memory.available", "WARN"),
    "swapping": ("memory", {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable: 5 kB\nSwapTotal: 9 kB\nSwapFree: 1 kB\n"},
                 "memory.swap", "WARN"),
    "near the limit": ("memory", {"sys/fs/cgroup/memory.current": "950\n"}, "memory.cgroup", "WARN"),
    "killed": ("memory", {"sys/fs/cgroup/memory.events": "oom_kill 2\n"}, "memory.oom_kills", "WARN"),
    "waiting": ("memory", {"proc/pressure/io": "some avg10=60.0\nfull avg10=40.0\n"}, "pressure.io", "WARN"),
    "no word of waiting": ("memory", {"proc/pressure/io": ""}, "pressure.io", "UNKNOWN"),
    "no word of memory": ("memory", {"proc/meminfo": ""}, "memory.available", "UNKNOWN"),
    "link down": ("network", {"sys/class/infiniband/m/ports/1/state": "1: DOWN\n",
                              "sys/class/infiniband/m/ports/1/rate": "400 Gb/sec\n"}, "network.infiniband", "CRITICAL"),
}  # fmt: skip


@pytest.mark.parametrize("fault", HOST_FAULTS)
def test_each_fault_of_the_host_is_found_and_nothing_else(fault, tmp_path):
    name, files, id, status = HOST_FAULTS[fault]
    bad = found(name, machine(tmp_path, files=files))
    assert {id: status} == {id: str(finding.status) for id, finding in bad.items()}


def test_a_slow_link_of_infiniband_is_named_beside_its_neighbours(tmp_path):
    files = {}
    for port, rate in ((1, 400), (2, 100)):
        files |= {f"sys/class/infiniband/m/ports/{port}/state": "4: ACTIVE\n",
                  f"sys/class/infiniband/m/ports/{port}/rate": f"{rate} Gb/sec\n"}  # fmt: skip
    assert found("network", machine(tmp_path, files=files))["network.infiniband"].subject == "m/2"


@pytest.mark.parametrize(("free", "status"), [(0.20, None), (0.08, "WARN"), (0.04, "CRITICAL")])
def test_a_full_disk_is_critical_at_95_percent(free, status, tmp_path, monkeypatch):
    left = SimpleNamespace(**{**vars(ROOMY), "f_bfree": int(1000 * free), "f_bavail": int(1000 * free)})
    monkeypatch.setattr(os, "statvfs", lambda path: left)
    bad = found("disk", machine(tmp_path))
    assert (str(bad["disk.space"].status) if bad else None) == status
    assert not bad or bad["disk.space"].action is Action.FREE_SPACE


def test_room_for_two_checkpoints(tmp_path):
    room = ROOMY.f_bavail * ROOMY.f_frsize
    assert "disk.checkpoints" not in found("disk", machine(tmp_path, checkpoint_bytes=room // 100))
    assert found("disk", machine(tmp_path, checkpoint_bytes=room))["disk.checkpoints"].status is Status.CRITICAL


def test_a_disk_that_does_not_give_back_what_it_took(tmp_path, monkeypatch):
    reading = disks.disk.WriteReading(2**20, 0.1, 0.1, 0.1, equal=False)
    monkeypatch.setattr(disks.disk, "write_and_read", lambda folder, size: reading)
    assert found("disk", machine(tmp_path))["disk.write"].action is Action.SERVICE


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    def refuse(folder, size):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(disks.disk, "write_and_read", refuse)
    finding = found("disk", machine(tmp_path))["disk.write"]
    assert finding.status is Status.CRITICAL and "Read-only" in finding.evidence


def test_temporary_files_on_a_network_are_told_of(tmp_path):
    bad = found("disk", machine(tmp_path, files={"proc/mounts": "x / nfs4 rw 0 0\n"}))
    assert set(bad) == {"disk.tmpdir"} and "TMPDIR" in bad["disk.tmpdir"].evidence


def test_a_port_that_is_taken(tmp_path):
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        port = other.getsockname()[1]
        finding = found("network", machine(tmp_path), port=port)["network.port"]
    assert finding.status is Status.CRITICAL and str(port) in finding.evidence
    assert "network.port" not in found("network", machine(tmp_path), port=port)


def test_a_port_that_our_own_launcher_holds_is_not_taken(tmp_path, monkeypatch):
    with socket.socket() as launcher:
        launcher.bind(("", 0))
        launcher.listen()
        monkeypatch.setenv("MASTER_PORT", str(launcher.getsockname()[1]))
        monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
        assert "network.port" in found("network", machine(tmp_path))
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a")
        assert "network.port" not in found("network", machine(tmp_path))


def test_files_that_the_kernel_has_at_hand_are_no_lack_of_memory(tmp_path):
    cached = {"sys/fs/cgroup/memory.current": "950\n", "sys/fs/cgroup/memory.stat": "anon 300\ninactive_file 600\n"}
    assert found("memory", machine(tmp_path, files=cached)) == {}


def test_limits_of_the_shell(tmp_path):
    bad = found("limits", machine(tmp_path), open_files=2**40)
    assert bad["limits.open_files"].status is Status.WARN and "ulimit -n" in bad["limits.open_files"].evidence


@pytest.mark.parametrize(("state", "status"), [(0, None), (5, Status.WARN), (-1, Status.UNKNOWN)])
def test_a_clock_that_nobody_keeps(state, status, tmp_path, monkeypatch):
    monkeypatch.setattr(clocks, "kernel_clock_state", lambda: state)
    bad = found("clock", machine(tmp_path))
    assert (bad["clock.ntp"].status if bad else None) is status


def test_malicious_and_missing_packages(tmp_path, monkeypatch):
    real = versions.installed_version
    fakes = {"lightning": "2.6.3", "rich": "1.0", "einops": None}
    monkeypatch.setattr(versions, "installed_version", lambda name: fakes.get(name, real(name)))
    bad = found("versions", machine(tmp_path))
    assert bad["versions.malicious"].status is Status.CRITICAL and "2.6.3" in bad["versions.malicious"].evidence
    assert "wants rich" in bad["versions.required"].evidence and "einops" in bad["versions.required"].evidence


def test_a_gpu_that_torch_cannot_use(tmp_path, monkeypatch):
    import torch

    where = machine(tmp_path, gpus=(FakeGpu(),))
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "without CUDA" in found("versions", where)["versions.cuda"].evidence
    monkeypatch.setattr(torch.version, "cuda", "14.0")
    assert "at most 13.0" in found("versions", where)["versions.cuda"].evidence
