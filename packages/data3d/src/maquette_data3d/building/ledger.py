"""What a build has done so far, on disk, so that a killed one goes on where it was."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from maquette.durable import write_json
from maquette.errors import MaquetteError
from maquette_data3d.building.outcome import Outcome
from maquette_data3d.shards.format import MARKER, ShardFile

WORK = ".work"


class Ledger:
    """The work folder of one build: its plan, a log of decisions, and the samples that no shard holds yet.

    One process writes, by appending whole lines; a line that a kill tore apart is as if it had never been.
    """

    def __init__(self, out: Path) -> None:
        self.out = out
        self.folder = out / WORK
        self.samples = self.folder / "samples"
        self._log = self.folder / "log.jsonl"
        self._outcomes: dict[int, Outcome] = {}
        self._lots: dict[int, ShardFile | None] = {}

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

    def open(self, plan: dict[str, Any]) -> None:
        """Starts, or goes on with, the build that a plan describes.

        A plan with the same settings but other sources keeps what is decided of the sources that stayed.

        Raises:
            MaquetteError: the folder holds something else.
        """
        held = self.folder / "plan.json"
        if held.is_file():
            before = json.loads(held.read_text())
            if before["settings"] != plan["settings"]:
                raise MaquetteError(
                    f"'{self.out}' holds an unfinished build with other settings; choose another folder, or delete it"
                )
            if before != plan:
                shutil.rmtree(self.samples, ignore_errors=True)
                self._log.unlink(missing_ok=True)
        elif not (self.out / MARKER).is_file() and any(path.name != WORK for path in self.out.iterdir()):
            raise MaquetteError(f"'{self.out}' is not empty and holds no build of ours; choose another folder")
        self.samples.mkdir(parents=True, exist_ok=True)
        write_json(held, plan)
        for folder in (self.out, self.folder, self.samples):
            for path in folder.glob(".*"):  # what a kill left under temporary names
                if path.is_file() and path.name != "lock":
                    path.unlink()
        self._read()

    def _read(self) -> None:
        whole = b""
        if self._log.is_file():
            content = self._log.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            if len(whole) < len(content):
                self._log.write_bytes(whole)
        for line in whole.splitlines():
            entry = json.loads(line)
            if "outcome" in entry:
                outcome = Outcome(**entry["outcome"])
                self._outcomes[outcome.number] = outcome
            elif "forget" in entry:
                self._outcomes.pop(entry["forget"], None)
                self._lots.pop(entry["lot"], None)
            else:
                self._lots[entry["lot"]] = ShardFile(**entry["shard"]) if entry["shard"] else None

    def _append(self, entry: dict[str, Any]) -> None:
        with self._log.open("ab") as log:
            log.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")

    def sample(self, number: int) -> Path:
        """Where the arrays of a kept source wait for their shard."""
        return self.samples / f"{number:08d}.safetensors"

    def outcomes(self) -> dict[int, Outcome]:
        """Everything that is already decided."""
        return dict(self._outcomes)

    def lots(self) -> dict[int, ShardFile | None]:
        """The shards that are already written; None for a lot that kept nothing."""
        return {
            number: shard
            for number, shard in self._lots.items()
            if shard is None or (self.out / shard.file).is_file()  # a lost one is written again
        }

    def record(self, outcome: Outcome) -> None:
        """Decides a source for good."""
        self._append({"outcome": outcome.plain()})

    def written(self, lot: int, shard: ShardFile | None) -> None:
        """A lot's shard is on disk."""
        self._append({"lot": lot, "shard": asdict(shard) if shard else None})

    def forget(self, number: int, lot: int) -> None:
        """Takes a decision back, and with it the shard of its lot: the sample is damaged, or its source changed."""
        self._append({"forget": number, "lot": lot})
        self._lots.pop(lot, None)
        self.sample(number).unlink(missing_ok=True)

    def close(self) -> None:
        """The build is complete: the work folder goes."""
        shutil.rmtree(self.folder, ignore_errors=True)
