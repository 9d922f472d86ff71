"""``maquette convert``: mesh files of any format that can be read into any that can be written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from maquette import plugins
from maquette.assets import check_suffix, export, import_asset
from maquette.config import read_words
from maquette.errors import MaquetteError
from maquette.progress import say
from maquette.types import Asset


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="IN... OUT [key=value ...]")
@click.option("--to", "suffix", default=None, metavar=".glb", help="OUT is a folder, filled with files of this format.")
def convert(paths: tuple[str, ...], suffix: str | None) -> None:
    """Read IN and write it in the format of OUT: geometry, materials, textures, parts, skin and clips, as far as both
    formats carry them.

    With --to, IN may be several files and folders, and OUT is a folder. key=value words set the exporter, e.g.
    compression=draco for GLB or up_axis=z for STL.
    """
    files = [path for path in paths if "=" not in path or Path(path).exists()]
    options = read_words([path for path in paths if path not in files])
    if len(files) < 2:
        raise MaquetteError("convert needs a file to read and a file to write: maquette convert IN OUT")
    *sources, out = map(Path, files)
    if suffix is not None:
        _convert_all(_planned(sources, out, suffix), options)
        return
    if len(sources) > 1 or sources[0].is_dir():
        raise MaquetteError("several files go into a folder; name their format, e.g. --to .glb")
    check_suffix(out)
    _convert(sources[0], out, options)


def _planned(sources: Sequence[Path], folder: Path, suffix: str) -> dict[Path, Path]:
    """What becomes what: source by target.

    Raises:
        MaquetteError: an unknown format, nothing to read, or two files that would become one.
    """
    suffix = suffix if suffix.startswith(".") else f".{suffix}"
    check_suffix(Path(f"a{suffix}"))
    if folder.is_file():
        raise MaquetteError(f"'{folder}' is a file; with --to the last word is a folder")
    readable = {entry.name for entry in plugins.registry("importers")}
    planned: dict[Path, Path] = {}
    for source in sources:
        inside = sorted(path for path in source.rglob("*") if path.suffix.lower() in readable)
        for path in inside if source.is_dir() else [source]:
            below = path.relative_to(source) if source.is_dir() else Path(path.name)
            target = folder / below.with_suffix(suffix)
            if target in planned:
                raise MaquetteError(f"'{path}' and '{planned[target]}' would both become '{target}'; convert one alone")
            planned[target] = path
    if not planned:
        raise MaquetteError(f"nothing to convert: no file of {', '.join(sorted(readable))} in what was named")
    return planned


def _convert_all(planned: Mapping[Path, Path], options: Mapping[str, Any]) -> None:
    failed = 0
    for target, source in planned.items():
        try:
            _convert(source, target, options)
        except MaquetteError as error:
            failed += 1
            say(f"warning: {error}")
    if failed:
        raise MaquetteError(f"{failed} of {len(planned)} files could not be converted; the warnings above say why")


def _convert(source: Path, target: Path, options: Mapping[str, Any]) -> None:
    asset = import_asset(source)
    export(asset, target, options)
    click.echo(f"{target}  {_described(asset)}")


def _described(asset: Asset) -> str:
    mesh = asset.mesh
    joints = 0 if mesh.skin is None else len(mesh.skin.skeleton.names)
    counts = {
        "faces": len(mesh.faces),
        "materials": len(mesh.materials),
        "images": len(mesh.images),
        "joints": joints,
        "clips": len(asset.animations),
    }
    return "  ".join(f"{count} {name}" for name, count in counts.items() if count)
