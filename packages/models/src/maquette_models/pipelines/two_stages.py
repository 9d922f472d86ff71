"""A structure first, then what is in it: two flows that share a grid, and the autoencoder of the second."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import nn

from maquette.errors import MaquetteError
from maquette.inference_device import inference_device
from maquette.runs import load_run, relative_run
from maquette_models.pipelines.flow_stage import FlowStage, FlowStageConfig


class TwoStages(NamedTuple):
    """`structure` says which of `side`^3 cells a shape passes, `latents` what `autoencoder` finds in them; `facts` are
    those of the latents' run."""

    structure: FlowStage
    latents: FlowStage
    autoencoder: nn.Module
    side: int
    facts: dict[str, Any]


def open_stages(run: str, stage: FlowStageConfig, structure: str, structure_stage: FlowStageConfig) -> TwoStages:
    """The stages of a run on latents and of one on structures.

    Raises:
        MaquetteError: a run is missing, was not trained on latents, or the two have grids of different sides.
    """
    device = inference_device()
    own = load_run(run, device)
    if "autoencoder" not in own.config.data or "latent_mean" not in own.facts:
        raise MaquetteError(f"'{run}' was not trained on latents; give a run whose data are latents of an autoencoder")
    other = load_run(relative_run(structure, own.folder), device)
    autoencoder = load_run(relative_run(own.config.data.autoencoder, own.folder), device).model.requires_grad_(False)
    side = int(other.facts["latent_resolution"])
    if side != autoencoder.latent_resolution:
        raise MaquetteError(
            f"'{structure}' makes structures of {side} cells a side, but the latents of '{run}' have "
            f"{autoencoder.latent_resolution}; train the structure with that data.resolution"
        )
    return TwoStages(FlowStage(other, structure_stage), FlowStage(own, stage), autoencoder, side, own.facts)
