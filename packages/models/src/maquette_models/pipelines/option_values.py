"""What requests say in their options, checked."""

from __future__ import annotations

from maquette.errors import MaquetteError


def whole_number(value: object, name: str, of: str = "") -> int:
    """An option that counts something; `of` says what it is an option of, e.g. "an edit".

    Raises:
        MaquetteError: it is no whole number of at least 1.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise MaquetteError(
            f"option '{name}'{of and f' of {of}'} is {value!r}; it must be a whole number of at least 1"
        )
    return value


def fraction(value: object, name: str, of: str = "") -> float:
    """An option that is a share of something; `of` says what it is an option of.

    Raises:
        MaquetteError: it is no number in [0, 1].
    """
    try:
        found = float(value)  # type: ignore[arg-type]  # what is no number is refused below
    except (TypeError, ValueError):
        found = -1.0
    if not 0 <= found <= 1:
        raise MaquetteError(f"option '{name}'{of and f' of {of}'} is {value!r}; it must be a number from 0 to 1")
    return found
