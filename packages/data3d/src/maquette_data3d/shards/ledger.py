"""What a build has done so far, on disk an item at a time, so that a killed one goes on where it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from maquette.durable import write_json
from maquette.errors import MaquetteError
from maquette_data3d.shards.process import Outcome

WORK = ".work"


class Ledger:
    """The work folder of one build: its plan, an outcome an item, and the samples that no shard holds yet."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out / WORK

    def open(self, plan: dict[str, str]) -> None:
        """Starts, or goes on with, the build that a plan describes.

        Raises:
            MaquetteError: the folder holds something else.
        """
        held = self.folder / "plan.json"
        if held.is_file():
            if json.loads(held.read_text()) != plan:
                raise MaquetteError(
                    f"'{self.out}' holds an unfinished build with other settings or sources; "
                    "choose another folder, or delete it"
                )
        elif self.out.is_dir() and any(path.name != WORK for path in self.out.iterdir()):
            raise MaquetteError(f"'{self.out}' is not empty and holds no build of ours; choose another folder")
        for name in ("outcomes", "samples"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        write_json(held, plan)
        self._clear_halves()

    def _clear_halves(self) -> None:
        """Removes what a kill left under temporary names."""
        for folder in (self.out, self.folder, self.folder / "outcomes", self.folder / "samples"):
            for path in folder.glob(".*"):
                if path.is_file() and path.name != "lock":
                    path.unlink()

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Keeps a second build out of the same folder.

        Raises:
            MaquetteError: another process builds here.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "lock").open("w") as lock:
            with suppress(ImportError):  # no such locks on Windows
                import fcntl

                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    raise MaquetteError(f"another process is building '{self.out}'; wait for it to end") from None
            yield

    def sample(self, number: int) -> Path:
        """Where the arrays of a kept item wait for their shard."""
        return self.folder / "samples" / f"{number:08d}.safetensors"

    def outcomes(self) -> dict[int, Outcome]:
        """Everything that is already decided."""
        found = {}
        for path in (self.folder / "outcomes").glob("*.json"):
            outcome = Outcome(**json.loads(path.read_text()))
            found[outcome.number] = outcome
        return found

    def record(self, outcome: Outcome) -> None:
        """Decides an item for good."""
        write_json(self.folder / "outcomes" / f"{outcome.number:08d}.json", outcome.plain())

    def forget(self, number: int) -> None:
        """Takes a decision back: its sample is missing or damaged."""
        (self.folder / "outcomes" / f"{number:08d}.json").unlink(missing_ok=True)
        self.sample(number).unlink(missing_ok=True)

    def close(self) -> None:
        """The build is complete: the work folder goes."""
        shutil.rmtree(self.folder, ignore_errors=True)
