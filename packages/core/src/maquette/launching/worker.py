"""What a launched process runs: the ``maquette`` command line, with its end told to the launcher in a file.

Only the launcher speaks to the user, so that a mistake that all ranks find is one line and not one a rank.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

from maquette.cli import cli
from maquette.errors import MaquetteError, Outcome

MISTAKE = 78
"""Exit status after a user's mistake, which no restart would mend (EX_CONFIG of sysexits.h)."""

OUTCOME = 80
"""Added to the exit status of an :class:`maquette.errors.Outcome`, which no restart would change either."""

LAUNCHER = "MAQUETTE_LAUNCHER"
"""The variable with the launcher's process number."""

_ON_PARENTS_DEATH = 1  # PR_SET_PDEATHSIG of prctl(2)

TRACEBACK = "traceback.log"
"""Not in the worker's output: when one worker is lost all others fail in their collectives, at a screenful each."""


def work(words: Sequence[str]) -> int:
    """Run the command; gives the exit status: 0, 128 + signal when asked to stop, MISTAKE, OUTCOME + 1 to 3, or 1."""
    try:
        cli(list(words), standalone_mode=False)
    except MaquetteError as error:
        report(str(error))
        return OUTCOME + error.exit_code if isinstance(error, Outcome) else int(getattr(error, "exit_code", MISTAKE))
    except click.ClickException as error:
        report(error.format_message())
        return MISTAKE
    except (KeyboardInterrupt, click.Abort):
        return 130
    except Exception as error:
        report(f"{type(error).__name__}: {error}", traceback.format_exc())
        return 1
    return 0


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


if __name__ == "__main__":
    end_with(os.environ.get(LAUNCHER, ""))
    sys.exit(work(sys.argv[1:]))
