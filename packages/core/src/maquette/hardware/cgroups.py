"""The memory that this process's control group may use, of version 1 or 2, as containers and schedulers set it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from maquette.hardware.kernel_files import lines

UNLIMITED = 2**60
"""Version 1 writes a number near 2^63 where there is no limit."""


@dataclass(frozen=True)
class CgroupReading:
    """A control group.

    Attributes:
        version: 1 or 2.
        limit: bytes, the lowest of the group and those around it; None where there is none.
        used: bytes, without copies of files that nobody has used lately: the kernel takes those back first.
        oom_kills: processes that the kernel has killed here for memory; None where it does not count.
    """

    version: int
    limit: int | None
    used: int | None
    oom_kills: int | None


def read(proc: Path = Path("/proc"), sys: Path = Path("/sys")) -> CgroupReading | None:
    """The memory group of this process; None where the system has no such groups or does not tell."""
    mounted = sys / "fs" / "cgroup"
    for line in lines(proc / "self" / "cgroup"):
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return _version_1(_inside(mounted / "memory", path))
    for line in lines(proc / "self" / "cgroup"):
        number, _, path = line.split(":", 2)
        if number == "0" and (mounted / "cgroup.controllers").is_file():
            return _version_2(_inside(mounted, path))
    return None


def _inside(root: Path, path: str) -> list[Path]:
    """The group's folder and those around it, innermost first; in a container its path may not be seen."""
    own = root / path.lstrip("/")
    if not own.is_dir():
        return [root]
    return [folder for folder in (own, *own.parents) if folder == root or folder.is_relative_to(root)]


def _version_1(folders: list[Path]) -> CgroupReading:
    limits = [_number(folder / "memory.limit_in_bytes") for folder in folders]
    set_limits = [limit for limit in limits if limit is not None and limit < UNLIMITED]
    kills = _table(folders[0] / "memory.oom_control").get("oom_kill")
    used = _used(folders[0], "memory.usage_in_bytes", "total_inactive_file")
    return CgroupReading(1, min(set_limits, default=None), used, kills)


def _version_2(folders: list[Path]) -> CgroupReading:
    limits = [limit for folder in folders if (limit := _number(folder / "memory.max")) is not None]
    kills = _table(folders[0] / "memory.events").get("oom_kill")
    return CgroupReading(2, min(limits, default=None), _used(folders[0], "memory.current", "inactive_file"), kills)


def _used(folder: Path, file: str, cached: str) -> int | None:
    used = _number(folder / file)
    return None if used is None else max(used - _table(folder / "memory.stat").get(cached, 0), 0)


def _number(path: Path) -> int | None:
    found = lines(path)
    return int(found[0]) if found and found[0].isdigit() else None


def _table(path: Path) -> dict[str, int]:
    rows = [line.split() for line in lines(path)]
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}
