"""How a launched process and its launcher understand each other: exit statuses, and the end told in a file."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from pathlib import Path

import click

MISTAKE = 78
"""Exit status after a user's mistake, which no restart would mend (EX_CONFIG of sysexits.h)."""

OUTCOME = 80
"""Added to the exit status of an :class:`maquette.errors.Outcome`, which no restart would change either."""

LAUNCHER = "MAQUETTE_LAUNCHER"
"""The variable with the launcher's process number."""

_ON_PARENTS_DEATH = 1  # PR_SET_PDEATHSIG of prctl(2)

TRACEBACK = "traceback.log"
"""Not in the worker's output: when one worker is lost all others fail in their collectives, at a screenful each."""


def end_with(launcher: str) -> None:
    """Ask this process to stop when its launcher is gone, or it would go on writing beside the next launch's workers.

    Args:
        launcher: the launcher's process number; empty where there is none.
    """
    if not launcher or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(_ON_PARENTS_DEATH, signal.SIGTERM)
    if os.getppid() != int(launcher):
        sys.exit(128 + signal.SIGTERM)


def report(message: str, trace: str = "") -> None:
    """Leave the message, and beside it the traceback, where the launcher looks; with no launcher, on standard error."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    line = " ".join(message.split())
    if not path:
        click.echo(f"{trace}maquette: {line}", err=True)
        return
    if trace:
        Path(path).with_name(TRACEBACK).write_text(trace)
    Path(path).write_text(json.dumps({"message": line, "timestamp": time.time()}))
