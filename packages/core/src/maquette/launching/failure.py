"""Why a group of workers ended: which rank was first, what ended it, and whether a restart can help."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from maquette.forensics.out_of_memory import STATUS
from maquette.launching.outcome import MISTAKE, OUTCOME, TRACEBACK

TOGETHER_SECONDS = 5.0
"""Workers that fail within this time of the first may have failed because of each other."""

ASKED = (128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGTERM)
"""Exit statuses of workers that were asked to stop and have saved a checkpoint, or had nothing to save yet."""


@dataclass(frozen=True)
class Failure:
    """The end of one worker.

    Attributes:
        rank: among all nodes.
        pid: its process.
        exit_code: minus the signal where one ended it, as subprocess has it.
        when: seconds since the epoch.
        message: what the worker reported; empty where it could not.
        log: the file that tells most: its traceback, or its standard error.
        output: its standard error.
        verdict: what was found out about its end, where that is more than the exit status tells.
        incident: the folder with the evidence.
    """

    rank: int
    pid: int
    exit_code: int
    when: float
    message: str = ""
    log: str = ""
    output: str = ""
    verdict: str = ""
    incident: str = ""

    @property
    def mistake(self) -> bool:
        """A mistake of the user's, which the message explains."""
        return self.exit_code == MISTAKE

    @property
    def asked(self) -> bool:
        """It was asked to stop and did."""
        return self.exit_code in ASKED

    @property
    def outcome(self) -> int:
        """The exit status of a command that has given an answer of its own; 0 where this is no such end."""
        return self.exit_code - OUTCOME if OUTCOME < self.exit_code <= OUTCOME + 3 else 0

    @property
    def out_of_memory(self) -> bool:
        """It got no more memory, and has said what fills it."""
        return self.exit_code == STATUS

    @property
    def final(self) -> bool:
        """Whether a restart would be in vain or unwanted."""
        return self.mistake or self.asked or bool(self.outcome)

    def __str__(self) -> str:
        if self.verdict:
            return self.verdict
        where = f"rank {self.rank} (pid {self.pid})"
        if self.exit_code < 0:
            return f"{where} was killed by {_signal_name(-self.exit_code)}"
        reason = f": {self.message}" if self.message else ""
        return f"{where} failed with exit status {self.exit_code}{reason}"


def root_cause(failures: Iterable[Failure]) -> Failure:
    """The failure that the others follow from.

    Peers of a lost worker fail in their collectives, often within the same look of the launcher. So among those that
    failed at about the same time one that a signal killed comes before one with a mistake, this before the others.
    """
    found = sorted(failures, key=lambda failure: failure.when)
    together = [failure for failure in found if failure.when <= found[0].when + TOGETHER_SECONDS]
    return min(together, key=lambda failure: (_follows(failure), failure.when))


def telling_log(error_file: str, output: str) -> str:
    """The traceback that a worker left beside its error file, or else its output."""
    trace = Path(error_file).with_name(TRACEBACK) if error_file else None
    return str(trace) if trace and trace.is_file() else output


def read_report(path: str) -> tuple[str, float | None]:
    """A worker's own last words and their time; ("", None) where it left none."""
    try:
        found = json.loads(Path(path).read_text())
        return str(found["message"]), float(found["timestamp"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", None


def _follows(failure: Failure) -> int:
    # SIGTERM is what the launcher itself sends to those that are left.
    if failure.exit_code < 0 and failure.exit_code != -signal.SIGTERM:
        return 0
    if failure.mistake or failure.out_of_memory:
        return 1
    return 3 if failure.asked or failure.exit_code == -signal.SIGTERM else 2


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
