"""Machines made up of files and a fake NVML, and what the doctor finds on them."""

from __future__ import annotations

from maquette.doctor.examination import build_checks, examine
from maquette.doctor.finding import Status
from maquette.doctor.machine import Machine
from maquette.hardware.host import Host
from maquette.parallel.layout import Layout
from maquette.parallel.mesh import Mesh
from maquette.testing import FakeNvml

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
