"""``maquette plan``."""

from __future__ import annotations

from typing import Any

import click
from omegaconf import DictConfig, OmegaConf

from maquette.accelerators import accelerator
from maquette.config import load_run_config, read_words
from maquette.errors import MaquetteError

OWN = ("world", "accelerator", "batch")
"""Words that are of the plan, not of the run."""


@click.command()
@click.argument("words", nargs=-1, metavar="[CONFIG.yaml] [key=value ...] [world=64] [accelerator=h200]")
def plan(words: tuple[str, ...]) -> None:
    """Memory, arithmetic and traffic of a run, before it starts and without a GPU.

    Takes what ``maquette train`` takes, and ``world`` (how many processes; by default what ``parallel`` claims),
    ``accelerator`` (h200, h100, a100, a100_40, l40s, rtx4090, mi300x, cpu) and, where neither the model nor the dataset
    can tell a batch's shapes, one sample's: ``batch.latent=[7,32,32,32] batch.class_id=int64``.
    """
    from rich.console import Console

    from maquette.planning.plan import make_plan
    from maquette.planning.report import show

    path = words[0] if words and "=" not in words[0] else None
    mine, rest = _sort(words[1:] if path else words)
    node = load_run_config(path, rest)
    device = accelerator(str(mine.get("accelerator") or node.monitor.accelerator or "cpu"))
    show(make_plan(node, _world(mine), device, mine.get("batch")), Console(width=120))


def _sort(words: tuple[str, ...]) -> tuple[DictConfig, list[str]]:
    """(the plan's words as a mapping, the run's words)."""
    mine = [word for word in words if word.partition("=")[0].partition(".")[0] in OWN]
    return read_words(mine) if mine else OmegaConf.create({}), [word for word in words if word not in mine]


def _world(mine: DictConfig) -> int:
    value: Any = mine.get("world", 0)
    if not isinstance(value, int) or value < 0:
        raise MaquetteError(f"world={value}: how many processes to plan for, e.g. world=64")
    return value
