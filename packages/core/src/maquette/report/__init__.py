"""A run's ``report.html``: one self-contained file with curves, pictures, figures beside baselines, and the config."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from maquette.durable import write_json, write_text
from maquette.report.monitored import monitored
from maquette.report.svg import draw
from maquette.runs import RunFolder
from maquette.secrets import scrubbed

Curves = Mapping[str, Sequence[tuple[int, float]]]


@dataclass(frozen=True)
class Figure:
    """A measured value, over how many samples, and the values that it must be read beside (ceiling, chance, ...).

    `interval` holds the true value with a confidence of 95 %, where that was worked out.
    """

    value: float
    n: int
    beside: dict[str, float] = field(default_factory=dict)
    interval: tuple[float, float] | None = None


Figures = Mapping[str, Mapping[str, Figure]]
"""Figures by group and name."""


@dataclass(frozen=True)
class Picture:
    """A PNG file with a caption."""

    path: Path
    caption: str

    @property
    def data(self) -> str:
        """As a data URI, so that the report is one file."""
        return "data:image/png;base64," + base64.b64encode(self.path.read_bytes()).decode()


@dataclass(frozen=True)
class Table:
    """Rows of text under a heading."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Report:
    """What a report shows, top to bottom."""

    title: str
    summary: str
    pictures: Sequence[Picture] = ()
    figures: Figures = field(default_factory=dict)
    config: str = ""
    tables: Sequence[Table] = ()
    runs: Mapping[str, Path] = field(default_factory=dict)
    """By title: the folders of runs whose losses, machines, times and events are shown."""


def write_report(path: Path, report: Report) -> None:
    """Write the HTML file whole."""
    source = (resources.files("maquette.report") / "report.html.j2").read_text()
    template = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(source)
    report = replace(report, summary=scrubbed(report.summary), config=scrubbed(report.config))
    curves = {title: RunFolder(run).metrics() for title, run in report.runs.items()}
    drawings = {title: draw_curves(points) for title, points in curves.items() if points}
    watched = {title: monitored(run) for title, run in report.runs.items()}
    write_text(path, template.render(report=report, drawings=drawings, watched=watched))


def write_figures(path: Path, figures: Figures) -> None:
    """Write the figures as JSON, whole."""
    write_json(path, {group: {name: asdict(f) for name, f in members.items()} for group, members in figures.items()})


def draw_curves(curves: Curves) -> str:
    """An inline SVG of the losses, training and validation in one picture a term.

    Args:
        curves: name -> (step, value) as :meth:`maquette.runs.RunFolder.metrics` gives them.
    """
    terms = sorted({name.partition("/")[2] for name in curves if name.startswith("validation/")}) or ["loss"]
    terms = [term for term in terms if any(f"{side}/{term}" in curves for side in ("train", "validation"))]
    columns = min(3, max(1, len(terms)))
    rows = -(-len(terms) // columns) or 1

    def paint(figure: Any) -> None:
        for place, term in enumerate(terms, 1):
            axes = figure.add_subplot(rows, columns, place)
            for side, color in (("train", "#9aa5b8"), ("validation", "#d1495b")):
                points = curves.get(f"{side}/{term}")
                if points:
                    axes.plot(*zip(*points, strict=True), color=color, label=side, linewidth=1.4)
            axes.set_title(term)
            axes.set_xlabel("step")
            if all(value > 0 for _, value in curves.get(f"train/{term}", [(0, 0.0)])):
                axes.set_yscale("log")
            axes.legend(frameon=False)

    return draw(paint, (3.6 * columns, 2.5 * rows))
