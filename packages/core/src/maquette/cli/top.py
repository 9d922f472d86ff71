"""``maquette top``: what a run is doing, rank by rank, in the terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from maquette.accelerators import GIB
from maquette.monitoring.view import RankView, RunView, span, view_run


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--once", is_flag=True, help="Print the state once and end, as for a script.")
@click.option("--every", type=click.FloatRange(min=0.1), default=2.0, show_default=True, help="Seconds between looks.")
def top(run: Path, once: bool, every: float) -> None:
    """Watch RUN: steps, times, devices, hosts and warnings by rank; ctrl-C ends it."""
    console = Console()
    if once or not console.is_terminal:
        # What a program reads is not cut to the width of a terminal that it does not have.
        console = console if console.is_terminal else Console(width=200)
        console.print(picture(view_run(run)))
        return
    with Live(picture(view_run(run)), console=console, screen=True) as live:
        while True:
            time.sleep(every)
            live.update(picture(view_run(run)))


def picture(view: RunView) -> Group:
    """The run in a page."""
    return Group(_head(view), Text(), _ranks(view), Text(), *_happenings(view))


def _head(view: RunView) -> Text:
    record, training = view.first, view.first["training"]
    style = "green" if view.state == "running" else "bold" if view.state.startswith("finished") else "red"
    head = Text.assemble((str(view.run), "bold"), "  ", (view.state, style))
    head.append(f"\nstep {view.slowest_step}/{record['steps']}")
    for name, form in (("loss", "{:.4g}"), ("samples_per_second", "{:.4g} samples/s"), ("mfu", "{:.1%} of peak")):
        if (value := training.get(name)) is not None:
            head.append("   " + (f"loss {form.format(float(value))}" if name == "loss" else form.format(float(value))))
    left = record["steps"] - view.slowest_step
    if view.state.startswith("running") and training.get("steps_per_second"):
        head.append(f"   {span(left / training['steps_per_second'])} left")
    return head


def _ranks(view: RunView) -> Table:
    names = ("rank", "host", "phase", "step", "ms/step", "data", "compute", "comm.", "gpu", "gpu mem.", "°C", "W")
    table = Table(*names, "cpu", "memory", "disk free", "io wait", "seen", box=None, header_style="bold")
    for rank in view.ranks:
        table.add_row(*_row(rank), style="" if rank.alive or rank.record["phase"] == "ended" else "red")
    return table


def _row(rank: RankView) -> list[str]:
    record, gpu, host = rank.record, rank.gpu, rank.record["host_values"]
    return [
        str(record["rank"]),
        record["host"],
        record["phase"],
        str(record["step"]),
        f"{1000 * rank.times['total']:.4g}" if rank.times else "-",
        *(_percent(rank.share(part)) for part in ("data", "compute", "communication")),
        _of(gpu, "gpu_utilization", "{:.0f} %") + (f" {'/'.join(gpu['throttle'])}" if gpu.get("throttle") else ""),
        _of(gpu, "gpu_memory_used", "{:.1f} GiB", GIB),
        _of(gpu, "gpu_temperature", "{:.0f}"),
        _of(gpu, "gpu_power", "{:.0f}"),
        _percent(host.get("host_cpu")),
        _of(host, "process_memory", "{:.1f} GiB", GIB),
        _of(host, "host_disk_free", "{:.0f} GiB", GIB),
        _of(host, "host_pressure_io", "{:.0f} %"),
        f"{span(rank.age)} ago",
    ]


def _happenings(view: RunView) -> list[Text]:
    lines = []
    for happened in view.happenings:
        moment = time.strftime("%m-%d %H:%M:%S", time.localtime(happened.time))
        line = f"{moment}  {happened.where}  {happened.kind}: {happened.line}"
        lines.append(Text(line, style="yellow", overflow="ellipsis"))
    return lines


def _of(values: Mapping[str, Any], name: str, form: str, unit: float = 1.0) -> str:
    value = values.get(name)
    return "-" if value is None else form.format(value / unit)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"
