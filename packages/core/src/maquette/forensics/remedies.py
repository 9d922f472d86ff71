"""What to change in a run that does not fit in memory: changes of its configuration, each with the peak it would have.

The peaks are those of :mod:`maquette.planning`, reckoned in a process of their own: the one that ran out of memory has
none left, and a process group that would be in the way.

    python -m maquette.forensics.remedies RUN WORLD ACCELERATOR [PLUGIN.py ...]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from omegaconf import DictConfig

from maquette import plugins
from maquette.config import read_words
from maquette.errors import MaquetteError
from maquette.planning.report import size
from maquette.runs import RunFolder

PATIENCE = 120.0
"""Seconds for all plans together."""
OF_A_LAUNCH = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
SAID = 2
"""Changes that are named in the message; the rest is in the table."""


@dataclass(frozen=True)
class Remedies:
    """The peak of the run as it is, and with changes.

    Attributes:
        peak: bytes of one process as configured; 0 where it could not be planned.
        changes: (words for the command line, bytes), least first; only what is lower.
        reason: why there is no plan, or not of every change.
    """

    peak: int = 0
    changes: tuple[tuple[str, int], ...] = ()
    reason: str = ""

    def line(self) -> str:
        """For a message."""
        if not self.peak:
            return f"lower data.batch_size or set train.activation_checkpointing=full ({self.reason})"
        if not self.changes and self.reason:
            return f"the planned peak is {size(self.peak)} and nothing that could be planned lowers it ({self.reason})"
        if not self.changes:
            return f"the planned peak is {size(self.peak)} and no setting known here lowers it; take a smaller model"
        told = " or ".join(f"{words} ({size(peak)})" for words, peak in self.changes[:SAID])
        return f"try {told} instead of a planned peak of {size(self.peak)}"

    def table(self) -> str:
        """For the summary."""
        if not self.peak:
            return f"what to change could not be reckoned: {self.reason}"
        rows = [f"  {size(peak):>12}  {words}" for words, peak in self.changes]
        rows += [f"not planned: {self.reason}"] if self.reason else []
        return "\n".join([f"planned peak of a process: {size(self.peak)}; with changes:", *rows])


def remedies(run: Path, world: int) -> Remedies:
    """What would lower the peak of a run."""
    environment = {name: value for name, value in os.environ.items() if name not in OF_A_LAUNCH}
    command = [sys.executable, "-m", "maquette.forensics.remedies", str(run), str(world), _accelerator()]
    command += plugins.loose_files()
    late = []
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            output, errors = process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            late = ["there was no time to plan every change"]
            output, errors = process.communicate()  # what was planned by then
    rows = [json.loads(line) for line in output.splitlines() if line.startswith("[")]
    if not rows:
        return Remedies(reason=(errors.strip().splitlines() or ["planning took too long"])[-1])
    (_, peak), *changed = rows
    lower = sorted(
        ((words, told) for words, told in changed if isinstance(told, int) and told < peak), key=itemgetter(1)
    )
    failed = [f"{words}: {told}" for words, told in changed if isinstance(told, str)]
    return Remedies(peak, tuple(lower), "; ".join([*failed, *late]))


def candidates(config: DictConfig, world: int) -> Iterator[str]:
    """Changes worth a plan, as words of the command line; those that tell most come first, as time may run out."""
    train = config.train
    batch = config.data.get("batch_size")
    if train.activation_checkpointing != "full":
        yield "train.activation_checkpointing=full"
    if isinstance(batch, int) and batch % 2 == 0 and batch // 2 >= world:
        half = f"data.batch_size={batch // 2} train.accumulate={2 * train.accumulate}"
        yield half
        if train.activation_checkpointing != "full":
            yield f"{half} train.activation_checkpointing=full"
    if train.activation_checkpointing == "none":
        yield "train.activation_checkpointing=selective"
    if world > 1 and config.strategy.get("name") in ("ddp", "zero1", "zero2"):
        yield "strategy.name=fsdp"
    if train.precision == "fp32":
        yield "train.precision=bf16"
    if train.parameters == "fp32" and train.precision != "fp32":
        yield "train.parameters=bf16"
    if len(train.ema_decays) > 1:
        yield f"train.ema_decays=[{max(train.ema_decays)}]"


def _accelerator() -> str:
    import torch

    from maquette.planning.own_device import find_accelerator

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = find_accelerator("", device)
    return found.name if found else "cpu"


def main(run: str, world: str, name: str, *files: str) -> None:
    """Print ``[words, bytes]`` a line: the run as it is, then each change; ``[words, why]`` where it has no plan."""
    from maquette.accelerators import accelerator
    from maquette.config import RunConfig, load
    from maquette.planning.plan import make_plan

    plugins.load_files(files)
    config = RunFolder(Path(run)).read_config()
    for words in ("", *candidates(config, int(world))):
        try:
            changed = load(RunConfig, config, read_words(words.split()))
            told: int | str = make_plan(changed, int(world), accelerator(name)).memory.peak
        except MaquetteError as error:
            if not words:
                raise
            told = str(error)
        sys.stdout.write(json.dumps([words, told]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except MaquetteError as error:
        sys.exit(str(error))
