"""What a launched process runs: the ``maquette`` command line, with its end told to the launcher in a file.

Only the launcher speaks to the user, so that a mistake that all ranks find is one line and not one a rank.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence

import click

from maquette.cli import cli
from maquette.errors import MaquetteError, Outcome
from maquette.launching.outcome import LAUNCHER, MISTAKE, OUTCOME, end_with, report


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


if __name__ == "__main__":
    end_with(os.environ.get(LAUNCHER, ""))
    sys.exit(work(sys.argv[1:]))
