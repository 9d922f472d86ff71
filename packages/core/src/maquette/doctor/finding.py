"""What a check finds, how bad it is, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

NUMBER = int | float


class Status(StrEnum):
    """From fine to bad; what could not be read is UNKNOWN, never PASS."""

    PASS = "PASS"
    NOT_APPLICABLE = "not applicable"
    UNKNOWN = "UNKNOWN"
    WARN = "WARN"
    CRITICAL = "CRITICAL"


class Action(StrEnum):
    """What mends a finding; made for programs that act on it."""

    NONE = "none"
    FREE_SPACE = "free_space"
    CONFIGURE = "configure"
    INSTALL = "install"
    RESTART_APP = "restart_app"
    DRAIN = "drain"
    RESET_GPU = "reset_gpu"
    RESTART_OS = "restart_os"
    SERVICE = "service"


EXIT_STATUS = {Status.CRITICAL: 2, Status.WARN: 1, Status.UNKNOWN: 3, Status.PASS: 0, Status.NOT_APPLICABLE: 0}
"""In the order in which they decide: one CRITICAL finding outweighs any number of others."""


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        id: what, e.g. ``gpu.ecc_uncorrected``; the same for every machine and version.
        status: how bad.
        subject: which one, e.g. ``GPU 3``, ``rank 5``, a folder; empty for the machine as a whole.
        value: what was measured.
        unit: of the value, e.g. ``%``.
        threshold: what it must be, in words with the unit, e.g. ``< 95 %``.
        evidence: one sentence: what was seen and what follows.
        action: what to do.
        machine: its name; empty for what concerns all machines together.
    """

    id: str
    status: Status
    subject: str = ""
    value: NUMBER | str | None = None
    threshold: str = ""
    evidence: str = ""
    action: Action = Action.NONE
    unit: str = ""
    machine: str = ""

    @property
    def measured(self) -> str:
        """The value with its unit; empty where there is none."""
        shown = f"{self.value:.4g}" if isinstance(self.value, float) else "" if self.value is None else str(self.value)
        return f"{shown} {self.unit}".rstrip()

    def __str__(self) -> str:
        where = " ".join(part for part in (self.subject, f"on {self.machine}" if self.machine else "") if part)
        limit = f" (must be {self.threshold})" if self.threshold else ""
        said = ": ".join(part for part in (f"{self.measured}{limit}".strip(), self.evidence) if part)
        action = f"; action: {self.action}" if self.action is not Action.NONE else ""
        return f"{self.status} {self.id}{f' ({where})' if where else ''}: {said}{action}"


def worst(findings: Iterable[Finding]) -> Status:
    """The status that decides."""
    present = {finding.status for finding in findings}
    return next((status for status in EXIT_STATUS if status in present), Status.PASS)


def judge(
    id: str,
    value: NUMBER,
    *,
    subject: str = "",
    unit: str = "",
    warn: NUMBER | None = None,
    critical: NUMBER | None = None,
    at_least: bool = False,
    evidence: str = "",
    advice: str = "",
    action: Action = Action.NONE,
) -> Finding:
    """A finding from a number and its limits.

    Args:
        id: as in :class:`Finding`, and so are ``subject`` and ``evidence``.
        value: what was measured.
        unit: of value and limits.
        warn: from where on it is a warning.
        critical: from where on it is critical.
        at_least: the limits are the least good values; else the value must be below them.
        advice: what follows from a value that is not fine; stands after the evidence then.
        action: of a value that is not fine.
    """

    def beyond(limit: NUMBER | None) -> bool:
        return limit is not None and (value < limit if at_least else value >= limit)

    status = Status.CRITICAL if beyond(critical) else Status.WARN if beyond(warn) else Status.PASS
    limit = critical if status is Status.CRITICAL or warn is None else warn
    threshold = f"{'>=' if at_least else '<'} {limit:g} {unit}".rstrip() if limit is not None else ""
    shown = round(value, 3) if isinstance(value, float) else value
    if status is Status.PASS:
        return Finding(id, status, subject, shown, threshold, evidence, unit=unit)
    said = "; ".join(part for part in (evidence, advice) if part)
    return Finding(id, status, subject, shown, threshold, said, action, unit)


def unknown(id: str, evidence: str, subject: str = "") -> Finding:
    """It could not be read."""
    return Finding(id, Status.UNKNOWN, subject, evidence=evidence)


def not_applicable(id: str, evidence: str, subject: str = "") -> Finding:
    """This machine has no such thing."""
    return Finding(id, Status.NOT_APPLICABLE, subject, evidence=evidence)
