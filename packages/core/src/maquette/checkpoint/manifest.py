"""``manifest.json``, written last: size and SHA-256 of every other file, so that any damage is found."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from maquette.checkpoint.index import FORMAT, INDEX_FILE
from maquette.checkpoint.tensor_files import PICKLED, Written, sha256
from maquette.errors import MaquetteError
from maquette.json_text import read_json

MANIFEST_FILE = "manifest.json"
STATE_FILE = "state.json"
FOREIGN_FILE = ".metadata"
"""The pickle in the folders of torch.distributed.checkpoint."""


@dataclass(frozen=True)
class Manifest:
    """What a checkpoint consists of, and the number of the owner that wrote it (0: none)."""

    step: int
    files: dict[str, Written]
    epoch: int


def encode(step: int, files: Iterable[Written], epoch: int = 0) -> bytes:
    """The text of ``manifest.json``. Its last word is the checksum of the rest, so that it vouches for itself.

    ``epoch`` is the number of the owner that writes it, see `maquette.ownership`.
    """
    listed = {file.name: {"bytes": file.bytes, "sha256": file.sha256} for file in sorted(files, key=lambda f: f.name)}
    content = {"format": FORMAT, "step": step, "epoch": epoch, "files": listed}
    return (json.dumps({**content, "sha256": _own_sum(content)}, indent=1) + "\n").encode()


def read(path: Path) -> Manifest:
    """The manifest of the checkpoint in folder ``path``.

    Raises:
        MaquetteError: missing, damaged, of another format, or of another checkpoint.
    """
    try:
        content = read_json(path / MANIFEST_FILE)
        if content["format"] != FORMAT:
            raise MaquetteError(f"checkpoint '{path}' has format {content['format']}; this version reads {FORMAT}")
        stated = content.pop("sha256")
        if stated != _own_sum(content):
            raise ValueError("its own checksum differs")
        files = {
            name: Written(name, int(file["bytes"]), str(file["sha256"])) for name, file in content["files"].items()
        }
        step, epoch = int(content["step"]), int(content.get("epoch", 0))
        if not {INDEX_FILE, STATE_FILE} <= files.keys() or any(PurePath(name).name != name for name in files):
            raise ValueError("its list of files is not one of a checkpoint")
    except FileNotFoundError:
        why = (
            "" if not (path / FOREIGN_FILE).exists() else f"; {PICKLED.format('a torch.distributed.checkpoint folder')}"
        )
        raise MaquetteError(f"checkpoint '{path}': {MANIFEST_FILE} is missing{why}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MaquetteError(f"checkpoint '{path}': {MANIFEST_FILE} is damaged ({error})") from None
    if path.name.startswith("step_") and path.name != f"step_{step:08d}":
        raise MaquetteError(f"checkpoint '{path}': {MANIFEST_FILE} belongs to step {step}")
    return Manifest(step, files, epoch)


def check(path: Path, files: Iterable[Written], from_disk: bool = False) -> None:
    """Compare files in folder ``path`` with what they must be; sizes first, as they cost nothing.

    Raises:
        MaquetteError: one is missing or damaged; says which.
    """
    files = list(files)
    for file in files:
        try:
            size = (path / file.name).stat().st_size
        except OSError:
            raise MaquetteError(f"checkpoint '{path}': {file.name} is missing") from None
        if size != file.bytes:
            raise MaquetteError(
                f"checkpoint '{path}': {file.name} is damaged (it has {size} bytes instead of {file.bytes})"
            )
    for file in files:
        try:
            found = sha256(path / file.name, from_disk)
        except OSError as error:
            raise MaquetteError(f"checkpoint '{path}': {file.name} cannot be read: {error.strerror}") from None
        if found != file.sha256:
            raise MaquetteError(f"checkpoint '{path}': {file.name} is damaged (its checksum differs)")


def _own_sum(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
