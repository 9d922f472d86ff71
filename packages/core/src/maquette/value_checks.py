"""What settings say of a value that cannot be."""

from __future__ import annotations

from collections.abc import Sequence


def one_of(key: str, value: str, known: Sequence[str]) -> None:
    """Refuse a word that is not known, by a ValueError."""
    if value not in known:
        raise ValueError(f"'{key}' is '{value}'; known: {', '.join(known)}")


def at_least(key: str, value: float, least: float) -> None:
    """Refuse a number that is too small, by a ValueError."""
    if value < least:
        raise ValueError(f"'{key}' is {value}; it must be at least {least}")
