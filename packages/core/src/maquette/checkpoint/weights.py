"""Weights as one plain safetensors file, for taking out to other programs and in from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from maquette.checkpoint.loading import Checkpoint
from maquette.checkpoint.reading import WholeTensors
from maquette.checkpoint.saver import Saver
from maquette.checkpoint.tensor_files import Spec, TensorFile, write_tensors
from maquette.durable import whole_file
from maquette.errors import MaquetteError


def save_weights(path: Path | str, tensors: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> None:
    """Write tensors to one safetensors file, whole or not at all.

    Args:
        path: of the file.
        tensors: whole ones; tied ones are written once for each name.
        dtype: of what is floating; as it is where None.
    """
    shapes = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()}
    _write(Path(path), shapes, tensors.__getitem__, dtype)


def load_weights(path: Path | str) -> dict[str, Tensor]:
    """All tensors of a safetensors file, on the CPU.

    Raises:
        MaquetteError: it is not there or not such a file.
    """
    with TensorFile(Path(path)) as file:
        return {key: file.read(key) for key in file.keys()}


def export_part(found: Checkpoint, part: str, path: Path, dtype: torch.dtype | None = None) -> None:
    """Write one part of a checkpoint to one safetensors file; one tensor at a time is in memory."""
    entries = found.index.get(part)
    if entries is None:
        raise MaquetteError(f"checkpoint '{found.path}' has no part '{part}'; it has: {', '.join(found.parts)}")
    shapes = {name: (entry.dtype, entry.shape) for name, entry in entries.items()}
    with WholeTensors(found.path) as whole:
        _write(path, shapes, lambda name: whole.read(name, entries[name]), dtype)


def import_weights(source: Path, run: Path) -> Path:
    """Make ``run`` a folder that ``start_from=`` takes: one checkpoint, of step 0, with the file's tensors as model.

    Raises:
        MaquetteError: the source cannot be read, or the folder holds checkpoints already.
    """
    folder = run / "checkpoints"
    if folder.exists() and any(folder.glob("step_*")):
        raise MaquetteError(f"'{run}' already holds checkpoints; give another folder")
    tensors = load_weights(source)
    with Saver(folder, keep=1, background=False) as saver:
        saver.save(0, {"model": tensors}, {"imported_from": str(source)})
    return folder / "step_00000000"


def _write(
    path: Path,
    shapes: Mapping[str, tuple[torch.dtype, tuple[int, ...]]],
    fetch: Callable[[str], Tensor],
    dtype: torch.dtype | None,
) -> None:
    specs = {
        name: Spec(dtype if dtype and own.is_floating_point else own, shape) for name, (own, shape) in shapes.items()
    }
    with whole_file(path) as temporary:
        write_tensors(temporary, specs, lambda name: fetch(name).to(specs[name].dtype))
