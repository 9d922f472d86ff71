"""``launch``: the workers of one node from start to end."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from torch.distributed.elastic.agent.server.api import WorkerSpec
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.rendezvous import RendezvousConnectionError, RendezvousError, RendezvousParameters
from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

from maquette.errors import MaquetteError, Outcome
from maquette.forensics.pulse import WATCHED
from maquette.forensics.watchdog import Watchdog
from maquette.launching.aftermath import Aftermath
from maquette.launching.agent import Agent, RankLogs
from maquette.launching.environment import worker_environment
from maquette.launching.job import Job, progress
from maquette.launching.outcome import LAUNCHER, TRACEBACK
from maquette.progress import say
from maquette.runs import RunFolder
from maquette.stopping import Interrupted

HANDLED = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")
FORWARDED = (signal.SIGUSR1, signal.SIGUSR2)
"""What asks a running worker for a profile or a memory report."""


@dataclass(frozen=True)
class Placement:
    """Where and how often.

    Attributes:
        processes: workers on this node.
        nodes: fewest and most nodes.
        rendezvous: host:port that all nodes can reach; empty for one node.
        job_id: the same on all nodes of one launch.
        restarts: how many restarts without progress in between.
        grace: seconds for saving and leaving after a signal.
        shown: local ranks whose output is shown here.
    """

    processes: int = 1
    nodes: tuple[int, int] = (1, 1)
    rendezvous: str = ""
    job_id: str = ""
    restarts: int = 3
    grace: int = 120
    shown: frozenset[int] = frozenset({0})

    def check(self) -> None:
        """Refuse what cannot be.

        Raises:
            MaquetteError: a number is out of range, or several nodes have no place to meet.
        """
        fewest, most = self.nodes
        if self.processes < 1 or not 1 <= fewest <= most or self.restarts < 0 or self.grace < 1:
            raise MaquetteError("maquette launch: --nproc, --nodes and --grace must be at least 1, --restarts 0")
        if most > 1 and not self.rendezvous:
            raise MaquetteError("maquette launch: several nodes need --rendezvous HOST:PORT of one of them")
        host, _, port = self.rendezvous.rpartition(":")
        if self.rendezvous and not (host and port.isdigit()):
            raise MaquetteError(f"maquette launch: --rendezvous '{self.rendezvous}' is not HOST:PORT")


def launch(job: Job, placement: Placement) -> None:
    """Run a command on several processes until it is finished.

    Raises:
        MaquetteError: a user's mistake, as one process would say it; or workers failed too often.
        Interrupted: the launcher or its workers were asked to stop.
    """
    placement.check()
    folder = job.folder()
    job.check(folder)
    fresh = folder is not None and not folder.exists()
    logs = (folder / "logs" / "ranks") if folder else Path(tempfile.mkdtemp(prefix="maquette_launch_"))
    watched = Path(tempfile.mkdtemp(prefix="maquette_watched_"))  # of this machine, whatever the run's folder is on
    aftermath = Aftermath(Watchdog(watched, folder or logs), folder)
    environment = dict(os.environ)
    agent = None
    try:
        agent = _agent(job, placement, folder, logs, aftermath)
        with _signals_forwarded(agent):
            _run(agent)
    except MaquetteError:
        if fresh and folder is not None and agent and agent.failure and agent.failure.mistake and not progress(folder):
            RunFolder(folder).discard()
        raise
    finally:
        # What was meant for the workers is of no use to what this process does next.
        os.environ.clear()
        os.environ.update(environment)
        shutil.rmtree(watched, ignore_errors=True)
        failure = agent.failure if agent else None
        if folder is None and (failure is None or failure.final):  # no message has named a log
            shutil.rmtree(logs, ignore_errors=True)


def _run(agent: Agent) -> None:
    """The agent from start to end; its ways to fail as ours."""
    leave = True
    try:
        result = agent.run()
    except SignalException as error:
        # The meeting place stays open, so that the other nodes may go on.
        leave = False
        name = signal.Signals(error.sigval).name
        said = next(iter(agent.reports()), f"stopped by {name}; continue with resume=auto")
        raise Interrupted(said, int(error.sigval)) from None
    except RendezvousError as error:
        raise MaquetteError(f"maquette launch: the nodes did not come together: {error}") from None
    finally:
        if leave:
            agent.get_worker_group().spec.rdzv_handler.shutdown()
    if result is not None and result.is_failed():
        raise _ended(agent)


def _ended(agent: Agent) -> MaquetteError:
    """The error of a group of workers that is not started again."""
    failure = agent.failure
    if failure is None:
        return MaquetteError("a worker hangs and cannot be ended; the machine may need a restart")
    if failure.mistake:
        return MaquetteError(failure.message)
    if failure.outcome:
        return Outcome(failure.message, failure.outcome)
    if failure.asked:
        said = failure.message or "stopped; continue with resume=auto"
        return Interrupted(said, failure.exit_code - 128 if failure.exit_code > 0 else -failure.exit_code)
    if failure.out_of_memory:
        return MaquetteError(str(failure))
    if failure.log.endswith(TRACEBACK):
        say(Path(failure.log).read_text().rstrip())
    return MaquetteError(f"{failure}; no restart is left; its log: {failure.log}")


def _agent(job: Job, placement: Placement, folder: Path | None, logs: Path, aftermath: Aftermath) -> Agent:
    _quiet()
    os.environ.update(worker_environment(placement.processes, os.environ))
    os.environ[LAUNCHER], os.environ[WATCHED] = str(os.getpid()), str(aftermath.watchdog.watched)
    os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = ",".join(HANDLED)
    alone = placement.nodes == (1, 1) and not placement.rendezvous
    fewest, most = placement.nodes
    meeting = RendezvousParameters(
        backend="c10d",
        endpoint=placement.rendezvous or "127.0.0.1:0",
        run_id=placement.job_id or (uuid.uuid4().hex[:8] if alone else "maquette"),
        min_nodes=fewest,
        max_nodes=most,
        local_addr="127.0.0.1" if alone else None,
        timeout=900,
        join_timeout=1800,
    )
    try:
        handler = get_rendezvous_handler(meeting)
    except RendezvousConnectionError as error:
        raise MaquetteError(f"maquette launch: cannot reach {placement.rendezvous}: {error}") from None
    spec = WorkerSpec(
        role="train",
        local_world_size=placement.processes,
        entrypoint=sys.executable,
        # torch elastic replaces $names in arguments; a doubled sign is one that stays.
        args=("-m", "maquette.cli.worker", *(word.replace("$", "$$") for word in job.arguments())),
        rdzv_handler=handler,
        max_restarts=placement.restarts,
        monitor_interval=0.1,
        local_addr="127.0.0.1" if alone else None,
    )
    shown = {rank for rank in placement.shown if rank < placement.processes}
    got_on = (lambda: progress(folder)) if folder else str
    return Agent(spec, RankLogs(str(logs), shown), placement.grace, got_on, aftermath)


@contextmanager
def _signals_forwarded(agent: Agent) -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (*FORWARDED, *(getattr(signal, n) for n in HANDLED))}
    for number in FORWARDED:
        signal.signal(number, lambda given, _frame: agent.forward(given))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _quiet() -> None:
    """torch elastic's own account of what we say in one line; LOGLEVEL brings it back."""
    if "LOGLEVEL" in os.environ:
        return
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed.elastic"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
