"""The small text files in which Linux tells of itself."""

from __future__ import annotations

from pathlib import Path


def lines(path: Path) -> list[str]:
    """A file's lines; none where there is no such file, or it may not be read."""
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []
