"""What there is to build: mesh files of a folder with their captions and classes, or procedural shapes."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maquette.errors import MaquetteError
from maquette_data3d.ingest.declared import SUFFIXES
from maquette_data3d.shards.config import PROCEDURAL, BuildConfig

_MANIFEST = "manifest.jsonl"
_SHOWN = ", ".join(SUFFIXES)
_SEPARATORS = re.compile(r"[\s_\-.]+")


@dataclass(frozen=True)
class Item:
    """One thing to turn into a sample.

    Attributes:
        number: its place in the source, which is its place in the shards.
        name: path below the source folder, with "/", or "procedural/SEED/INDEX"; unique.
        path: the file, None for a procedural shape.
        caption, class_name: None where the worker finds out.
    """

    number: int
    name: str
    path: str | None = None
    caption: str | None = None
    class_name: str | None = None


def items(config: BuildConfig) -> list[Item]:
    """Everything that a source holds, in a fixed order.

    Raises:
        MaquetteError: the folder is missing or holds no mesh file, or its manifest is broken.
    """
    if config.source == PROCEDURAL:
        return [Item(number, f"{PROCEDURAL}/{config.seed}/{number}") for number in range(config.count)]
    folder = Path(config.source)
    if not folder.is_dir():
        raise MaquetteError(f"source folder '{folder}' does not exist; give a folder of meshes, or '{PROCEDURAL}'")
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file()
    )
    if not names:
        raise MaquetteError(f"source folder '{folder}' holds no mesh files ({_SHOWN})")
    described = _manifest(folder)
    found = []
    for number, name in enumerate(names[: config.limit]):
        entry = described.get(name, {})
        caption = _words(entry["name"]) if entry.get("name") else _words(Path(name).stem)
        category = _words(entry["category"]) if entry.get("category") else _top_folder(name)
        found.append(Item(number, name, str(folder / name), caption or "object", category))
    return found


def _top_folder(name: str) -> str:
    first, slash, _ = name.partition("/")
    return (_words(first) if slash else "") or "object"


def _words(text: Any) -> str:
    return " ".join(part for part in _SEPARATORS.split(str(text).lower()) if part)


def _manifest(folder: Path) -> dict[str, dict[str, Any]]:
    path = folder / _MANIFEST
    if not path.is_file():
        return {}
    described = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
            described[str(entry["file"])] = entry
        except (json.JSONDecodeError, KeyError, TypeError):
            raise MaquetteError(f"'{path}', line {number}: expected a JSON object with a 'file'") from None
    return described
