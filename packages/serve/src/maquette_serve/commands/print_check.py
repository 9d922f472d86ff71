"""``maquette print-check``: can a mesh file be printed, and what has to be mended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from maquette.assets import check_suffix, import_asset
from maquette.finishing import finish
from maquette_serve.commands.finishing_steps import write_finished

_ROWS = {
    "size_mm": "size in mm",
    "watertight": "watertight",
    "open_sides": "open sides",
    "crowded_edges": "edges with over two faces",
    "turned_faces": "faces the wrong way round",
    "shells": "connected pieces",
    "volume_mm3": "volume in mm3",
    "thinnest_mm": "thinnest wall in mm",
    "thin_share": "share of thin walls",
    "overhang_share": "share that overhangs",
}


@click.command("print-check")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--size-mm", type=float, default=None, help="Longest side of the print; default: what the file says.")
@click.option("--wall-mm", type=float, default=1.0, show_default=True, help="Thinnest wall that the printer makes.")
@click.option("--overhang", type=float, default=45.0, show_default=True, help="Degrees from upright without supports.")
@click.option("--repair", type=click.Path(path_type=Path), default=None, metavar="OUT", help="Write a printable mesh.")
@click.option("--json", "as_json", is_flag=True, help="The report as JSON.")
def print_check(  # noqa: PLR0917 - click passes by name
    file: Path,
    size_mm: float | None,
    wall_mm: float,
    overhang: float,
    repair: Path | None,
    as_json: bool,
) -> None:
    """Check FILE for a 3D printer. Ends with 0 where it can be printed, with 1 where not.

    With --repair, what is written is checked.
    """
    if repair is not None:
        check_suffix(repair)
    printer = {"size_mm": size_mm, "wall_mm": wall_mm, "overhang": overhang}
    asset = finish(import_asset(file), [{"name": "print_repair" if repair else "print_check", **printer}])
    report = asset.metadata["print_check"]
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        _tell(report)
    if repair is not None:
        write_finished(asset, repair)
    if not report["printable"]:
        raise SystemExit(1)


def _tell(report: Mapping[str, Any]) -> None:
    for key, words in _ROWS.items():
        value = report[key]
        if isinstance(value, list):
            value = " x ".join(f"{side:g}" for side in value)
        elif isinstance(value, bool):
            value = "yes" if value else "no"
        click.echo(f"{words:26}  {'-' if value is None else value}")
    click.echo("printable" if report["printable"] else "not printable: " + "; ".join(report["problems"]))
