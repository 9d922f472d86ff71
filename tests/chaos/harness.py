"""Real launchers with real workers, started in a fraction of a second: forked from a process that has torch.

Only the start differs from ``maquette launch``: agent, rendezvous, signals, logs, restarts and the workers' command
line are those of a user. The process that imports this must have no threads.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

import maquette.launching.launch as launching
import maquette.session  # noqa: F401  for the workers
from maquette.cli.worker import work
from maquette.launching.agent import Agent
from maquette.launching.job import Job
from maquette.launching.launch import Placement
from maquette.launching.outcome import LAUNCHER, end_with

HERE = Path(__file__).parent
PLUGINS = (str(HERE.parent / "core" / "toy_plugin.py"), str(HERE / "chaos_plugin.py"))
CHILD_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of prctl(2)


def adopt_orphans() -> None:
    """Workers whose launcher was killed become this process's children, so that it sees them end."""
    ctypes.CDLL(None).prctl(CHILD_SUBREAPER, 1)


class Launch:
    """A launcher in a process of its own, with the workers that it starts.

    Args:
        folder: of the run; the driver's folder is beside it.
        world: how many workers.
        words: of ``maquette train``, beside those that the toy needs.
    """

    def __init__(self, folder: Path, world: int, words: list[str]) -> None:
        self.folder, self.world = folder, world
        self.control = control_of(folder)
        self.control.mkdir(parents=True, exist_ok=True)
        blocks = ["data.name=chaos", f"data.control={self.control}", "model.name=toy", "model.width=${facts:width}"]
        plain = ["objective.name=toy", "strategy.name=ddp", "train.threads=1", f"folder={folder}"]
        quick = ["loggers=[]", "doctor=off", "monitor.interval=0"]
        job = Job("train", (*blocks, *plain, *quick, *words, "resume=auto"), PLUGINS)
        self.code: int | None = None
        self.pid = os.fork()
        if not self.pid:
            _launch(job, Placement(processes=world, restarts=10**6, grace=30, shown=frozenset()), folder)

    @property
    def running(self) -> bool:
        """Whether the launcher lives; its exit status is in ``code`` afterwards."""
        reap()
        if self.pid in _ended:
            self.code = _ended[self.pid]
        return self.code is None

    def wait(self, seconds: float) -> int | None:
        """The launcher's exit status; None where it hangs."""
        until = time.monotonic() + seconds
        while self.running and time.monotonic() < until:
            time.sleep(0.01)
        return self.code

    def rank(self, number: int) -> int | None:
        """The process of a rank, where it lives."""
        try:
            pid = int((self.control / f"rank_{number}").read_text())
        except (OSError, ValueError):
            return None
        return pid if alive(pid) else None

    def kill(self) -> None:
        """SIGKILL, for the launcher alone."""
        if self.running:
            os.kill(self.pid, signal.SIGKILL)
            self.wait(10)

    def kill_all(self) -> None:
        """As when a machine loses its power."""
        for pid in [self.pid, *pids(self.control)]:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        self.wait(10)
        assert settled(self.control, 10), "a process survives SIGKILL"


def control_of(folder: Path) -> Path:
    """Where the driver and the workers of a run talk to each other."""
    return folder.with_name(f"{folder.name}.control")


def pids(control: Path) -> list[int]:
    """All workers that were ever started."""
    file = control / "pids"
    return [int(line) for line in file.read_text().split()] if file.exists() else []


def settled(control: Path, seconds: float) -> bool:
    """Whether all workers have ended within some seconds."""
    until = time.monotonic() + seconds
    while any(alive(pid) for pid in pids(control)):
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


_ended: dict[int, int] = {}


def reap() -> None:
    """Take note of children, own and adopted, that have ended."""
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not pid:
            return
        _ended[pid] = os.waitstatus_to_exitcode(status)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be seen does not."""
    reap()
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


class _ForkingAgent(Agent):
    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self._start_method = "fork"


def _worker(*words: str) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    end_with(os.environ.get(LAUNCHER, ""))
    if code := work(words):
        sys.exit(code)


def _launch(job: Job, placement: Placement, folder: Path) -> None:
    """In the launcher's process, which ends here."""
    code = 1
    try:
        os.setsid()
        multiprocessing.current_process()._config["daemon"] = False  # a test's own process may be one
        output = os.open(folder.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
        spec = launching.WorkerSpec
        launching.WorkerSpec = lambda **given: spec(**{**given, "entrypoint": _worker, "args": given["args"][2:]})
        launching.Agent = _ForkingAgent
        launching.launch(job, placement)
        code = 0
    except BaseException as error:
        code = int(getattr(error, "exit_code", 1))
        sys.stderr.write(traceback.format_exc())
    finally:
        sys.stderr.flush()
        os._exit(code)


def remove(folder: Path) -> None:
    """A run and what belongs to it."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(control_of(folder), ignore_errors=True)
    folder.with_suffix(".log").unlink(missing_ok=True)
