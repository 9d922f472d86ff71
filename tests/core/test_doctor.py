"""`maquette doctor`: faults of the host, of GPUs, of a rank: each is found, named, and told with its action."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from maquette import cli as command_line
from maquette import plugins
from maquette.cli.doctor import doctor as command
from maquette.cli.worker import work
from maquette.config import load_run_config
from maquette.doctor import burn_in, clocks, collectives, disks, gate, versions
from maquette.doctor.checkpoint_size import newest_checkpoint_bytes, planned_checkpoint_bytes
from maquette.doctor.examination import Report, build_checks, examine
from maquette.doctor.finding import Action, Finding, Status, judge, worst
from maquette.doctor.machine import Machine, outliers
from maquette.errors import MaquetteError, Outcome
from maquette.hardware.host import Host
from maquette.launching.failure import Failure
from maquette.launching.outcome import OUTCOME
from maquette.parallel.layout import Layout
from maquette.parallel.mesh import Mesh
from maquette.runner import train
from maquette.testing import FakeGpu, FakeNvml, run_ranks

HOST = {
    "proc/meminfo": "MemTotal: 1000 kB\nMemAvailable: 500 kB\nSwapTotal: 100 kB\nSwapFree: 90 kB\n",
    "proc/self/cgroup": "0::/\n",
    "proc/uptime": "10000.0 1.0\n",
    "proc/mounts": "x / ext4 rw 0 0\n",
    "proc/pressure/cpu": "some avg10=1.00 avg60=0 avg300=0 total=9\n",
    "proc/pressure/memory": "some avg10=1.00 avg60=0 avg300=0 total=9\nfull avg10=0.50 avg60=0 avg300=0 total=4\n",
    "proc/pressure/io": "some avg10=1.00 avg60=0 avg300=0 total=9\nfull avg10=0.50 avg60=0 avg300=0 total=4\n",
    "sys/fs/cgroup/cgroup.controllers": "memory\n",
    "sys/fs/cgroup/memory.max": "1000\n",
    "sys/fs/cgroup/memory.current": "100\n",
    "sys/fs/cgroup/memory.events": "oom_kill 0\n",
    "kmsg": "",
}
"""A machine on which all is well."""

TOY = Path(__file__).with_name("toy_plugin.py")
BLOCKS = ["data.name=toy", "model.name=toy", "model.width=${facts:width}", "objective.name=toy"]


def machine(folder, *, gpus=(), driver_error="", files=None, **settings):
    for name, text in {**HOST, **(files or {})}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    library = FakeNvml(*gpus, driver_error=driver_error or ("" if gpus else "LIBRARY_NOT_FOUND"))
    host = Host(folder / "proc", folder / "sys")
    run = folder / "run"
    run.mkdir(exist_ok=True)
    return Machine(Mesh(Layout()), True, run, host=host, nvml=library, kernel_log=folder / "kmsg", **settings)


def found(name, where, **settings):
    """The findings of one check that are not fine: id -> finding."""
    report = examine(where, build_checks({name: settings}, [name]))
    return {f.id: f for f in report.findings if f.status not in (Status.PASS, Status.NOT_APPLICABLE)}


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


@pytest.mark.parametrize("fault", GPU_FAULTS)
def test_each_fault_of_a_gpu_is_found_on_that_gpu_and_nothing_else(fault, tmp_path):
    gpu, id, status, action = GPU_FAULTS[fault]
    bad = found("gpu", machine(tmp_path, gpus=(FakeGpu(), gpu)))
    assert (bad[id].status, bad[id].action, bad[id].subject) == (status, action, "GPU 1")
    assert bad[id].evidence and bad[id].machine
    assert set(bad) <= {id, "gpu.remap_pending"}  # both are told of by the same call


def test_a_healthy_gpu_has_no_finding_whatever_it_lacks(tmp_path):
    lacking = FakeGpu(nvlinks=(), throttle=0x4, performance_state=8, pcie_generation=1,
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
    def statvfs(path):
        return SimpleNamespace(f_blocks=1000, f_bfree=int(1000 * free), f_bavail=int(1000 * free), f_frsize=2**30,
                               f_files=100, f_favail=90, f_flag=0)  # fmt: skip

    where = machine(tmp_path)
    monkeypatch.setattr(os, "statvfs", statvfs)
    bad = found("disk", where)
    assert (str(bad["disk.space"].status) if bad else None) == status
    assert not bad or bad["disk.space"].action is Action.FREE_SPACE


def test_room_for_two_checkpoints(tmp_path):
    room = os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize
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


@pytest.mark.parametrize("kind", ["float32", "ternary"])
def test_the_stored_answers_are_those_of_integers_and_never_rounded(kind):
    import numpy as np
    import torch

    a, b = burn_in.integers(kind)
    assert (np.abs(a).astype(float) @ np.abs(b).astype(float)).max() < 2**24
    bits = 8  # of bfloat16
    assert all(v == 0 or abs(v) >> max(int(abs(v)).bit_length() - bits, 0) << max(int(abs(v)).bit_length() - bits, 0)
               == abs(v) for v in np.unique(a))  # fmt: skip
    for rows in (burn_in.SIZE, burn_in.QUICK_ROWS):
        product = torch.from_numpy((a[:rows].astype(float) @ b.astype(float)).astype(np.float32))
        assert burn_in.digest(product) == burn_in.ANSWERS[kind, rows]


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_one_wrong_bit_of_one_value_is_found_and_placed(precision, tmp_path, monkeypatch):
    right = burn_in.PRODUCTS[precision]

    def wrong(a, b):
        product = right(a, b)
        product[17, 5] += product[17, 5].abs() * 2**-7 + 1
        return product

    monkeypatch.setitem(burn_in.PRODUCTS, precision, wrong)
    (finding,) = found("matmul", machine(tmp_path)).values()
    assert (finding.id, finding.status, finding.action) == (f"matmul.{precision}", Status.CRITICAL, Action.DRAIN)
    assert "1 of 262144 values" in finding.evidence and "row 17, column 5" in finding.evidence


def test_the_answer_does_not_depend_on_how_sums_are_cut_up():
    import torch

    for kind in ("float32", "ternary"):
        a, b = burn_in.operands(kind)
        pieces = [a[:, at : at + 37] @ b[at : at + 37] for at in range(0, a.shape[1], 37)]
        backwards = torch.zeros(burn_in.SIZE, burn_in.SIZE)
        for piece in reversed(pieces):
            backwards += piece
        assert burn_in.digest(backwards) == burn_in.ANSWERS[kind, burn_in.SIZE]


def test_who_is_slow():
    assert outliers([10, 10, 7, 10], 0.75) == [2]
    assert outliers([10, 7], 0.75) == [1] and outliers([10, 9], 0.75) == [] and outliers([3], 0.75) == []
    ring = {(0, 1): 10.0, (1, 2): 2.0, (2, 3): 2.0, (3, 4): 10.0, (4, 0): 10.0}
    assert collectives.slow_links(ring, 0.75) == {(1, 2): 2, (2, 3): 2}
    assert collectives.slow_links({**ring, (2, 3): 10.0}, 0.75) == {(1, 2): None}


def ill_ranks(folder):
    """What three ranks find where rank 2 computes wrongly and rank 1's clock is off."""
    rank = int(os.environ["RANK"])
    right = burn_in.PRODUCTS["float32"]
    if rank == 2:
        burn_in.PRODUCTS["float32"] = lambda a, b: right(a, b) + 1
    mesh = Mesh(Layout(data=3))
    where = Machine(mesh, True, Path(folder), nvml=FakeNvml(driver_error="LIBRARY_NOT_FOUND"))
    if rank == 1:
        real = where.now
        where.now = lambda: real() + 100
    checks = build_checks({}, ["skew", "same_versions", "matmul", "collectives"])
    quick = examine(where, checks)
    where.quick = False
    speeds = examine(where, build_checks({"collectives": {"sizes_kib": [4, 64], "repeats": 2},
                                          "transfers": {"mib": 1}}, ["collectives", "transfers"]))  # fmt: skip
    try:
        gate.build_checks = lambda settings: build_checks({}, ["matmul"])
        gate.pass_gate("require", mesh, Path(folder))
        refused = ""
    except MaquetteError as error:
        refused = str(error)
    mesh.stop()
    return quick.plain(), speeds.plain(), refused


def test_ranks_compare_and_name_the_one_that_is_ill(tmp_path):
    results = run_ranks(ill_ranks, 3, str(tmp_path))
    quick, speeds, refused = results[0]
    assert all(theirs[0]["findings"] == quick["findings"] for theirs in results)
    named = {f["id"]: f["subject"] for f in quick["findings"] if f["status"] == "CRITICAL"}
    assert named == {"clock.skew": "rank 1", "matmul.float32": "rank 2"}
    values = {f["id"]: f["value"] for f in speeds["findings"] if f["status"] != "not applicable"}
    assert values["collective.all_reduce"] > 0 and values["collective.all_gather"] > 0
    assert values["collective.links"] > 0 and values["transfer.memory"] > 0
    assert values["collective.content"] == "right"
    assert refused.startswith("doctor=require: CRITICAL matmul.float32 (rank 2)") and "action: drain" in refused
    assert {theirs[2] for theirs in results} == {refused}


def test_the_worst_finding_decides_and_what_is_unknown_outweighs_what_is_fine():
    def report(*statuses):
        return Report([Finding("x", status) for status in statuses])

    assert report(Status.PASS, Status.NOT_APPLICABLE).exit_status == 0
    assert report(Status.PASS, Status.UNKNOWN).exit_status == 3
    assert report(Status.UNKNOWN, Status.WARN).exit_status == 1
    assert report(Status.UNKNOWN, Status.WARN, Status.CRITICAL).exit_status == 2
    assert worst([]) is Status.PASS
    assert judge("x", 5, warn=5).status is Status.WARN and judge("x", 5, warn=5, at_least=True).status is Status.PASS


def call(*words):
    """(exit status, standard output, standard error) of the command in this process."""
    runner = CliRunner()
    try:
        result = runner.invoke(command, list(words), standalone_mode=False)
        raised = result.exception
    except MaquetteError as error:  # older click lets it through
        raised, result = error, None
    status = getattr(raised, "exit_code", 0) if isinstance(raised, Outcome) else (1 if raised else 0)
    return status, result.output if result else "", raised


def test_the_json_has_its_keys_and_the_file_the_same(tmp_path):
    output = tmp_path / "report.json"
    status, text, _ = call("--quick", "--only", "limits", "--json", "--output", str(output))
    report = json.loads(text)
    assert report == json.loads(output.read_text())
    assert set(report) == {"schema", "status", "exit_status", "processes", "machines", "seconds", "findings"}
    assert (report["schema"], report["exit_status"], report["processes"]) == (1, status, 1)
    keys = {"id", "status", "subject", "machine", "value", "unit", "threshold", "evidence", "action"}
    assert all(set(finding) == keys for finding in report["findings"])
    assert Report.read(report).plain() == report


def test_the_exit_status_tells_the_worst(tmp_path):
    assert call("--quick", "--only", "limits", "limits.open_files=1", "limits.processes=1")[0] == 0
    status, text, error = call("--quick", "--only", "limits", f"limits.open_files={2**40}")
    assert status == 1 and "WARN  limits.open_files" in text and "limits.open_files" in str(error)
    assert call("--quick", "--only", "disk", "disk.full_percent=0.001")[0] == 2


def test_wrong_words_are_one_line():
    for words, said in (
        (["--only", "disc"], "did you mean 'disk'"),
        (["disk.full=1"], "full_percent"),
        (["disk=1"], "CHECK.key=value"),
        (["nowhere.yaml"], "does not exist"),
        (["--nproc", "0"], "at least 1"),
    ):
        assert said in str(call(*words)[2])


def test_a_launched_doctor_is_not_started_again(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_ERROR_FILE", raising=False)
    status = work(["doctor", "--quick", "--only", "disk", "disk.full_percent=0.001"])
    failure = Failure(0, 1, status, 0.0)
    assert status == OUTCOME + 2 and failure.outcome == 2 and failure.final


def test_two_processes_of_its_own(tmp_path, capfd):
    words = ["doctor", "--nproc", "2", "--quick", "--json", "disk.full_percent=0.001"]
    only = [word for name in ("disk", "collectives", "matmul", "skew") for word in ("--only", name)]
    status = command_line.run(command_line.cli, [*words, *only], standalone_mode=False)
    out, error = capfd.readouterr()
    report = json.loads(out)
    assert status == 2 and report["processes"] == 2 and "CRITICAL disk.space" in error
    fine = {f["id"] for f in report["findings"] if f["status"] == "PASS"}
    assert {"collective.content", "matmul.float32", "matmul.bfloat16", "clock.skew"} <= fine


def test_a_plugins_check_counts_and_a_broken_one_is_unknown(tmp_path):
    class Sick:
        together = False

        def __init__(self, config):
            pass

        def __call__(self, machine):
            raise RuntimeError("no thermometer")

    checks = {"sick": Sick(None), **build_checks({}, ["limits"])}
    report = examine(machine(tmp_path), checks)
    (finding,) = report.of(Status.UNKNOWN)
    assert finding.id == "sick.check" and "no thermometer" in finding.evidence and report.exit_status == 3


def test_the_gate_says_or_refuses(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        gate, "build_checks", lambda settings: build_checks({"disk": {"full_percent": 0.001}}, ["disk"])
    )
    mesh = Mesh(Layout())
    gate.pass_gate("off", mesh, tmp_path)
    assert capsys.readouterr().err == ""
    gate.pass_gate("warn", mesh, tmp_path)
    assert "warning: doctor: CRITICAL disk.space" in capsys.readouterr().err
    with pytest.raises(MaquetteError, match=r"doctor=require: CRITICAL disk\.space .*action: free_space"):
        gate.pass_gate("require", mesh, tmp_path)


def test_every_check_has_an_identity_of_its_own():
    names = [entry.name for entry in plugins.registry("checks")]
    assert len(names) == len(set(names)) >= 12


def toy_run(folder, *words):
    run = [f"plugins=[{TOY}]", *BLOCKS, "strategy.name=ddp", "loggers=[]", "train.steps=1", f"folder={folder}"]
    return load_run_config(None, [*run, *words])


@pytest.mark.parametrize("word", ["off", "warn", "require"])
def test_a_run_starts_behind_the_gate_that_it_asks_for(word, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(gate, "build_checks", lambda settings: asked.append(settings) or {})
    train(toy_run(tmp_path / "run", f"doctor={word}"))
    assert len(asked) == (word != "off")


def test_a_run_that_is_refused_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(
        gate, "build_checks", lambda settings: build_checks({"disk": {"full_percent": 0.001}}, ["disk"])
    )
    with pytest.raises(MaquetteError, match=r"disk\.space"):
        train(toy_run(tmp_path / "run", "doctor=require"))
    assert not (tmp_path / "run").exists()
    with pytest.raises(MaquetteError, match="'doctor' is 'maybe'; known: off, warn, require"):
        train(toy_run(tmp_path / "run", "doctor=maybe"))


def test_the_size_of_a_checkpoint_is_known_before_there_is_one(tmp_path):
    node = toy_run(tmp_path / "run", "doctor=off")
    planned = planned_checkpoint_bytes(node)
    real = newest_checkpoint_bytes(train(toy_run(tmp_path / "run", "doctor=off")).path)
    files = 64 * 2**10  # manifests, indices and headers, which a model of any size outweighs
    assert planned <= real <= planned + files and newest_checkpoint_bytes(tmp_path) is None
