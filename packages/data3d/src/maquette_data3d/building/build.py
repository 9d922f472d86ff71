"""Building a folder of shards: resumable, incremental, and the same bytes whatever interrupts or shares the work."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import MISSING

from maquette import plugins, progress
from maquette.errors import MaquetteError
from maquette_data3d.building.assemble import Assembler
from maquette_data3d.building.config import PROCEDURAL, BuildConfig
from maquette_data3d.building.earlier import EarlierBuild, contents
from maquette_data3d.building.job import Engine, Job, Limits
from maquette_data3d.building.ledger import WORK, Ledger
from maquette_data3d.building.outcome import Outcome
from maquette_data3d.building.recipe import VERSION, Recipe
from maquette_data3d.building.report import BuildReport, read_report
from maquette_data3d.building.sources import Item, classes_of, items
from maquette_data3d.building.write import write_all
from maquette_data3d.shards.format import MARKER

_MOST_EXAMPLES, _ATTEMPTS = 3, 3


def build_shards(config: BuildConfig) -> BuildReport:
    """Builds what a config describes, goes on with what was interrupted, or finds it done.

    A finished folder that was built with the same settings is brought up to date: samples of sources that have not
    changed are taken over.

    Raises:
        MaquetteError: the source is missing or empty, `out` holds something else, or nothing could be used.
    """
    for name in ("source", "out"):
        if getattr(config, name) == MISSING:
            raise MaquetteError(f"building shards: '{name}' must be given")
    if "://" in config.out:
        from maquette_data3d.building.remote import build_remote

        return build_remote(config, build_shards)
    if Path(config.out).exists() and not Path(config.out).is_dir():
        raise MaquetteError(f"'{config.out}' is a file; give a folder for the shards")
    return _Build(config).run()


class _Build:
    """One call of `build_shards`."""

    def __init__(self, config: BuildConfig) -> None:
        self.config, self.out = config, Path(config.out)
        self.items = items(config)
        self.classes = classes_of(config, self.items)
        self.recipe = Recipe.of(config)
        self.engine: Engine = plugins.build("engines", _block(config.engine))
        settings = [VERSION, config.contents(), self.recipe.features]
        self.settings = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
        self.known: dict[int, str] = {}

    def run(self) -> BuildReport:
        """The whole build."""
        earlier = self._earlier()
        if earlier:
            self.known = dict(enumerate(contents(self.items)))
            whole = not earlier.reader.damaged()  # what is lost is made again
            if whole and earlier.covers(self.items, list(self.known.values())):
                if (self.out / WORK).exists():  # killed after the last file, before the clean-up
                    Ledger(self.out).close()
                return read_report(self.out)
        elif (self.out / MARKER).is_file():
            raise MaquetteError(f"'{self.out}' holds shards of other settings; choose another folder, or delete it")
        existed = self.out.exists()
        ledger = Ledger(self.out)
        with ledger.owned():
            ledger.open(self._plan())
            assembler = self._decide(ledger, earlier)
            outcomes = [assembler.outcomes[item.number] for item in self.items]
            if all(outcome.reason for outcome in outcomes):
                ledger.close()
                if not existed:
                    shutil.rmtree(self.out, ignore_errors=True)
                raise MaquetteError(self._nothing_left(outcomes))
            report = write_all(
                self.config, self.recipe, self.items, assembler, classes=self.classes, settings=self.settings
            )
        ledger.close()
        return report

    def _plan(self) -> dict[str, str]:
        names = [f"{item.name}|{item.caption}|{item.class_name}" for item in self.items]
        return {"settings": self.settings, "sources": hashlib.sha256("\n".join(names).encode()).hexdigest()}

    def _earlier(self) -> EarlierBuild | None:
        """The finished build in the folder, where it has the same settings and can be read."""
        with suppress(OSError, ValueError, KeyError, MaquetteError):
            about = json.loads((self.out / MARKER).read_text())
            if about["fingerprint"] == self.settings:
                return EarlierBuild(self.out)
        return None

    def _decide(self, ledger: Ledger, earlier: EarlierBuild | None) -> Assembler:
        """Decides every source, writing shards on the way."""
        fetch = earlier.sample if earlier else _nothing
        decided = self._decided(ledger, earlier)
        assembler = Assembler(ledger, self.config.shard_samples, len(self.items), self.recipe.ragged(), fetch)
        for outcome in decided.values():
            assembler.add(outcome)
        todo = [item.number for item in self.items if item.number not in assembler.outcomes]
        what = "Building shards" if self.config.source == PROCEDURAL else "Processing meshes"
        shown = progress.Progress(what, len(self.items), start=len(self.items) - len(todo))
        try:
            for _ in range(_ATTEMPTS):
                for outcome in self._run(ledger, todo):
                    ledger.record(outcome)
                    assembler.add(outcome)
                    shown.advance()
                # Those whose samples turned out damaged, and those that were lost with their machines.
                todo = [item.number for item in self.items if item.number not in assembler.outcomes]
                if not todo:
                    return assembler
        finally:
            shown.close()
        raise MaquetteError(
            f"'{self.out}': {len(todo)} samples do not read back as they were written, or their machines were lost; "
            "check the disk and run the build again"
        )

    def _decided(self, ledger: Ledger, earlier: EarlierBuild | None) -> dict[int, Outcome]:
        """What the ledger or an earlier build knows, of sources that are as they were then."""
        decided = ledger.outcomes()
        if decided and self.config.source != PROCEDURAL:
            chosen = [self.items[number] for number in decided]
            for item, content in zip(chosen, contents(chosen), strict=True):
                before = decided[item.number].source_sha256
                if before and before != content:
                    ledger.forget(item.number, item.number // self.config.shard_samples)
                    del decided[item.number]
        for item in self.items if earlier else ():
            if item.number not in decided and earlier:
                outcome = earlier.outcome(item, self.known[item.number], self.recipe, self._pictured(item))
                if outcome:
                    decided[item.number] = outcome
        return dict(sorted(decided.items()))

    def _run(self, ledger: Ledger, numbers: Sequence[int]) -> Any:
        jobs = [
            Job(self.items[number], str(ledger.sample(number).resolve()), self._pictured(self.items[number]))
            for number in numbers
        ]
        limits = Limits(self.config.deadline_s, self.config.memory_mb, self.config.processes())
        return self.engine.run(jobs, self.recipe, limits) if jobs else iter(())

    def _pictured(self, item: Item) -> bool:
        """Whether a source is among those with a thumbnail: by its name, so that more sources change little."""
        place = int(hashlib.sha256(item.name.encode()).hexdigest()[:8], 16) / 2**32
        return place < self.config.thumbnails / len(self.items)

    def _nothing_left(self, outcomes: Sequence[Outcome]) -> str:
        shown = [(item.name, o) for item, o in zip(self.items, outcomes, strict=True)][:_MOST_EXAMPLES]
        examples = "; ".join(f"{name}: {outcome.reason} ({outcome.detail})" for name, outcome in shown)
        return f"none of the {len(self.items)} mesh files of '{self.config.source}' can be used: {examples}"


def _nothing(_outcome: Outcome) -> dict[str, np.ndarray] | None:
    return None


def _block(engine: Any) -> dict[str, Any]:
    block = {"name": engine} if isinstance(engine, str) else dict(engine) if isinstance(engine, Mapping) else {}
    if not isinstance(block.get("name"), str):
        raise MaquetteError(f"data build: engine {engine!r} has no name; write engine=local or engine={{name: ray}}")
    return block
