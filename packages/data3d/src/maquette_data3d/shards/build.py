"""Building a folder of shards: resumable, and the same bytes whatever interrupts or shares the work."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from maquette import progress
from maquette.durable import write_json
from maquette.errors import MaquetteError
from maquette_data3d import __version__
from maquette_data3d.shards import assemble
from maquette_data3d.shards.config import FORMAT, PROCEDURAL, BuildConfig, fingerprint
from maquette_data3d.shards.ledger import WORK, Ledger
from maquette_data3d.shards.pool import Pool
from maquette_data3d.shards.process import Outcome, Settings
from maquette_data3d.shards.report import BuildReport, report_of
from maquette_data3d.shards.sources import Item, items

_MOST_EXAMPLES, _ATTEMPTS = 3, 3


def build_shards(config: BuildConfig) -> BuildReport:
    """Builds what a config describes, goes on with what was interrupted, or finds it done.

    Raises:
        MaquetteError: the source is missing or empty, `out` holds something else, or nothing could be used.
    """
    out = _folder(config)
    sources = items(config)
    classes = _classes(config, sources)
    names = [f"{item.name}|{item.caption}|{item.class_name}" for item in sources]
    plan = {"fingerprint": fingerprint(config.contents(), names)}
    finished = _finished(out, plan)
    if finished:
        return finished
    existed = out.exists()
    ledger = Ledger(out)
    with ledger.owned():
        ledger.open(plan)
        outcomes = _all_outcomes(ledger, config, sources, classes)
        report = report_of(out, sources, outcomes)
        if not report.kept:
            ledger.close()
            if not existed:
                shutil.rmtree(out, ignore_errors=True)
            raise MaquetteError(_nothing_left(config, report))
        lines, sides = _index(config, sources, outcomes)
        assemble.write_lines(out / "index.jsonl", lines)
        write_json(out / "report.json", report.plain())
        # Last of all: its presence says that the build is complete.
        write_json(out / "shards.json", _description(config, lines, sides, classes, plan))
    ledger.close()
    return report


def _folder(config: BuildConfig) -> Path:
    for name in ("source", "out"):
        if getattr(config, name) == MISSING:
            raise MaquetteError(f"building shards: '{name}' must be given")
    out = Path(config.out)
    if out.exists() and not out.is_dir():
        raise MaquetteError(f"'{out}' is a file; give a folder for the shards")
    return out


def _classes(config: BuildConfig, sources: list[Item]) -> list[str]:
    if config.source == PROCEDURAL:
        from maquette_data3d.procedural import CLASSES

        return list(CLASSES)
    return sorted({str(item.class_name) for item in sources})


def _finished(out: Path, plan: dict[str, str]) -> BuildReport | None:
    """The report of a build that is already complete.

    Raises:
        MaquetteError: it was made of something else.
    """
    marker = out / "shards.json"
    if not marker.is_file():
        return None
    if json.loads(marker.read_text()).get("fingerprint") != plan["fingerprint"]:
        raise MaquetteError(f"'{out}' holds shards of other settings or sources; choose another folder, or delete it")
    if (out / WORK).exists():  # killed after the last file, before the clean-up
        Ledger(out).close()
    return BuildReport(out, **json.loads((out / "report.json").read_text()))


def _all_outcomes(ledger: Ledger, config: BuildConfig, sources: list[Item], classes: list[str]) -> list[Outcome]:
    """Decides every item, writing shards on the way."""
    assembler = assemble.Assembler(ledger, config.shard_samples, len(sources))
    again: list[int] = []
    decided = ledger.outcomes()
    for outcome in decided.values():
        again += assembler.add(outcome)
    what = "Building shards" if config.source == PROCEDURAL else "Processing meshes"
    shown = progress.Progress(what, len(sources), start=len(decided) - len(again))
    todo = [item.number for item in sources if item.number not in decided] + again
    try:
        for _ in range(_ATTEMPTS):
            again = []
            for outcome in _run(ledger, config, [sources[number] for number in sorted(todo)], classes):
                ledger.record(outcome)
                again += assembler.add(outcome)
                shown.advance()
            todo = again
            if not todo:
                break
    finally:
        shown.close()
    if todo:
        raise MaquetteError(f"'{ledger.out}': samples do not read back as they were written; check the disk")
    return [assembler.outcomes[item.number] for item in sources]


def _run(ledger: Ledger, config: BuildConfig, chosen: list[Item], classes: list[str]) -> Iterator[Outcome]:
    settings = Settings(
        config.resolution, config.truncation, config.points, config.seed, config.largest_faces, config.variety
    )
    procedural = config.source == PROCEDURAL
    number_of = {name: number for number, name in enumerate(classes)}
    requests = [
        {
            "item": item.__dict__,
            "class_id": number_of.get(str(item.class_name)),
            "target": str(ledger.sample(item.number)),
        }
        for item in chosen
    ]
    pool = Pool(config.processes(), settings, procedural, config.deadline_s, config.memory_mb)
    return pool.run(requests)


def _nothing_left(config: BuildConfig, report: BuildReport) -> str:
    shown = report.quarantined_files[:_MOST_EXAMPLES]
    examples = "; ".join(f"{entry['file']}: {entry['reason']} ({entry['detail']})" for entry in shown)
    return f"none of the {report.found} mesh files of '{config.source}' can be used: {examples}"


def _index(config: BuildConfig, sources: list[Item], outcomes: list[Outcome]) -> tuple[list[dict[str, Any]], list[str]]:
    """The index of the kept samples, and which side each of them is on."""
    kept = [outcome for outcome in outcomes if not outcome.reason]
    sides = assemble.splits(kept, config.held_out)
    return assemble.index_lines(sources, kept, sides, config.shard_samples), sides


def _description(
    config: BuildConfig,
    lines: list[dict[str, Any]],
    sides: list[str],
    classes: list[str],
    plan: dict[str, str],
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "resolution": config.resolution,
        "color_resolution": config.resolution // 2,
        "truncation": config.truncation,
        "points": config.points,
        "samples": len(lines),
        "splits": {side: sides.count(side) for side in (assemble.TRAIN, assemble.VALIDATION)},
        "shards": (len(lines) + config.shard_samples - 1) // config.shard_samples,
        "classes": classes,
        "vocabulary": assemble.vocabulary(lines),
        "fingerprint": plan["fingerprint"],
        "provenance": {"made_by": f"maquette-data3d {__version__}", "settings": config.contents()},
    }
