"""What an engine's process opens, on which device, and how it works."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maquette.assets import Pipeline, open_pipeline
from maquette.errors import MaquetteError

if TYPE_CHECKING:
    from maquette.split_passes import SplitPasses


@dataclass(frozen=True)
class Opened:
    """A pipeline of an engine: that of a run, or one that needs none.

    Args:
        block: changes to the run's pipeline block; for one without a run, its whole block.
        run: the folder of a run, or None.
        adapters: "FILE" or "FILE:scale" each.
    """

    block: Mapping[str, Any] = field(default_factory=dict)
    run: Path | None = None
    adapters: tuple[str, ...] = ()


@dataclass(frozen=True)
class EngineSetup:
    """What an engine's process opens and how it works.

    Args:
        pipelines: by the names that orders give.
        plugins: loose plugin files to load.
        rows: the most rows of a forward pass.
        ageing: see `Scheduler`.
        active: how many orders are under way at most.
        threads: of the process that has the device; 0 is one for each core but one.
        workers: processes for work that needs no device; 0 is one for each core, but two at least.
        measure: whether passes are timed before the first order: they then are as large as is worth their time, and
            requests that do not fit into the memory are refused.
        memory: GiB that passes may take; 0 is most of what is free, shared out evenly.
        sharers: engines that share what is free, and the GPUs.
        number: which of them this one is, from 0.
        device: on which models compute, e.g. cpu or cuda:1; "" is as `inference_device` says, of several GPUs one each.
        weights: as what runs' weights are stored: bf16, int8 or fp8; "" is as they were trained.
        compile: whether runs' models are compiled.
        adapters: a folder of adapters that requests may name, or None.
        split: processes that compute each pass of runs' models together, see `split_engine`.
    """

    pipelines: Mapping[str, Opened]
    plugins: tuple[str, ...] = ()
    rows: int = 16
    ageing: float = 20.0
    active: int = 64
    threads: int = 1
    workers: int = 1
    measure: bool = False
    memory: float = 0.0
    sharers: int = 1
    number: int = 0
    device: str = ""
    weights: str = ""
    compile: bool = False
    adapters: Path | None = None
    split: int = 1


def take_device(setup: EngineSetup, rank: int = 0) -> int:
    """Settles on which device this process opens runs, and gives how many engines share that.

    Args:
        rank: which of the processes that split their passes this one is.

    Raises:
        MaquetteError: there is no such device.
    """
    import torch

    from maquette.inference_device import VARIABLE, inference_device

    sharers, place = setup.sharers * setup.split, setup.number * setup.split + rank
    if setup.device:
        os.environ[VARIABLE] = setup.device
    elif not os.environ.get(VARIABLE) and (gpus := torch.cuda.device_count()) > 1:
        os.environ[VARIABLE] = f"cuda:{place % gpus}"
        sharers = len(range(place % gpus, sharers, gpus))
    device = inference_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)  # whose memory is asked for
    return sharers


def open_all(setup: EngineSetup, split: SplitPasses | None = None) -> dict[str, Pipeline]:
    """The pipelines of a setup.

    Args:
        split: with which other processes passes are computed, or None.

    Raises:
        MaquetteError: one of them cannot be opened.
    """
    from maquette import plugins

    plugins.load_files(list(setup.plugins))
    pipelines: dict[str, Pipeline] = {}
    for name, opened in setup.pipelines.items():
        if opened.run is None:
            pipelines[name] = plugins.build("pipelines", opened.block)
        else:
            pipelines[name] = open_pipeline(opened.run, opened.block, opened.adapters)
            prepare(name, pipelines[name], setup, split)
    return pipelines


def prepare(name: str, pipeline: Any, setup: EngineSetup, split: SplitPasses | None = None) -> None:
    """Does to a run's pipeline what a setup asks for.

    Raises:
        MaquetteError: it cannot be done to this one.
    """
    wishes = {
        "use_weights": (bool(setup.weights), "--weights", (setup.weights,)),
        "split_stages": (split is not None, "--split", (split,)),
        "compile_stages": (setup.compile, "--compile", ()),
        "register_adapters": (setup.adapters is not None, "--adapters", (setup.adapters,)),
    }
    for method, (asked, option, arguments) in wishes.items():
        if asked and not hasattr(pipeline, method):
            raise MaquetteError(f"the pipeline of '{name}' knows no {option}")
        if asked:
            getattr(pipeline, method)(*arguments)
