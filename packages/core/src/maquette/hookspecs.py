"""The whole extension surface of maquette, on one screen.

Every hook has one shape. A plugin module implements it and calls ``register(name, Config, build)``: ``Config`` is a
dataclass, ``build(config)`` gives the object. Either may be a ``"module:attribute"`` string, which is imported only
when the name is used; that keeps ``maquette plugins`` free of torch.
"""

from __future__ import annotations

from typing import Any, Protocol

import pluggy

hookspec = pluggy.HookspecMarker("maquette")


class Register(Protocol):
    """What every hook receives."""

    def __call__(self, name: str, config: Any, build: Any) -> None:
        """Register ``build`` under ``name``, configured by the dataclass ``config``."""


@hookspec
def register_datasets(register: Register) -> None:
    """``build(config)`` gives a LightningDataModule that resumes at the exact sample."""


@hookspec
def register_features(register: Register) -> None:
    """``build(config)`` gives what a sample holds beside others: ``fields()`` and ``compute(subject)`` to arrays."""


@hookspec
def register_engines(register: Register) -> None:
    """``build(config)`` gives an engine that runs a data build: in this process, in local ones, on a cluster."""


@hookspec
def register_curricula(register: Register) -> None:
    """``build(config)`` gives ``at(consumed)``: how large samples may be at that point of a training."""


@hookspec
def register_architectures(register: Register) -> None:
    """``build(config)`` gives a plain, single-device nn.Module with ``blocks()`` and a tensor-parallel plan."""


@hookspec
def register_objectives(register: Register) -> None:
    """``build(config)`` gives ``objective(model, batch)``, a dict with the scalar ``loss`` and scalars to log."""


@hookspec
def register_strategies(register: Register) -> None:
    """``build(config)`` gives a Strategy: it owns one axis of the mesh and transforms a model for it."""


@hookspec
def register_optimizers(register: Register) -> None:
    """``build(config)`` gives ``factory(named_parameters)``, which makes a torch.optim.Optimizer."""


@hookspec
def register_conditioners(register: Register) -> None:
    """``build(config)`` gives an nn.Module from text, image, class or shape to condition tokens."""


@hookspec
def register_samplers(register: Register) -> None:
    """``build(config)`` gives a sampler over pure step rules: noise and a velocity in, latents out."""


@hookspec
def register_decoders(register: Register) -> None:
    """``build(config)`` gives a decoder from fields to a closed mesh."""


@hookspec
def register_metrics(register: Register) -> None:
    """``build(config)`` gives a torchmetrics.Metric."""


@hookspec
def register_pipelines(register: Register) -> None:
    """``build(config)`` gives a pipeline from a Request to an Asset, used by the command line and by serving."""


@hookspec
def register_kernels(register: Register) -> None:
    """``build(config)`` gives an operation with its reference and its implementations."""


@hookspec
def register_exporters(register: Register) -> None:
    """Named by suffix (``.glb``); ``build(config)`` gives ``export(asset, path)``, which writes atomically."""


@hookspec
def register_importers(register: Register) -> None:
    """Named by suffix (``.glb``); ``build(config)`` gives ``read(path)``, an Asset in the file's own units, y up."""


@hookspec
def register_finishers(register: Register) -> None:
    """``build(config)`` gives ``finish(asset)``: one step to a usable asset: repair, decimate, unwrap, bake."""


@hookspec
def register_checks(register: Register) -> None:
    """``build(config)`` gives ``check(machine)``, which yields findings: what `maquette doctor` looks at."""


@hookspec
def register_commands(register: Register) -> None:
    """A subcommand of ``maquette``: ``register(name, "one line of help", "module:click_command")``."""


KINDS: tuple[str, ...] = tuple(name.removeprefix("register_") for name in globals() if name.startswith("register_"))
"""The kinds of things that plugins provide, in the order above."""
