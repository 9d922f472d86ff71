"""Saves a run's checkpoints while it trains on."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from maquette.checkpoint.index import FORMAT
from maquette.checkpoint.planning import Parts, SharingOut
from maquette.checkpoint.processes import Processes, Ranks
from maquette.checkpoint.publishing import Publication
from maquette.checkpoint.retention import WriterLock, purge, step_folder
from maquette.checkpoint.staging import Staging
from maquette.errors import MaquetteError
from maquette.ownership import Ownership

SLOW_SECONDS = 2.0
"""A wait for the save before, above which the disk is said to be slow."""


class Saver:
    """Writes checkpoints of one run, one at a time. All processes construct and call it together.

    Args:
        folder: where the checkpoints are; on a file system that all processes share.
        mesh: the ranks; None for one process alone.
        keep: how many of the newest to keep, at least 1.
        keep_best: how many of those with the lowest score to keep besides.
        background: let a thread write while training goes on.
        owner: of the run's folder, on rank 0; a save is given up when another process has taken over.

    Use it in a ``with``, or call :meth:`close`: the last save may still be under way.
    """

    def __init__(
        self,
        folder: Path | str,
        mesh: Ranks | None = None,
        *,
        keep: int = 2,
        keep_best: int = 0,
        background: bool = True,
        owner: Ownership | None = None,
    ) -> None:
        if keep < 1 or keep_best < 0:
            raise MaquetteError(f"keep={keep} and keep_best={keep_best}: keep at least 1 and not fewer than 0 best")
        self.folder, self.keep, self.keep_best, self.background = Path(folder), keep, keep_best, background
        self.owner = owner
        self.processes = Processes(mesh, own_group=True)
        self.layout = str(getattr(mesh, "layout", "")) or "one process"
        self._sharing = SharingOut(self.processes)
        self._staging = Staging()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint") if background else None
        self._under_way: Future[None] | None = None
        self._warnings: list[str] = []
        self._remarks: list[str] = []
        self._lock: WriterLock | None = None
        self.processes.gather(lambda: None, lambda _: self._prepare_folder())

    def save(
        self, step: int, parts: Parts, state: Mapping[str, Any], score: float | None = None, wait: bool = False
    ) -> None:
        """Save a checkpoint of a step, unless there is one already.

        When it returns, ``parts`` and ``state`` may change. Waits for the save before it, if that is still under way.

        Args:
            step: the optimizer steps taken.
            parts: tensors by part and name; a name is the same whatever the layout. Plain tensors are alike on all
                ranks that hold the name.
            state: plain data; rank 0's is written.
            score: lower is better, e.g. ``validation/loss``; what ``keep_best`` goes by.
            wait: come back when it is on the disk (the last save of a run).

        Raises:
            MaquetteError: it could not be written and this is a save that waits; or a value cannot be saved. Failures
                in the background are told by :meth:`poll`.
        """
        began = time.monotonic()
        self.wait()
        if (waited := time.monotonic() - began) > SLOW_SECONDS:
            self._remarks.append(f"step {step} waited {waited:.1f} s for the save before it; '{self.folder}' is slow")
        main, exists = self.processes.rank == 0, step_folder(self.folder, step).exists
        text = self.processes.gather(
            lambda: self._state_text(step, state, score) if main else "", lambda texts: "" if exists() else texts[0]
        )
        if not text:
            return
        share, files = self._sharing.share(parts)
        if self._thread is None or wait:
            Publication(self.folder, step, share, files, text, self.owner).publish(self.processes, self._tidy)
        else:
            staged = Publication(self.folder, step, share, self._staging.copy(files), text, self.owner)
            self._under_way = self._thread.submit(staged.publish, self.processes, self._tidy)

    @property
    def busy(self) -> bool:
        """Whether a save is under way."""
        return self._under_way is not None and not self._under_way.done()

    def wait(self) -> None:
        """Wait until the save that is under way has ended, well or not."""
        if self._under_way is not None:
            try:
                self._under_way.result()
            except MaquetteError as error:
                self._warnings.append(f"{error}; training goes on")
            except Exception:
                self._warnings.append(f"a checkpoint was not saved:\n{traceback.format_exc()}")
            self._under_way = None

    def poll(self) -> list[str]:
        """What went wrong since the last call; ask at step boundaries. Never waits.

        Raises:
            MaquetteError: another process has taken over, so that going on would be in vain.
        """
        if not self.busy:
            self.wait()
        warnings, remarks = self._warnings, self._remarks
        self._warnings, self._remarks = [], []
        if warnings and self.owner:
            self.owner.check()
        return warnings + remarks

    def close(self) -> None:
        """Wait for the last save and let go of thread and lock.

        Raises:
            MaquetteError: a save failed and nobody has asked :meth:`poll` since.
        """
        self._end()
        self._remarks = []
        if warnings := self.poll():
            raise MaquetteError(warnings[-1])

    def __enter__(self) -> Saver:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        # What is already being raised matters more.
        self.close() if kind is None else self._end()

    def _end(self) -> None:
        self.wait()
        if self._thread is not None:
            self._thread.shutdown()
            self._thread = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _prepare_folder(self) -> None:
        self._lock = WriterLock(self.folder)
        self._lock.remove_leftovers()

    def _state_text(self, step: int, state: Mapping[str, Any], score: float | None) -> str:
        world = self.processes.world
        whole = {**state, "format": FORMAT, "step": step, "layout": self.layout, "world": world, "score": score}
        try:
            return json.dumps(whole, indent=1) + "\n"
        except (TypeError, ValueError) as error:
            raise MaquetteError(f"the state of step {step} is not plain data that JSON can hold: {error}") from None

    def _tidy(self) -> None:
        try:
            purge(self.folder, self.keep, self.keep_best)
        except OSError as error:
            self._warnings.append(f"old checkpoints in '{self.folder}' could not be removed: {error}")
