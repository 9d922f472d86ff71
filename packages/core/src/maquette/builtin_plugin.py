"""What core itself provides, through the same door as everybody's plugins."""

from __future__ import annotations

from maquette import hookimpl
from maquette.hookspecs import Register


@hookimpl
def register_strategies(register: Register) -> None:
    """One process, and plain data parallelism."""
    register("single", "maquette.parallelism:SingleConfig", "maquette.parallelism:Single")
    register("ddp", "maquette.parallelism:DataParallelConfig", "maquette.parallelism:DataParallel")


@hookimpl
def register_commands(register: Register) -> None:
    """Training and looking around."""
    register("train", "Train a run: maquette train CONFIG.yaml [key=value ...]", "maquette.cli.training:train")
    register(
        "finetune",
        "Start from a run's weights: maquette finetune RUN [key=value ...]",
        "maquette.cli.training:finetune",
    )
    register("plugins", "List the plugins and what they provide", "maquette.cli.looking:plugins")
    register("show", "Explain one registered thing: maquette show KIND NAME", "maquette.cli.looking:show")
    register("new", "Write the skeleton of a plugin package: maquette new NAME", "maquette.cli.scaffold:new")
