"""What is launched: a ``maquette`` command with its words, and the run's folder that it trains into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from maquette import plugins
from maquette.config import load_run_config, read_words
from maquette.errors import MaquetteError

TRAINING = ("train", "finetune")


@dataclass(frozen=True)
class Job:
    """One command line.

    Attributes:
        command: a registered ``maquette`` command, e.g. ``train``.
        words: what follows it.
        plugins: loose-file plugins, as for ``maquette --plugin``.
    """

    command: str
    words: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()

    @property
    def resumable(self) -> bool:
        """Whether a restart should continue from the last checkpoint without being told."""
        return self.command in TRAINING and not any(word.startswith("resume=") for word in self.words)

    def arguments(self) -> tuple[str, ...]:
        """The words that every worker gets.

        All workers get the same ones at every start, so that a node that joins later agrees with those that have
        restarted: ``resume=auto`` starts a run where the folder holds none and continues it where it does.
        """
        files = [part for file in self.plugins for part in ("--plugin", file)]
        again = ("resume=auto",) if self.resumable else ()
        return (*files, self.command, *self.words, *again)

    def folder(self) -> Path | None:
        """The run's folder; None for a command that trains nothing.

        Raises:
            MaquetteError: the configuration cannot be read, or the command is not known.
        """
        plugins.load_files(self.plugins)
        plugins.lookup("commands", self.command)
        if self.command not in TRAINING:
            return None
        return _trained_into(self.command, self.words)

    def check(self, folder: Path | None) -> None:
        """Refuse to train into a run that exists without being asked to continue it, as ``train`` itself does.

        Raises:
            MaquetteError: the folder holds checkpoints.
        """
        if folder is not None and self.resumable and progress(folder):
            raise MaquetteError(f"'{folder}' already holds a run; continue it with resume=auto or choose another name=")


def progress(folder: Path) -> str:
    """The name of the newest checkpoint; empty where there is none. Says whether a run has got on."""
    return max((path.name for path in (folder / "checkpoints").glob("step_*")), default="")


def _trained_into(command: str, words: Sequence[str]) -> Path:
    if command == "finetune":
        from maquette.finetuning import finetuned_folder

        if not words:
            raise MaquetteError("maquette launch finetune: give the run to start from")
        return finetuned_folder(words[0], read_words(_settings_words(words[1:])))
    path = words[0] if words and "=" not in words[0] else None
    overrides = words[1:] if path else words
    given = read_words(overrides)
    if given.get("resume", "auto") not in ("auto", None):
        return Path(str(given.resume))
    return Path(str(load_run_config(path, _settings_words(overrides)).folder))


def _settings_words(words: Sequence[str]) -> list[str]:
    return [word for word in words if word != "resume=auto"]
