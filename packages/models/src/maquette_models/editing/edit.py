"""The pipeline that changes a given mesh by a prompt, for flows on grid latents: a region of it, all of it a little, or
towards another one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from maquette.errors import MaquetteError
from maquette.inference_device import CPU, moved
from maquette.runs import RunFolder
from maquette.types import Mesh
from maquette_models.editing.inpainting import inpaint, slerp, vary
from maquette_models.editing.mesh_edits import EDIT, EditSettings, MeshEdits, Task, best_of, led
from maquette_models.grid.mesh_fields import mesh_grids
from maquette_models.pipelines.flow_stage import FlowStage
from maquette_models.pipelines.option_values import fraction
from maquette_models.pipelines.text_to_3d import TextTo3D, TextTo3DConfig


@dataclass
class EditConfig(EditSettings, TextTo3DConfig):
    """From the time `settle` on what is outside the region is put in, so that the region joins it. At a `release` of 0
    that is so at all times, and each step is made in `rounds` (RePaint)."""

    settle: float = 0.0
    rounds: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        fraction(self.settle, "settle", EDIT)
        if self.rounds < 1:
            raise ValueError("'rounds' must be at least 1")


class Edit(MeshEdits, TextTo3D):
    """Beside what `MeshEdits` says, requests may have `settle` and `rounds`.

    In the place of a region or a variation there may be `toward`, another mesh, and `at` in [0, 1] (.5): a shape
    between the two, with a freedom of `strength` (.4).
    """

    kinds: ClassVar[Mapping[str, str]] = {**MeshEdits.kinds, "toward": "interpolation"}
    more_options: ClassVar[tuple[str, ...]] = (*MeshEdits.more_options, "settle", "rounds", "at", "strength")

    def __init__(self, config: EditConfig) -> None:
        super().__init__(config)
        facts = RunFolder(Path(config.run)).read_config().facts
        if "resolution" not in facts or "truncation" not in facts:
            raise MaquetteError(
                f"'{config.run}' does not know its grids' resolution and truncation; train it on shards"
            )
        self.resolution, self.truncation = int(facts["resolution"]), float(facts["truncation"])

    @property
    def edited_stage(self) -> FlowStage:
        """The only one."""
        return self.stage

    def latent(self, mesh: Mesh) -> Tensor:
        """The normalised latent [1,C,L,L,L] of a mesh."""
        grids = moved(mesh_grids(mesh, self.resolution, self.truncation), self.stage.device)
        return (self.autoencoder.encode(*grids).to(CPU) - self.mean) / self.std

    def renewed(self, task: Task, mask: NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
        """Of several candidates the one that agrees best with the prompt where the mask is, beside the mesh's own other
        cells."""
        free, times, release = coarse(mask, self.latent_shape[-1]), task.times(self.stage), self.released(task)
        rounds, count = self.count(task, "rounds"), self.count(task, "candidates")
        own = self.latent(task.mesh)
        field, known = led(self.stage, task, own, count), own.expand(count, *self.latent_shape[1:])
        known, free = moved((known, free), self.stage.device)
        if release:
            settle = fraction(task.options.get("settle", self.config.settle), "settle", EDIT)
            latent = vary(field, known, release, times, task.generator, free=free, settle=settle)
        else:
            latent = inpaint(field, known, free, times, rounds=rounds, generator=task.generator)
        best = best_of(field, torch.where(free, latent, known), free, task.order.seed)
        return self.fields(latent[best : best + 1].to(CPU))

    def varied(self, task: Task, kind: str) -> tuple[Tensor, Tensor]:
        """Like the mesh, or between it and another one."""
        own, options = self.latent(task.mesh), task.options
        if kind == "variation":
            start, strength = own, fraction(options["variation"], "variation", EDIT)
        else:
            if not isinstance(options["toward"], Mesh):
                raise MaquetteError("option 'toward' of an edit must be a mesh")
            at = fraction(options.get("at", 0.5), "at", EDIT)
            start = slerp(own, self.latent(options["toward"]), at)
            strength = fraction(options.get("strength", 0.4), "strength", EDIT)
        field = led(self.stage, task, own, 1)
        start = start.to(self.stage.device)
        return self.fields(vary(field, start, strength, task.times(self.stage), task.generator).to(CPU))


def coarse(mask: NDArray[np.bool_], side: int) -> Tensor:
    """The latent's cells, bool [1,1,L,L,L], that a mask [R,R,R] touches."""
    return F.adaptive_max_pool3d(torch.from_numpy(mask.astype(np.float32))[None, None], side) > 0
