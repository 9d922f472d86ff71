"""The pipeline that changes a given mesh by a prompt, for flows on token sets: structure, anchors, tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from maquette.inference_device import CPU, moved
from maquette_models.editing.edit import coarse
from maquette_models.editing.inpainting import vary
from maquette_models.editing.mesh_edits import EDIT, EditSettings, MeshEdits, Task, best_of, led
from maquette_models.pipelines.flow_stage import FlowStage, filled_up, whole
from maquette_models.pipelines.option_values import fraction
from maquette_models.voxset.anchors import Anchors, choose_anchors
from maquette_models.voxset.mesh_cloud import mesh_cloud
from maquette_models.voxset.pipeline import Sampled, VoxSet, VoxSetConfig
from maquette_models.voxset.structures import occupancy, occupied_voxels
from maquette_models.voxset.surface_cloud import SurfaceCloud

POINTS = 8192
"""Of the mesh's surface, as many as shards have."""


@dataclass
class VoxSetEditConfig(EditSettings, VoxSetConfig):
    """`resolution` is that of the generated field, which `extract` cells of the given mesh's own are blended with."""


class VoxSetEdit(MeshEdits, VoxSet):
    """The mesh's own structure is varied first; its surface is encoded on anchors in the varied one, and that set of
    tokens is varied in turn. All candidates share one structure."""

    def __init__(self, config: VoxSetEditConfig) -> None:
        super().__init__(config)
        self.resolution, self.truncation = config.resolution, float(self.autoencoder.config.truncation)

    @property
    def edited_stage(self) -> FlowStage:
        """The tokens' one; the structure has the same guidance and steps."""
        return self.latents

    def renewed(self, task: Task, mask: NDArray[np.bool_]) -> tuple[Tensor, Tensor]:
        """Of several candidates the one whose tokens in the mask agree best with the prompt."""
        return self._led(task, self.released(task), self.count(task, "candidates"), coarse(mask, self.side))

    def varied(self, task: Task, kind: str) -> tuple[Tensor, Tensor]:
        """Like the mesh."""
        everywhere = torch.ones(1, 1, *[self.side] * 3, dtype=torch.bool)
        return self._led(task, fraction(task.options["variation"], "variation", EDIT), 1, everywhere)

    def _led(self, task: Task, strength: float, count: int, free: Tensor) -> tuple[Tensor, Tensor]:
        """Fields of the mesh, noised to a time and led back; `free` [1,1,S,S,S] are the cells that choose among
        `count`."""
        cloud = mesh_cloud(task.mesh, POINTS, POINTS // 4, task.order.seed)
        positions = self._anchors(task, cloud, strength)
        seen = moved((cloud, Anchors(positions[None], whole(len(positions)))), self.latents.device)
        known = filled_up((self.autoencoder.encode(*seen).to(CPU) - self.latents.mean) / self.latents.std)
        field = led(self.latents, task, known[:, : len(positions)], count, {"positions": positions[None]})
        rows = known.expand(count, -1, -1).to(self.latents.device)
        made = vary(field, rows, strength, task.times(self.latents), task.generator)
        chosen = filled_up(free[0, 0][tuple(positions.long().T)][None, :, None]).to(made.device)
        row = made[best_of(field, made, chosen, task.order.seed), : len(positions)].to(CPU)
        return self.fields(Sampled(row.float() * self.latents.std + self.latents.mean, positions))

    def _anchors(self, task: Task, cloud: SurfaceCloud, strength: float) -> Tensor:
        """Of the mesh's own structure, varied: where the tokens are, [N,3]."""
        own = occupancy(cloud.points[0], self.side)[None].float()
        field = led(self.structure, task, own, 1)
        own = own.to(self.structure.device)
        grid = vary(field, own, strength, task.times(self.structure), task.generator).to(CPU)
        return choose_anchors([occupied_voxels(grid[0])], [self.tokens], [task.order.seed]).positions[0]
