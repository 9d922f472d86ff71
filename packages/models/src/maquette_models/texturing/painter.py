"""A trained flow of paint: what is asked for and the points of a surface in, paint at any point of it out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from maquette.engine.randomness import fold
from maquette.errors import MaquetteError
from maquette.inference_device import CPU, device_of, inference_device, moved
from maquette.runs import load_run, relative_run
from maquette.stepping import Course, alone
from maquette.types import Request
from maquette_kernels.ops import nearest_neighbours
from maquette_models.editing.inpainting import inpaint
from maquette_models.pipelines.flow_stage import FlowStage, FlowStageConfig, drawn
from maquette_models.texturing.paint_vae import PaintVAE
from maquette_models.texturing.painted_points import Cells, PaintedPoints

CHUNK = 65_536  # points decoded at once
ROUNDS = 3  # of each step, where some paint is kept (RePaint)


@dataclass(frozen=True, eq=False)
class Painted:
    """A surface with its paint, for one shape.

    Attributes:
        autoencoder: that decodes it.
        places: float32 [P,3], the points that told where the surface is.
        cells, shape, latent: as the autoencoder has them, N cells.
    """

    autoencoder: PaintVAE
    places: Tensor
    cells: Cells
    shape: Tensor
    latent: Tensor

    @torch.inference_mode()
    def at(self, places: Tensor, normals: Tensor) -> Tensor:
        """Paint [Q,6] in [0,1], see `painted_points.CHANNELS`, at places [Q,3] of the surface with normals [Q,3].

        A place in a cell that no known point lies in is taken to be the nearest known point.
        """
        places = torch.where(self._known(places)[:, None], places, self._nearest(places))
        device = device_of(self.autoencoder)
        held = moved((self.latent, self.shape, self.cells), device)
        parts = [
            self.autoencoder.decode(*held, *moved((at[None], normal[None]), device))[0].to(CPU)
            for at, normal in zip(places.split(CHUNK), normals.split(CHUNK), strict=True)
        ]
        return (torch.cat(parts) * 0.5 + 0.5).clamp(0, 1) if parts else places.new_zeros(0, 6)

    @property
    def sha256(self) -> str:
        """A digest of the latent."""
        return hashlib.sha256(self.latent.numpy().tobytes()).hexdigest()

    def _known(self, places: Tensor) -> Tensor:
        """Whether places [Q,3] lie in a cell that there is, bool [Q]."""
        side = self.autoencoder.latent_resolution
        there = torch.zeros(side, side, side, dtype=torch.bool)
        there[tuple(self.cells.coords[:, 1:].long().unbind(1))] = True
        cells = ((places + 0.5) * side).floor().long().clamp(0, side - 1)
        return there[tuple(cells.unbind(1))]

    def _nearest(self, places: Tensor) -> Tensor:
        lost = ~self._known(places)
        if not bool(lost.any()):
            return places
        moved = places.clone()
        _, nearest = nearest_neighbours(places[lost], self.places)
        moved[lost] = self.places[nearest[:, 0].long()]
        return moved


@dataclass(frozen=True, eq=False)
class Kept:
    """What of a painted surface stays when it is painted anew: latent [N,C] and which cells are free, bool [N]."""

    latent: Tensor
    free: Tensor


class Painter:
    """A run that was trained on `paint_latents`, and its autoencoder.

    Raises:
        MaquetteError: not such a run.
    """

    def __init__(self, run: str, config: FlowStageConfig) -> None:
        device = inference_device()
        own = load_run(run, device)
        if "given_mean" not in own.facts:
            raise MaquetteError(f"'{run}' was not trained on paint; give a run whose data are 'paint_latents'")
        self.stage = FlowStage(own, config)
        self.autoencoder: PaintVAE = load_run(relative_run(own.config.data.autoencoder, own.folder), device).model
        self.autoencoder.requires_grad_(False)
        self.given_mean, self.given_std = (torch.tensor(own.facts[f"given_{key}"]) for key in ("mean", "std"))

    def paint(self, request: Request, places: Tensor, normals: Tensor, kept: Kept | None = None) -> Painted:
        """Points [P,3] of a surface in the unit cube, with normals, painted as a request asks. Its mesh is not used.

        Args:
            request: prompt, class and pictures are the condition; the same seed gives the same paint.
            places: as many as show every cell that the surface passes.
            normals: of unit length.
            kept: what of earlier paint stays; its cells are those of the same places.

        Raises:
            MaquetteError: something that the run cannot be conditioned on.
        """
        if kept is None:
            return alone(self.painting(request, places, normals))
        surface = self._surface(places, normals)
        return replace(surface, latent=self._restored(self._repaint(request, surface, kept)))

    def painting(self, request: Request, places: Tensor, normals: Tensor) -> Course[Painted]:
        """The way to `paint`."""
        surface = self._surface(places, normals)
        noise = drawn((1, len(surface.shape), self.stage.channels), fold("paint", request.seed))
        latent = yield self.stage.flow(replace(request, mesh=None), noise, self._tokens(surface))
        return replace(surface, latent=self._restored(latent[0].float()))

    @torch.inference_mode()
    def encode(self, points: PaintedPoints) -> Painted:
        """One surface with the paint that its points [1,P,...] have."""
        seen = moved(points, self.stage.device)
        cells, shape = self.autoencoder.shape(seen.places, seen.normals)
        latent, _ = self.autoencoder.moments(seen, cells, shape)
        return Painted(self.autoencoder, points.places[0], *moved((cells, shape, latent), CPU))

    @torch.inference_mode()
    def _surface(self, places: Tensor, normals: Tensor) -> Painted:
        """A surface that is not painted yet."""
        seen = moved((places[None], normals[None]), self.stage.device)
        cells, shape = moved(self.autoencoder.shape(*seen), CPU)
        return Painted(self.autoencoder, places, cells, shape, torch.zeros(len(shape), self.stage.channels))

    def _tokens(self, surface: Painted) -> dict[str, Tensor]:
        return {
            "positions": surface.cells.coords[None, :, 1:].float(),
            "token_mask": torch.ones(1, len(surface.shape), dtype=torch.bool),
            "given": ((surface.shape - self.given_mean) / self.given_std)[None],
        }

    def _restored(self, latent: Tensor) -> Tensor:
        return latent * self.stage.std + self.stage.mean

    @torch.inference_mode()
    def _repaint(self, request: Request, surface: Painted, kept: Kept) -> Tensor:
        """The normalised latent [N,C] that goes with what is kept."""
        cells = len(surface.shape)
        if len(kept.latent) != cells:
            raise MaquetteError(
                f"paint to keep is of {len(kept.latent)} cells, the surface has {cells}; encode it on the same points"
            )
        known = ((kept.latent - self.stage.mean) / self.stage.std)[None]
        flow = self.stage.flow(replace(request, mesh=None), known, self._tokens(surface))
        whole = flow.state.x  # with filling behind the tokens
        free = torch.zeros(1, whole.shape[1], 1, dtype=torch.bool, device=whole.device)
        free[0, :cells, 0] = kept.free.to(whole.device)
        generator = torch.Generator().manual_seed(fold("repaint", request.seed))
        field = self.stage.guided([flow])
        return inpaint(field, whole, free, flow.times, rounds=ROUNDS, generator=generator)[0, :cells].float().to(CPU)
