"""From a run to assets on disk: opens the pipeline that a run declares, and writes assets by suffix."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from maquette import plugins
from maquette.config import resolve_block
from maquette.errors import MaquetteError, unknown_name
from maquette.placement import in_unit_cube
from maquette.progress import say
from maquette.runs import RunFolder
from maquette.types import Asset, Mesh, Request


class Pipeline(Protocol):
    """What ``register_pipelines`` builds. The same request gives the same asset, whatever else is asked."""

    def __call__(self, request: Request) -> Asset:
        """One asset."""

    def batch(self, requests: Sequence[Request]) -> list[Asset | MaquetteError]:
        """One asset a request, computed together; where one fails, its error in its place, and the others come."""


def find_generator(folder: str | Path) -> Path:
    """The run that can generate: ``folder`` itself, or the one run below it that declares a pipeline.

    Raises:
        MaquetteError: no such folder, or not exactly one such run.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MaquetteError(f"run '{folder}' does not exist; train one first, e.g. python examples/pretrain.py")
    candidates = [folder, *sorted(path for path in folder.iterdir() if path.is_dir())]
    found = [p for p in candidates if RunFolder(p).config_file.is_file() and RunFolder(p).read_config().get("pipeline")]
    if not found:
        raise MaquetteError(f"'{folder}' holds no run that can generate (none declares a 'pipeline' block)")
    if len(found) > 1:
        raise MaquetteError(f"'{folder}' holds several generators; choose one: {', '.join(map(str, found))}")
    return found[0]


def open_pipeline(
    folder: str | Path, overrides: Mapping[str, Any] | None = None, adapters: Sequence[str] = ()
) -> Pipeline:
    """The pipeline of a trained run, ready to be called.

    Args:
        folder: a run, or a folder that holds one, as :func:`find_generator` takes it.
        overrides: changes to the run's ``pipeline`` block, e.g. ``{"steps": 10}``.
        adapters: for a pipeline with ``use_adapters(references)``: "FILE" or "FILE:scale" each.

    Raises:
        MaquetteError: not a run that can generate, or adapters that it does not take.
    """
    run = find_generator(folder)
    config = RunFolder(run).read_config()
    plugins.load_files(config.plugins)
    block = {**resolve_block(config, "pipeline"), "run": str(run), **(overrides or {})}
    pipeline: Pipeline = plugins.build("pipelines", block)
    if adapters:
        if not hasattr(pipeline, "use_adapters"):
            raise MaquetteError(f"the pipeline '{block['name']}' of '{run}' takes no adapters")
        pipeline.use_adapters(adapters)
    return pipeline


def made(assets: Iterable[Asset | MaquetteError]) -> list[Asset]:
    """The assets among the results of requests; what failed is said, a line each."""
    kept = []
    for asset in assets:
        if isinstance(asset, MaquetteError):
            say(f"warning: {asset}")
        else:
            kept.append(asset)
    return kept


def check_suffix(path: Path) -> None:
    """Refuse a file name that no exporter can write, before any work is done for it."""
    known = [entry.name for entry in plugins.registry("exporters")]
    if path.suffix.lower() not in known:
        raise unknown_name("file format", path.suffix or path.name, known)


def export(asset: Asset, path: str | Path, options: Mapping[str, Any] | None = None) -> Path:
    """Write an asset in the format of the path's suffix; the file is there whole or not at all.

    Args:
        options: keys of the exporter, e.g. ``{"compression": "draco"}`` for GLB.

    Raises:
        MaquetteError: no exporter for the suffix, a key that it does not know, or the folder cannot be written.
    """
    path = Path(path)
    check_suffix(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        plugins.build("exporters", {"name": path.suffix.lower(), **(options or {})})(asset, path)
    except OSError as error:
        raise MaquetteError(f"cannot write '{path}': {error.strerror or error}") from None
    return path


def import_asset(path: str | Path) -> Asset:
    """Read a file by its suffix: mesh, materials, parts, skin and clips, in the file's own units, y up.

    Raises:
        MaquetteError: no importer for the suffix, no such file, or one that is broken.
    """
    path = Path(path)
    known = [entry.name for entry in plugins.registry("importers")]
    if path.suffix.lower() not in known:
        raise unknown_name("file format", path.suffix or path.name, known)
    asset: Asset = plugins.build("importers", {"name": path.suffix.lower()})(path)
    return asset


def import_mesh(path: str | Path) -> Mesh:
    """The mesh of a file as models see it: centred and scaled into the unit cube. Raises as :func:`import_asset`."""
    return in_unit_cube(import_asset(path).mesh)
