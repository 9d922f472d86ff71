"""`report.html` of a build: counts, reasons, throughput, pictures of what was kept, and lists of what was not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from maquette.durable import write_text
from maquette_data3d.viewing.pages import asset, inline, number_text, picture_data, policy

Row = Mapping[str, Any]
Rows = Sequence[Row]


def write_build_report(
    path: str | Path,
    summary: Mapping[str, Any],
    rows: Rows,
    stages: Mapping[str, Mapping[str, Any]],
    *,
    title: str = "Build report",
    most_pictures: int = 600,
    most_rows: int = 5000,
) -> None:
    """Writes a page that is one file and asks nothing of the network; whole or not at all.

    Args:
        path: of the HTML file.
        summary: facts of the build; plain numbers become the counts on top, the rest a table at the end, without
            lists of files. "found" is the number of all files, where `rows` leaves some out.
        rows: one a file: {"file": str, "state": "kept" | "quarantined" | ..., "reason": str | None, "detail": str |
            None, "repairs": {name: count} | None, "thumbnail": WebP, PNG or JPEG bytes | None}. A row with a reason
            is one that was left out; a row with repairs and no reason is one that was kept and repaired.
        stages: by name what was measured: {"read": {"seconds": 3.1, "samples": 240}, ...}. Where a stage has both
            seconds and samples (or items) and no rate of its own ("per_..."), its rate is shown too.
        title: of the page.
        most_pictures, most_rows: how many of each are shown; the page says when there are more.
    """
    lost = [row for row in rows if row.get("reason")]
    mended = [row for row in rows if not row.get("reason") and row.get("repairs")]
    style, script = asset("page.css") + asset("build_report.css"), asset("build_report.js")
    counts = {key: value for key, value in summary.items() if _is_number(value)}
    names, table = _stages(stages)
    template = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = template.from_string(asset("build_report.html.j2")).render(
        title=title,
        policy=policy([script], [style]),
        style=inline(style),
        script=inline(script),
        counts={name.replace("_", " "): number_text(value) for name, value in counts.items()},
        facts=_facts({name: value for name, value in summary.items() if name not in counts}),
        reasons=_reasons(lost, max(int(summary.get("found", 0)), len(rows))),
        stage_names=names,
        stages=table,
        **_pictures(rows, most_pictures),
        tables=[
            _table("Left out", ("file", "reason", "detail"), lost, most_rows),
            _table("Repaired", ("file", "repairs"), mended, most_rows),
        ],
    )
    write_text(Path(path), page)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _words(value: object) -> str:
    """A value for a person."""
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return ", ".join(f"{str(key).replace('_', ' ')} {_words(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_words(inner) for inner in value)
    return number_text(value)


def _facts(summary: Mapping[str, Any]) -> dict[str, str]:
    """What is short enough for a table: lists of files are in the page's own."""
    lists = {
        name
        for name, value in summary.items()
        if isinstance(value, list | tuple) and any(isinstance(inner, Mapping) for inner in value)
    }
    return {name.replace("_", " "): _words(value) for name, value in summary.items() if name not in lists and value}


def _reasons(lost: Rows, found: int) -> list[dict[str, Any]]:
    counted = Counter(str(row["reason"]) for row in lost)
    most = max(counted.values(), default=1)
    return [
        {"name": name, "count": number_text(count), "share": f"{count / found:.1%}", "width": round(220 * count / most)}
        for name, count in sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    ]


def _stages(stages: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], dict[str, list[str]]]:
    """Names of the columns, and the cells of each stage."""
    measured: dict[str, dict[str, Any]] = {}
    for stage, given in stages.items():
        measured[stage] = dict(given)
        count = given.get("samples", given.get("items"))
        if _is_number(count) and given.get("seconds") and not any("per_" in name for name in given):
            measured[stage]["per second"] = count / given["seconds"]
    names = list(dict.fromkeys(name for given in measured.values() for name in given))
    table = {stage: [_words(given.get(name)) for name in names] for stage, given in measured.items()}
    return [name.replace("_", " ") for name in names], table


def _pictures(rows: Rows, most: int) -> dict[str, Any]:
    """The first pictures, spread over the list when there are more."""
    shown = [row for row in rows if row.get("thumbnail")]
    chosen = shown if len(shown) <= most else [shown[place * len(shown) // most] for place in range(most)]
    pictures = [
        {
            "data": picture_data(bytes(row["thumbnail"])),
            "file": row.get("file", ""),
            "repaired": bool(row.get("repairs")),
            "words": "\n".join(_words(row.get(key)) for key in ("file", "reason", "detail", "repairs") if row.get(key)),
        }
        for row in chosen
    ]
    return {"pictures": [picture for picture in pictures if picture["data"]], "pictured": len(shown)}


def _table(title: str, columns: Sequence[str], rows: Rows, most: int) -> dict[str, Any]:
    cells = [[_words(row.get(name)) for name in columns] for row in rows[:most]]
    return {"title": title, "columns": columns, "count": len(rows), "rows": cells}
