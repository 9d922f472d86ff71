"""A report for people: a table on a terminal, a line a finding elsewhere."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from maquette.doctor.examination import Report
from maquette.doctor.finding import Action, Finding, Status

STYLES = {
    Status.CRITICAL: "bold red",
    Status.WARN: "yellow",
    Status.UNKNOWN: "magenta",
    Status.PASS: "green",
    Status.NOT_APPLICABLE: "dim",
}


def show(report: Report, console: Console) -> None:
    """Print the findings, the worst first, and one line that sums them up."""
    if console.is_terminal:
        console.print(_table(report))
    else:
        for finding in report.findings:
            console.print(Text(_line(finding)), soft_wrap=True)
    console.print(Text(summary(report), style=STYLES[report.status]), soft_wrap=True)


def summary(report: Report) -> str:
    """How many of each, where, and how long it took."""
    counts = ", ".join(f"{len(found)} {status}" for status in STYLES if (found := report.of(status)))
    processes = "one process" if report.processes == 1 else f"{report.processes} processes"
    return f"{report.status}: {counts}; {processes} on {', '.join(report.machines)}, {report.seconds:.1f} s"


def _table(report: Report) -> Table:
    table = Table("status", "finding", "of", "value", "must be", "evidence", "action", box=None, header_style="bold")
    for finding in report.findings:
        action = "" if finding.action is Action.NONE else str(finding.action)
        cells = (finding.id, _where(finding, report), finding.measured, finding.threshold, finding.evidence, action)
        table.add_row(Text(str(finding.status), style=STYLES[finding.status]), *(Text(cell) for cell in cells))
    return table


def _line(finding: Finding) -> str:
    parts = [
        str(finding.status), finding.id, " ".join(part for part in (finding.subject, finding.machine) if part),
        finding.measured, f"(must be {finding.threshold})" if finding.threshold else "",
        f"- {finding.evidence}" if finding.evidence else "",
        f"- action: {finding.action}" if finding.action is not Action.NONE else "",
    ]  # fmt: skip
    return "  ".join(part for part in parts if part)


def _where(finding: Finding, report: Report) -> str:
    """The machine stands only where there are several."""
    machine = finding.machine if len(report.machines) > 1 else ""
    return " on ".join(part for part in (finding.subject, machine) if part)
