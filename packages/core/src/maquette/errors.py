"""The one error type a user sees, and the wording of "no such name"."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class MaquetteError(Exception):
    """A mistake that the user can mend. The message is one line: what, where, what to do.

    The command line prints it without a traceback and exits with status 1.
    """

    def __init__(self, message: str) -> None:
        # What a user typed or a file is called may hold line breaks of its own.
        super().__init__(" ".join(message.splitlines()))


class Outcome(MaquetteError):
    """A command's answer that is no mistake but has an exit status of its own, 1 to 3: what `maquette doctor` found."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def unknown_name(what: str, name: str, known: Iterable[str], hint: str = "", where: str = "") -> MaquetteError:
    """The error for a wrong name or key: suggests the nearest known one and lists the rest.

    Args:
        what: what was looked up, e.g. ``"architecture"`` or ``"key"``.
        name: the name that was not found.
        known: the names that would have been found.
        hint: one more sentence, e.g. why a plugin that might hold the name did not load.
        where: where it was looked up, e.g. ``"in model 'dit'"``.
    """
    names = sorted(known)
    close = get_close_matches(name, names, n=1, cutoff=0.5)
    parts = [f"unknown {what} '{name}' {where}".rstrip()]
    if close:
        parts.append(f"did you mean '{close[0]}'?")
    parts.append(f"known: {', '.join(names)}" if names else "none is registered")
    if hint:
        parts.append(hint)
    return MaquetteError("; ".join(parts))
