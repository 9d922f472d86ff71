"""torch elastic's agent of one node, with our words for what happens and our rules for when to restart."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, LogsDest, Std
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from maquette.launching.aftermath import Aftermath
from maquette.launching.failure import Failure, read_report, telling_log
from maquette.progress import say


class RankLogs(DefaultLogsSpecs):
    """A folder a start and rank, with standard output and error; those of the shown local ranks come here as well."""

    def __init__(self, folder: str, shown: set[int]) -> None:
        super().__init__(log_dir=folder, redirects=Std.ALL, tee=dict.fromkeys(shown, Std.ALL))
        self.latest: LogsDest | None = None

    def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
        """The files of the start that is under way."""
        self.latest = super().reify(envs)
        return self.latest


class Agent(LocalElasticAgent):
    """Starts this node's workers, restarts all after a loss, and says what happened in one line.

    A restart that follows on a new checkpoint is not counted: a long run may lose any number of workers as long as it
    gets on between the losses.

    Args:
        spec: torch elastic's description of the workers; ``max_restarts`` is how many restarts without progress.
        logs: where their output goes.
        grace: seconds that workers get to save and leave after a signal.
        progress: something that changes when the run gets on, e.g. the name of its newest checkpoint.
        aftermath: explains losses; its watchdog looks at the workers meanwhile.
    """

    def __init__(
        self, spec: WorkerSpec, logs: RankLogs, grace: int, progress: Callable[[], str], aftermath: Aftermath
    ) -> None:
        super().__init__(spec, logs, start_method="spawn", log_line_prefix_template="[rank ${rank}] ")
        self.logs, self.grace, self.progress, self.aftermath = logs, grace, progress, aftermath
        self.failure: Failure | None = None
        self._budget = spec.max_restarts
        self._reached = progress()

    def reports(self) -> list[str]:
        """The last words of the workers of the latest start."""
        files = self.logs.latest.error_files if self.logs.latest else {}
        return [message for file in files.values() if (message := read_report(file)[0])]

    def forward(self, number: int) -> None:
        """Hand a signal on to every worker, once."""
        for pid in self._pcontext.pids().values() if self._pcontext else ():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        watchdog = self.aftermath.watchdog
        # Only a training tells that it lives; a command of any other kind may take as long as it likes.
        if self.aftermath.run and watchdog.look({worker.global_rank: worker.id for worker in worker_group.workers}):
            watchdog.end()
        result = super()._monitor_workers(worker_group)
        if result.state in (WorkerState.UNHEALTHY, WorkerState.FAILED):
            self._judge(result)
        return result

    def _judge(self, result: RunResult) -> None:
        failures = [self._read(rank, failure) for rank, failure in result.failures.items()]
        world = self._worker_group.workers[0].world_size
        self.failure = self.aftermath.explain(failures, world) if failures else None
        # Without a new checkpoint the memory would not suffice at the same place again.
        in_vain = self.failure and self.failure.out_of_memory and self.progress() == self._reached
        if self.failure and (self.failure.final or in_vain):
            self._remaining_restarts = 0
            return
        reached = self.progress()
        if reached != self._reached:
            # Raised together with the limit, so that the count of starts, after which logs are named, goes on.
            used = self._budget - self._remaining_restarts
            self._remaining_restarts += used
            self._worker_group.spec.max_restarts += used
            self._reached = reached
        if self._remaining_restarts:
            left = f"restart {self._budget - self._remaining_restarts + 1}, at most {self._budget} without a checkpoint"
            point = f"from {reached}" if reached else "from the beginning"
            log = f"; its log: {self.failure.log}" if self.failure else ""
            log = f"; see {self.failure.incident}{log}" if self.failure and self.failure.incident else log
            say(f"maquette: {self.failure or 'a worker hangs'}; going on {point} ({left}){log}")

    def _read(self, rank: int, failure: ProcessFailure) -> Failure:
        latest = self.logs.latest
        output = latest.stderrs.get(failure.local_rank, "") if latest else ""
        file = latest.error_files.get(failure.local_rank, "") if latest else ""
        message, when = read_report(file)
        log = telling_log(file, output)
        return Failure(rank, failure.pid, failure.exitcode, when or failure.timestamp, message, log, output)

    def _shutdown(self, death_sig: signal.Signals = signal.SIGTERM, timeout: int = 0, **more: Any) -> None:
        # Whatever came: a closed terminal's SIGHUP would end workers before they can save, and SIGINT shows a traceback
        # of one that is still importing. And how torch is told its own timeout has changed between versions; ours is
        # always meant.
        super()._shutdown(signal.SIGTERM, self.grace, **more)
