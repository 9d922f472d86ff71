"""The pipeline that changes a given mesh by a prompt: a region of it, all of it a little, or towards another one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from maquette.errors import MaquetteError, unknown_name
from maquette.runs import RunFolder
from maquette.stepping import Course
from maquette.types import Asset, Mesh, Request
from maquette_models.editing.agreement import agreement
from maquette_models.editing.blended_surface import Seam, blended_field, edited_mesh
from maquette_models.editing.inpainting import inpaint, slerp, vary
from maquette_models.editing.regions import region_mask
from maquette_models.grid.mesh_fields import mesh_field, mesh_grids
from maquette_models.pipelines.option_values import fraction, whole_number
from maquette_models.pipelines.text_to_3d import TextTo3D, TextTo3DConfig
from maquette_models.samplers.guidance import Guided
from maquette_models.samplers.timesteps import timesteps

KINDS = {"box": "region", "part": "region", "region": "region", "variation": "variation", "toward": "interpolation"}
COUNTS = ("rounds", "candidates")
EDIT = "an edit"  # in messages
OPTIONS = (*KINDS, "at", "strength", "source", "release", *COUNTS)


@dataclass
class EditConfig(TextTo3DConfig):
    """Beside what `text_to_3d` knows: how far the whole mesh is noised before a region is taken from what comes of it,
    `release` (at 0 the region alone is made anew, and each step is made in `rounds`, RePaint), how many `candidates` of
    a region are drawn, of which the one is kept that agrees best with the prompt, cells of the surface's grid
    `extract`, the seam's `band` in those cells, the share of the volume below which what floats alone is left out, and
    how far the region of a `part` reaches beyond it."""

    release: float = 0.9
    rounds: int = 1
    candidates: int = 4
    extract: int = 128
    band: float = 4.0
    crumbs: float = 0.01
    margin: float = 0.05

    def __post_init__(self) -> None:
        if min(self.rounds, self.candidates) < 1 or self.extract < 8:
            raise ValueError("'rounds' and 'candidates' must be at least 1, 'extract' 8")
        if min(self.band, self.margin) < 0 or not 0 <= self.crumbs < 1:
            raise ValueError("'band' and 'margin' must be at least 0, 'crumbs' in [0, 1)")
        fraction(self.release, "release", EDIT)


@dataclass(frozen=True)
class Task:
    """One edit: the mesh, what the prompt makes of a request, what the mesh is, in words, or "", and all that is
    random."""

    mesh: Mesh
    order: Request
    source: str
    options: Mapping[str, Any]
    times: Tensor
    generator: torch.Generator


class Edit(TextTo3D):
    """Requests have a `mesh`, a prompt that says what it shall be, and `options`:

    - `box`, `part` or `region` (see `region_mask`): that region is made anew, the surface outside stays. `release`,
      `rounds` and `candidates` override the configured numbers.
    - `variation`, a strength in (0, 1]: another shape like this one, the less alike the higher.
    - `toward`, another mesh, and `at` in [0, 1] (.5): a shape between the two, with a freedom of `strength` (.4).

    With each may come `source`, what the mesh is, said as the prompt says what it shall be: guidance then leads away
    from that and not from no condition at all, so that it is about the words that differ.
    """

    def __init__(self, config: EditConfig) -> None:
        super().__init__(config)
        facts = RunFolder(Path(config.run)).read_config().facts
        if "resolution" not in facts or "truncation" not in facts:
            raise MaquetteError(
                f"'{config.run}' does not know its grids' resolution and truncation; train it on shards"
            )
        self.resolution, self.truncation = int(facts["resolution"]), float(facts["truncation"])

    def course_with_field(self, request: Request) -> Course[tuple[Asset, Tensor]]:
        """See `edit`; one piece of work, which shares no forward passes with other requests."""
        yield None
        return self.edit(request)

    @torch.inference_mode()
    def edit(self, request: Request) -> tuple[Asset, Tensor]:
        """The edited mesh and the distance grid that it was extracted from.

        Raises:
            MaquetteError: no mesh, unknown or missing options, a bad region, or nothing is left of the shape.
        """
        if request.mesh is None:
            raise MaquetteError("an edit needs a mesh to start from")
        kind = kind_of(request.options)
        order = self.stage.complete(replace(request, mesh=None, options={}))
        times = timesteps(order.steps, self.stage.sampler.config.shift)
        generator = torch.Generator().manual_seed(request.seed)
        task = Task(request.mesh, order, str(request.options.get("source", "")), request.options, times, generator)
        make = {"region": self._region, "variation": self._variation, "interpolation": self._interpolation}[kind]
        mesh, field = make(task)
        metadata = {
            "prompt": request.prompt,
            "class_name": order.class_name,
            "seed": request.seed,
            "steps": order.steps,
            "guidance": order.guidance,
            "edit": kind,
            "unknown_words": self.stage.unknown_words(f"{request.prompt} {task.source}"),
        }
        return Asset(mesh, metadata), field

    def latent(self, mesh: Mesh) -> Tensor:
        """The normalised latent [1,C,L,L,L] of a mesh."""
        grids = mesh_grids(mesh, self.resolution, self.truncation)
        return (self.autoencoder.encode(*grids) - self.mean) / self.std

    def guided(self, task: Task, count: int) -> Guided:
        """The velocity field of `count` rows that leads from what the mesh is to what the prompt says."""
        field = self.velocity([task.order] * count)
        if not task.source:
            return field
        source = replace(task.order, prompt=task.source, class_name=None)
        return replace(field, null=self.velocity([self.stage.complete(source)] * count).condition)

    def _region(self, task: Task) -> tuple[Mesh, Tensor]:
        config = self.config
        mask = region_mask(task.mesh, task.options, config.extract, config.margin)
        tsdf, color = self.fields(self._renewed(task, coarse(mask, self.latent_shape[-1])))
        own = mesh_field(task.mesh, config.extract, self.truncation)
        field = blended_field(own, tsdf, mask, Seam(config.band, config.crumbs))
        return edited_mesh(field, mask, task.mesh, color), torch.from_numpy(field)[None, None]

    def _renewed(self, task: Task, free: Tensor) -> Tensor:
        """A latent [1,C,L,L,L] whose free cells are what the prompt says: of several, the one that agrees best with
        it there, beside the mesh's own other cells."""
        rounds, count = (whole_number(task.options.get(key, getattr(self.config, key)), key, EDIT) for key in COUNTS)
        release = fraction(task.options.get("release", self.config.release), "release", EDIT)
        field = self.guided(task, count)
        known = self.latent(task.mesh).expand(count, *self.latent_shape[1:])
        if release:
            latent = vary(field, known, release, task.times, task.generator)
        else:
            latent = inpaint(field, known, free, task.times, rounds=rounds, generator=task.generator)
        if count == 1:
            return latent
        best = int(agreement(field, torch.where(free, latent, known), free, task.order.seed).argmax())
        return latent[best : best + 1]

    def _variation(self, task: Task) -> tuple[Mesh, Tensor]:
        strength = fraction(task.options["variation"], "variation", EDIT)
        return self._whole(vary(self.guided(task, 1), self.latent(task.mesh), strength, task.times, task.generator))

    def _interpolation(self, task: Task) -> tuple[Mesh, Tensor]:
        other, at = task.options["toward"], fraction(task.options.get("at", 0.5), "at", EDIT)
        if not isinstance(other, Mesh):
            raise MaquetteError("option 'toward' of an edit must be a mesh")
        between = slerp(self.latent(task.mesh), self.latent(other), at)
        strength = fraction(task.options.get("strength", 0.4), "strength", EDIT)
        return self._whole(vary(self.guided(task, 1), between, strength, task.times, task.generator))

    def _whole(self, latent: Tensor) -> tuple[Mesh, Tensor]:
        tsdf, color = self.fields(latent)
        return self.decoder(tsdf[0, 0], color[0]), tsdf


def kind_of(options: Mapping[str, Any]) -> str:
    """Which edit the options ask for.

    Raises:
        MaquetteError: an unknown option, or not exactly one kind.
    """
    for key in options:
        if key not in OPTIONS:
            raise unknown_name("option", str(key), OPTIONS, where="of an edit")
    kinds = {KINDS[key] for key in options if key in KINDS}
    if len(kinds) != 1:
        raise MaquetteError(f"an edit is one of: {', '.join(KINDS)}; got {', '.join(sorted(options)) or 'none'}")
    return kinds.pop()


def coarse(mask: NDArray[np.bool_], side: int) -> Tensor:
    """The latent's cells, bool [1,1,L,L,L], that a mask [R,R,R] touches."""
    return F.adaptive_max_pool3d(torch.from_numpy(mask.astype(np.float32))[None, None], side) > 0
