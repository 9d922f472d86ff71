"""Finds the newest whole checkpoint and loads it into any layout."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.state_dict_loader import load

from maquette.checkpoint import manifest
from maquette.checkpoint.index import INDEX_FILE, Index, decode
from maquette.checkpoint.manifest import STATE_FILE, Manifest
from maquette.checkpoint.planning import Parts, flat
from maquette.checkpoint.processes import Processes, Ranks
from maquette.checkpoint.reading import IndexedReader, WholeTensors
from maquette.checkpoint.retention import paths
from maquette.checkpoint.tensor_files import Written
from maquette.errors import MaquetteError
from maquette.json_text import LARGEST_BYTES, read_json


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint on the disk; nothing of its tensors is in memory yet."""

    path: Path
    step: int
    state: dict[str, Any]
    index: Index = field(repr=False)
    processes: Processes = field(repr=False)

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of the parts of the state."""
        return tuple(self.index)

    def load_into(self, parts: Parts) -> None:
        """Fill tensors in place, whatever the layout they and the checkpoint have. All processes call it together.

        Args:
            parts: the parts wanted, with all their names on one rank or another; plain tensors, or DTensors of which
                each rank fills what it holds. Values of another floating type are converted.

        Raises:
            MaquetteError: names or shapes differ; says how many and the first. Nothing is changed then.
        """
        self.processes.gather(lambda: _wanted(parts), self._check_names)
        state: dict[str, Any] = flat(parts)
        try:
            with warnings.catch_warnings():
                # DCP remarks that one process without a process group is one process.
                warnings.filterwarnings("ignore", message="torch.distributed is disabled")
                load(
                    state,
                    storage_reader=IndexedReader(self.path, self.index),
                    planner=DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False),
                    process_group=self.processes.group,
                    no_dist=self.processes.world == 1,
                )
        except CheckpointException as error:
            rank, (reason, _) = next(iter(error.failures.items()))
            raise MaquetteError(f"checkpoint '{self.path}' could not be loaded, rank {rank}: {reason}") from None

    def read(self, part: str) -> dict[str, Tensor]:
        """Whole tensors of one part, on the CPU; for one process alone, without a process group.

        Raises:
            MaquetteError: there is no such part.
        """
        if part not in self.index:
            raise MaquetteError(f"checkpoint '{self.path}' has no part '{part}'; it has: {', '.join(self.parts)}")
        with WholeTensors(self.path) as whole:
            return {name: whole.read(name, entry) for name, entry in self.index[part].items()}

    def _check_names(self, wanted: list[dict[str, dict[str, tuple[int, ...]]]]) -> None:
        """Compare all ranks' names and shapes with the index."""
        together: dict[str, dict[str, tuple[int, ...]]] = {}
        for parts in wanted:
            for part, shapes in parts.items():
                together.setdefault(part, {}).update(shapes)
        for part, shapes in together.items():
            if part not in self.index:
                raise MaquetteError(f"checkpoint '{self.path}' has no part '{part}'; it has: {', '.join(self.parts)}")
            there = self.index[part]
            odd = [f"'{name}' is missing there" for name in shapes if name not in there]
            odd += [f"'{name}' is unknown here" for name in there if name not in shapes]
            odd += [
                f"'{name}' is {list(there[name].shape)} there and {list(shape)} here"
                for name, shape in shapes.items()
                if name in there and there[name].shape != shape
            ]
            if odd:
                raise MaquetteError(
                    f"checkpoint '{self.path}', part '{part}', is of another model or optimizer: "
                    f"{len(odd)} tensors differ, e.g. {odd[0]}"
                )


@dataclass(frozen=True)
class Contents:
    """A checkpoint that was read whole, by one process."""

    path: Path
    parts: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


def open_checkpoint(path: Path, mesh: Ranks | None = None, only: tuple[str, ...] = ()) -> Checkpoint:
    """Verify a checkpoint and give a handle to it. All processes call it together and share the work.

    Args:
        path: its folder.
        mesh: the ranks; None for one process alone.
        only: the parts to verify, as names or patterns; all where empty.

    Raises:
        MaquetteError: it is damaged; says what, on all ranks.
    """
    return _opened(path, Processes(mesh), only)


def newest(
    folder: Path, mesh: Ranks | None = None, only: tuple[str, ...] = (), older: int = 0
) -> tuple[Checkpoint, list[str]]:
    """The newest checkpoint that is whole, and why newer ones were passed over. All processes call it together.

    Args:
        folder: where the checkpoints are.
        mesh: the ranks; None for one process alone.
        only: verify only these parts, as names or patterns (``("model", "average*")``); all where empty.
        older: how many of the newest not to consider, as far as there are older ones.

    Raises:
        MaquetteError: none is whole.
    """
    return _newest(Path(folder), Processes(mesh), only, older)


def read(path: Path, only: tuple[str, ...] = ()) -> Contents:
    """Read a checkpoint's parts whole and verify them, in one process.

    Args:
        path: its folder.
        only: the parts wanted, as names or patterns; all where empty. Those that it has not are left out.

    Raises:
        MaquetteError: a file is missing, damaged or of another format.
    """
    return _contents(_opened(path, Processes(), only), only)


def read_newest(folder: Path, only: tuple[str, ...] = ()) -> tuple[Contents, list[str]]:
    """The newest checkpoint of which the parts wanted are whole, and why newer ones were passed over.

    Raises:
        MaquetteError: none is whole.
    """
    found, reasons = _newest(Path(folder), Processes(), only)
    return _contents(found, only), reasons


def weights_part(parts: Mapping[str, object] | tuple[str, ...]) -> str:
    """The part to sample from: the longest average of the weights where there is one, else the weights."""
    averages = [part for part in parts if part == "average" or part.startswith("average_")]
    return max(averages, key=_decay, default="model")


def _decay(part: str) -> float:
    try:
        return float(part.removeprefix("average").removeprefix("_") or 0)
    except ValueError:
        return 0.0


def _newest(folder: Path, processes: Processes, only: tuple[str, ...], older: int = 0) -> tuple[Checkpoint, list[str]]:
    reasons: list[str] = []
    found = processes.gather(lambda: None, lambda _: paths(folder))
    for path in found[min(older, max(len(found) - 1, 0)) :]:
        try:
            return _opened(path, processes, only), reasons
        except MaquetteError as error:
            reasons.append(str(error))
    raise MaquetteError(reasons[0] if reasons else f"no checkpoint in '{folder}'; has the run been trained?")


def _opened(path: Path, processes: Processes, only: tuple[str, ...]) -> Checkpoint:
    found, index, state = processes.gather(lambda: None, lambda _: _small_files(path))
    entries = [entry for part in index if _is_wanted(part, only) for entry in index[part].values()]
    needed = {chunk.file for entry in entries for chunk in entry.chunks}
    if unlisted := needed - found.files.keys():
        raise MaquetteError(f"checkpoint '{path}': {min(unlisted)} is not in the manifest")
    shares = _shared_out([found.files[name] for name in sorted(needed)], processes.world)
    processes.gather(lambda: manifest.check(path, shares[processes.rank]), lambda _: None)
    return Checkpoint(path, found.step, state, index, processes)


def _small_files(path: Path) -> tuple[Manifest, Index, dict[str, Any]]:
    found = manifest.read(path)
    manifest.check(path, [found.files[name] for name in (INDEX_FILE, STATE_FILE)])
    try:
        tensors = sum(file.bytes for file in found.files.values() if file.name not in (INDEX_FILE, STATE_FILE))
        # That of a large run may be long, but not longer than what it describes.
        index = decode((path / INDEX_FILE).read_text(), max(LARGEST_BYTES, tensors))
        declared = sum(entry.bytes for entries in index.values() for entry in entries.values())
        if declared > (held := sum(file.bytes for file in found.files.values())):
            raise ValueError(f"{INDEX_FILE} declares {declared} bytes of tensors in {held} bytes of files")
        state = read_json(path / STATE_FILE)
        if not isinstance(state, dict):
            raise ValueError(f"{STATE_FILE} holds no mapping")
        return found, index, state
    except (OSError, ValueError, MaquetteError) as error:
        raise MaquetteError(f"checkpoint '{path}' cannot be read: {error}") from None


def _shared_out(files: list[Written], world: int) -> list[list[Written]]:
    """Files by rank, the largest first to whoever has least."""
    shares: list[list[Written]] = [[] for _ in range(world)]
    sizes = [0] * world
    for file in sorted(files, key=lambda one: -one.bytes):
        rank = sizes.index(min(sizes))
        shares[rank].append(file)
        sizes[rank] += file.bytes
    return shares


def _wanted(parts: Parts) -> dict[str, dict[str, tuple[int, ...]]]:
    return {part: {name: tuple(tensor.shape) for name, tensor in tensors.items()} for part, tensors in parts.items()}


def _is_wanted(part: str, only: tuple[str, ...]) -> bool:
    return not only or any(fnmatchcase(part, pattern) for pattern in only)


def _contents(found: Checkpoint, only: tuple[str, ...]) -> Contents:
    parts = {part: found.read(part) for part in found.parts if _is_wanted(part, only)}
    return Contents(found.path, parts, found.state)
