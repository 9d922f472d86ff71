"""A trained flow of views: what is asked for and the maps of a mesh in, pictures of its colours and materials out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from maquette.engine.randomness import fold
from maquette.errors import MaquetteError
from maquette.inference_device import CPU, inference_device
from maquette.runs import load_run
from maquette.types import Request
from maquette_models.editing.inpainting import inpaint
from maquette_models.pipelines.flow_stage import FlowStage, FlowStageConfig, drawn
from maquette_models.texturing.view_scene import ViewedMesh
from maquette_models.texturing.view_tokens import ATTRIBUTES, attribute_patches, patches, pictures, view_tokens


@dataclass(frozen=True)
class KnownPictures:
    """Pictures [V,5,S,S] of which only the pixels `free`, bool [V,S,S], are to be painted, in `rounds` a step."""

    pictures: Tensor
    free: Tensor
    rounds: int


class ViewPainter:
    """Pictures of a mesh's base colour, metallic and roughness from several sides, drawn together."""

    def __init__(self, run: str, config: FlowStageConfig) -> None:
        own = load_run(run, inference_device())
        if "view_patch" not in own.facts:
            raise MaquetteError(f"'{run}' was not trained on views; give a run whose data are 'view_textures'")
        self.stage = FlowStage(own, config)
        self.patch, self.size = int(own.facts["view_patch"]), int(own.facts["view_size"])
        self.resolution, self.views = int(own.facts["latent_resolution"]), int(own.facts["views"])

    @torch.inference_mode()
    def paint(self, request: Request, scene: ViewedMesh, known: KnownPictures | None = None) -> Tensor:
        """Pictures [V,5,S,S] in [0,1] of the views of a mesh; 0 where they show nothing.

        Args:
            request: what is asked for; its mesh and options are the caller's.
            scene: with pictures of `size`.
            known: what stays as it is.
        """
        maps, stage = scene.maps, self.stage
        request = replace(request, mesh=None, options={})
        tokens = view_tokens(maps.position, maps.normal, maps.covered, self.patch, self.resolution)
        batch = {
            "given": tokens.given[None],
            "positions": tokens.positions[None].float(),
            "token_mask": torch.ones(1, len(tokens.slots), dtype=torch.bool),
        }
        if known is None:
            noise = drawn((1, len(tokens.slots), stage.channels), fold("views", request.seed))
            latent = stage.sample(request, noise, batch)
        else:
            values = attribute_patches(known.pictures, tokens, self.patch)
            free = (patches(known.free[:, None], self.patch)[tokens.slots] | ~tokens.covered[..., None]).expand(
                -1, -1, ATTRIBUTES
            )
            latent = self._repaint(request, (values - stage.mean) / stage.std, free.flatten(1), batch, known.rounds)
        painted = (latent[0].float() * stage.std + stage.mean).clamp(0, 1)
        return pictures(painted, tokens.slots, len(scene.cameras), self.size, self.patch) * maps.covered[:, None]

    def _repaint(self, request: Request, known: Tensor, free: Tensor, batch: dict[str, Tensor], rounds: int) -> Tensor:
        """Tokens [1,N,C] that are `known` [N,C] where they are not `free`, bool [N,C]."""
        flow = self.stage.flow(request, known[None], batch)
        start = flow.state.x
        mask = torch.ones_like(start, dtype=torch.bool)  # what fills the tokens up is free
        mask[0, : len(free)] = free.to(mask.device)
        generator = torch.Generator().manual_seed(fold("views", request.seed))
        field = self.stage.guided([flow])
        painted = inpaint(field, start, mask, flow.times, rounds=rounds, generator=generator)
        return painted[:, : len(free)].to(CPU)
