"""What pipelines that change a given mesh have in common, whatever the latents of their runs are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from numpy.typing import NDArray
from torch import Tensor

from maquette.errors import MaquetteError, unknown_name
from maquette.stepping import Course
from maquette.types import Asset, Mesh, Request
from maquette_models.editing.agreement import agreement
from maquette_models.editing.blended_surface import Seam, blended_field, edited_mesh, interior
from maquette_models.editing.regions import region_mask
from maquette_models.grid.mesh_fields import mesh_field
from maquette_models.pipelines.flow_stage import FlowStage
from maquette_models.pipelines.option_values import fraction, whole_number
from maquette_models.samplers.guidance import Guided
from maquette_models.samplers.timesteps import timesteps

EDIT = "an edit"  # in messages
REGION = {"box": "region", "part": "region", "region": "region"}


@dataclass
class EditSettings:
    """How far the whole mesh is noised before a region is taken from what comes of it, `release`; how many `candidates`
    of a region are drawn, of which the one is kept that agrees best with the prompt; cells of the surface's grid
    `extract`, the seam's `band` in those cells, the share of the volume below which what floats alone is left out, and
    how far the region of a `part` reaches beyond it."""

    release: float = 0.9
    candidates: int = 4
    extract: int = 128
    band: float = 4.0
    crumbs: float = 0.01
    margin: float = 0.05

    def __post_init__(self) -> None:
        if self.candidates < 1 or self.extract < 8:
            raise ValueError("'candidates' must be at least 1, 'extract' 8")
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
    generator: torch.Generator

    def times(self, stage: FlowStage) -> Tensor:
        """Of the steps, falling from 1 to 0."""
        return timesteps(self.order.steps, stage.sampler.config.shift)


class MeshEdits:
    """Requests have a `mesh`, a prompt that says what it shall be, and `options`:

    - `box`, `part` or `region` (see `region_mask`): that region is made anew, the surface outside stays. `release`
      and `candidates` override the configured numbers.
    - `variation`, a strength in (0, 1]: another shape like this one, the less alike the higher.

    With each may come `source`, what the mesh is, said as the prompt says what it shall be: guidance then leads away
    from that and not from no condition at all, so that it is about the words that differ.

    A pipeline of flows stands beside it among the bases, and says what the latents are by `renewed` and `varied`.
    """

    kinds: ClassVar[Mapping[str, str]] = {**REGION, "variation": "variation"}
    more_options: ClassVar[tuple[str, ...]] = ("source", "release", "candidates")
    config: Any
    truncation: float

    @property
    def edited_stage(self) -> FlowStage:
        """The stage that a request's guidance and steps are those of."""
        raise NotImplementedError

    def renewed(self, task: Task, mask: NDArray[Any]) -> tuple[Tensor, Tensor]:
        """Distance [1,1,R,R,R] and colour [1,3,S,S,S] of a shape that is what the prompt says where the mask is."""
        raise NotImplementedError

    def varied(self, task: Task, kind: str) -> tuple[Tensor, Tensor]:
        """Distance and colour of a shape that is changed all over."""
        raise NotImplementedError

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
        kind, options, stage = (
            kind_of(request.options, self.kinds, self.more_options),
            request.options,
            self.edited_stage,
        )
        order = stage.complete(replace(request, mesh=None, options={}))
        generator = torch.Generator().manual_seed(request.seed)
        task = Task(request.mesh, order, str(options.get("source", "")), options, generator)
        if kind == "region":
            mesh, field = self._region(task)
        else:
            field, color = self.varied(task, kind)
            mesh = self.decoder(field[0, 0], color[0])  # type: ignore[attr-defined]  # the pipeline's
        unknown = stage.unknown_words(f"{request.prompt} {task.source}")
        return Asset(mesh, {**stage.told(order), "edit": kind, "unknown_words": unknown}), field

    def _region(self, task: Task) -> tuple[Mesh, Tensor]:
        config = self.config
        mask = region_mask(task.mesh, dict(task.options), config.extract, config.margin)
        within = interior(mask)  # before any work is done for a region that is too thin
        tsdf, color = self.renewed(task, mask)
        own = mesh_field(task.mesh, config.extract, self.truncation)
        field = blended_field(own, tsdf, within, Seam(config.band, config.crumbs))
        return edited_mesh(field, within, task.mesh, color), torch.from_numpy(field)[None, None]

    def count(self, task: Task, name: str) -> int:
        """A number of the configuration that the task may override."""
        return whole_number(task.options.get(name, getattr(self.config, name)), name, EDIT)

    def released(self, task: Task) -> float:
        """How far the mesh is noised for a region."""
        return fraction(task.options.get("release", self.config.release), "release", EDIT)


def led(stage: FlowStage, task: Task, start: Tensor, count: int, tokens: Mapping[str, Tensor] | None = None) -> Guided:
    """The velocity field of `count` rows that leads from what the mesh is to what the prompt says.

    Args:
        start: [1,...], of the shape of the stage's noise.
        tokens: what belongs to tokens; see `FlowStage.flow`.
    """
    field = stage.guided([stage.flow(task.order, start, tokens)] * count)
    if not task.source:
        return field
    source = stage.complete(replace(task.order, prompt=task.source, class_name=None))
    return replace(field, null=stage.guided([stage.flow(source, start, tokens)] * count).condition)


def best_of(field: Guided, latent: Tensor, free: Tensor, seed: int) -> int:
    """Which row of latents [B,...] agrees best with the prompt where cells are free."""
    return 0 if len(latent) == 1 else int(agreement(field, latent, free, seed).argmax())


def kind_of(options: Mapping[str, Any], kinds: Mapping[str, str], more: Sequence[str]) -> str:
    """Which edit the options ask for.

    Raises:
        MaquetteError: an unknown option, or not exactly one kind.
    """
    for key in options:
        if key not in (*kinds, *more):
            raise unknown_name("option", str(key), (*kinds, *more), where="of an edit")
    asked = {kinds[key] for key in options if key in kinds}
    if len(asked) != 1:
        raise MaquetteError(f"an edit is one of: {', '.join(kinds)}; got {', '.join(sorted(options)) or 'none'}")
    return asked.pop()
