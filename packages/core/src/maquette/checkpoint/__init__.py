"""Checkpoints: a new folder a step, written whole, checked by SHA-256 when read; the last good one wins.

A checkpoint holds safetensors files with each process's share of the state, ``index.json`` (what lies where),
``state.json`` (step, data position and other plain data) and ``manifest.json`` (size and checksum of every other file,
written last). Nothing in it is code. It loads at any number of processes and in any layout.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from maquette.checkpoint.loading import (
    Checkpoint,
    Contents,
    newest,
    open_checkpoint,
    read,
    read_newest,
    weights_part,
)
from maquette.checkpoint.retention import paths, quarantine
from maquette.checkpoint.saver import Saver
from maquette.checkpoint.weights import export_part, import_weights, load_weights, save_weights

__all__ = [
    "Checkpoint",
    "Contents",
    "Saver",
    "export_part",
    "import_weights",
    "load_weights",
    "newest",
    "open_checkpoint",
    "paths",
    "quarantine",
    "read",
    "read_newest",
    "save",
    "save_weights",
    "weights_part",
]


def save(
    folder: Path, step: int, parts: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any], keep: int
) -> Path:
    """Save from one process and wait for it; the folder of the checkpoint."""
    with Saver(folder, keep=keep, background=False) as saver:
        saver.save(step, parts, state)
    return folder / f"step_{step:08d}"
