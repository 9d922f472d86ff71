"""Checkpoints: a new folder a step, written whole, checked by SHA-256 when read; the last good one wins.

A checkpoint holds ``<part>.safetensors`` for each part of the state (model, average, optimizer), ``state.json`` and
``manifest.json`` with the checksum of every other file. Nothing in it is code.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from maquette.durable import whole_folder, write_json
from maquette.errors import MaquetteError

FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read and verified."""

    path: Path
    parts: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


def save(
    folder: Path, step: int, parts: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any], keep: int
) -> Path:
    """Write ``folder/step_<step>`` and purge all but the ``keep`` newest."""
    path = folder / f"step_{step:08d}"
    if path.exists():
        return path
    with whole_folder(path) as temporary:
        for name, tensors in parts.items():
            save_file(_separate(tensors), temporary / f"{name}.safetensors")
        write_json(temporary / "state.json", {"format": FORMAT, "step": step, **state})
        sums = {file.name: _sha256(file) for file in sorted(temporary.iterdir())}
        write_json(temporary / "manifest.json", sums)
    for old in paths(folder)[keep:]:
        shutil.rmtree(old)
    return path


def paths(folder: Path) -> list[Path]:
    """The checkpoints in a folder, newest first."""
    return sorted(folder.glob("step_*"), reverse=True)


def read(path: Path, only: tuple[str, ...] = ()) -> Checkpoint:
    """Read a checkpoint and verify it.

    Args:
        path: its folder.
        only: the parts wanted; all where empty.

    Raises:
        MaquetteError: a file is missing, damaged or of another format.
    """
    try:
        sums = json.loads((path / "manifest.json").read_text())
        for name, expected in sums.items():
            if _sha256(path / name) != expected:
                raise MaquetteError(f"checkpoint '{path}': {name} is damaged (its checksum differs)")
        state = json.loads((path / "state.json").read_text())
        parts = {
            name.removesuffix(".safetensors"): load_file(path / name)
            for name in sums
            if name.endswith(".safetensors") and (not only or name.removesuffix(".safetensors") in only)
        }
    except (OSError, ValueError, AttributeError, SafetensorError) as error:
        raise MaquetteError(f"checkpoint '{path}' cannot be read: {error}") from None
    if state.get("format") != FORMAT:
        raise MaquetteError(f"checkpoint '{path}' has format {state.get('format')}; this version reads {FORMAT}")
    return Checkpoint(path, parts, state)


def read_newest(folder: Path, only: tuple[str, ...] = ()) -> tuple[Checkpoint, list[str]]:
    """The newest checkpoint that is whole, and why newer ones were passed over.

    Raises:
        MaquetteError: none is whole.
    """
    reasons: list[str] = []
    for path in paths(folder):
        try:
            return read(path, only), reasons
        except MaquetteError as error:
            reasons.append(str(error))
    raise MaquetteError(reasons[0] if reasons else f"no checkpoint in '{folder}'; has the run been trained?")


def quarantine(folder: Path, newest_good: Path) -> list[Path]:
    """Set aside what is newer than ``newest_good``, so that the run can write those steps again."""
    moved = []
    for path in paths(folder):
        if path > newest_good:
            shutil.rmtree(aside := path.with_name(f"damaged_{path.name}"), ignore_errors=True)
            moved.append(path.rename(aside))
    return moved


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors of which no two share memory (tied weights), as the format demands."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        own = tensor.detach().contiguous()
        separate[name] = own.clone() if own.data_ptr() in seen else own
        seen.add(own.data_ptr())
    return separate


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
