"""What a build makes samples of: the files of a folder with their captions, or numbers of procedural shapes."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from maquette.errors import MaquetteError
from maquette_data3d.building.config import PROCEDURAL, BuildConfig
from maquette_data3d.ingest.declared import SUFFIXES

_MANIFEST = "manifest.jsonl"
_SHOWN = ", ".join(SUFFIXES)
_SEPARATORS = re.compile(r"[\s_\-.]+")
_NAMED = {".gltf": re.compile(rb'"uri"\s*:\s*"([^"]+)"'), ".obj": re.compile(rb"^\s*mtllib\s+(.+?)\s*$", re.M)}
_PICTURE = re.compile(rb"^\s*(?:map_\w+|bump|norm|disp)\s+(?:.*\s)?(\S+)\s*$", re.M)


@dataclass(frozen=True)
class Item:
    """One thing to turn into a sample.

    Attributes:
        number: its place in the source, which decides its place in the shards.
        name: path below the source folder, with "/", or "procedural/SEED/INDEX"; unique.
        path: the file, None for a procedural shape.
        caption, class_name: None where the worker finds out.
        collection: what it is a part of that no split divides; empty for none.
    """

    number: int
    name: str
    path: str | None = None
    caption: str | None = None
    class_name: str | None = None
    collection: str = ""


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
        whole = _collection(config.split_by, name, entry)
        found.append(Item(number, name, str(folder / name), caption or "object", category, whole))
    return found


def _collection(split_by: str, name: str, entry: dict[str, Any]) -> str:
    if split_by == "content":
        return ""
    folder = name.rpartition("/")[0] or "."
    return str(entry.get("pack") or folder) if split_by == "pack" else folder


def classes_of(config: BuildConfig, sources: list[Item]) -> list[str]:
    """The names of the classes, whose places are the class ids.

    Raises:
        MaquetteError: a procedural class or family that there is not.
    """
    if config.source != PROCEDURAL:
        return sorted({str(item.class_name) for item in sources})
    from maquette_data3d import procedural

    return list(procedural.classes_of(tuple(config.classes)) if config.classes else procedural.CLASSES)


def content_hash(path: Path) -> str:
    """SHA-256 of a file and of the files in its folder that it names, hexadecimal."""
    content = path.read_bytes()
    digest = hashlib.sha256(content)
    for name in _companions(path, content):
        digest.update(name.encode() + b"\0")
        digest.update(hashlib.sha256((path.parent / name).read_bytes()).digest())
    return digest.hexdigest()


def _companions(path: Path, content: bytes) -> list[str]:
    pattern = _NAMED.get(path.suffix.lower())
    if pattern is None:
        return []
    found: set[str] = set()
    for match in pattern.findall(content):
        name = unquote(match.decode("utf-8", "replace"))
        companion = path.parent / name
        if name.startswith("data:") or not _inside(companion, path.parent):
            continue
        found.add(name)
        if companion.suffix.lower() == ".mtl":
            pictures = (picture.decode("utf-8", "replace") for picture in _PICTURE.findall(companion.read_bytes()))
            found.update(picture for picture in pictures if _inside(path.parent / picture, path.parent))
    return sorted(found)


def _inside(path: Path, folder: Path) -> bool:
    try:
        return path.resolve().is_relative_to(folder.resolve()) and path.is_file()
    except (OSError, ValueError):  # names that no file system takes
        return False


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
