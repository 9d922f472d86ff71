"""``maquette train`` and ``maquette finetune``."""

from __future__ import annotations

import click

from maquette.config import load_run_config, read_words
from maquette.progress import say


@click.command()
@click.argument("words", nargs=-1, metavar="[CONFIG.yaml] [key=value ...]")
def train(words: tuple[str, ...]) -> None:
    """Train a run from a YAML file and key=value words, or continue one with resume=RUN."""
    from maquette.runner import resume_config
    from maquette.runner import train as train_run

    path = words[0] if words and "=" not in words[0] else None
    overrides = words[1:] if path else words
    given = read_words(overrides)
    continued = given.get("resume") not in (None, "auto")
    config = resume_config(given.resume, given) if continued else load_run_config(path, overrides)
    run = train_run(config)
    say(f"finished: {run.path}")


@click.command()
@click.argument("run")
@click.argument("words", nargs=-1, metavar="[key=value ...]")
def finetune(run: str, words: tuple[str, ...]) -> None:
    """Train a new run that starts from RUN's weights, with RUN's configuration changed by key=value words.

    data.source=FOLDER (or procedural) builds the data, by settings data.build.KEY=VALUE as of `maquette data build`.
    method=lora trains low-rank changes, method=partial some weights, method=full (the default) all of them.
    """
    from maquette.finetuning import finetune_config
    from maquette.runner import train as train_run

    finished = train_run(finetune_config(run, read_words(words)))
    say(f"finished: {finished.path}")
