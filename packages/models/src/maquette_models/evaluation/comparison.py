"""Figures of several runs side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maquette.durable import write_json
from maquette.report import Figure, Figures, Table
from maquette_models.evaluation.estimates import difference

NOTE = (
    "In brackets the difference to the first run and its 95 % interval, which takes the samples of the two for "
    "independent. A difference is clear where the interval leaves out 0."
)


def compared(runs: Mapping[str, Figures]) -> list[Table]:
    """A table a group of figures: the first run, and the others with their differences to it."""
    first, *others = runs
    tables = []
    for group in dict.fromkeys(group for figures in runs.values() for group in figures):
        rows = []
        for name in dict.fromkeys(name for figures in runs.values() for name in figures.get(group, {})):
            own = runs[first].get(group, {}).get(name)
            cells = [_cell(None, own)] + [_cell(own, runs[other].get(group, {}).get(name)) for other in others]
            rows.append([name.replace("_", " "), *cells])
        tables.append(Table(f"Compared: {group}", ["figure", *runs], rows, NOTE))
    return tables


def write_comparison(path: Path, runs: Mapping[str, Figures]) -> None:
    """The same as JSON: group -> figure -> run -> value, interval, n, and for all but the first run the difference."""
    first = next(iter(runs))
    found: dict[str, Any] = {}
    for run, figures in runs.items():
        for group, members in figures.items():
            for name, figure in members.items():
                entry: dict[str, Any] = {"value": figure.value, "interval": figure.interval, "n": figure.n}
                own = runs[first].get(group, {}).get(name)
                if run != first and own is not None:
                    gap, reach = difference(own, figure)
                    clear = reach is not None and not reach[0] <= 0 <= reach[1]
                    entry |= {"difference": gap, "difference_interval": reach, "clear": clear}
                found.setdefault(group, {}).setdefault(name, {})[run] = entry
    write_json(path, found)


def _cell(first: Figure | None, figure: Figure | None) -> str:
    if figure is None:
        return ""
    if first is None:
        return f"{figure.value:.4g}"
    gap, reach = difference(first, figure)
    return f"{figure.value:.4g} ({gap:+.3g}{'' if reach is None else f', {reach[0]:+.3g} to {reach[1]:+.3g}'})"
