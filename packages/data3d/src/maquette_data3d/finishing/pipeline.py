"""Finishing as pipelines, so that a service offers it like a model; they need no trained run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from maquette.errors import MaquetteError
from maquette.finishing import finish
from maquette.one_by_one import OneByOne
from maquette.types import Asset, Mesh, Request


@dataclass
class FinishConfig:
    """``steps``: names or blocks of finishers, where a request's options give none."""

    steps: list[Any] = field(default_factory=list)


class Finish(OneByOne):
    """Requests have a ``mesh``, and in ``options`` perhaps ``steps``; nothing is drawn at random."""

    def __init__(self, config: FinishConfig) -> None:
        self.config = config

    def __call__(self, request: Request) -> Asset:
        """The mesh after the steps.

        Raises:
            MaquetteError: no mesh, no steps, or a step fails.
        """
        return finish(Asset(_mesh_of(request)), self._steps(request.options))

    def _steps(self, options: Mapping[str, Any]) -> Sequence[Any]:
        steps = options.get("steps") or self.config.steps
        if not steps:
            raise MaquetteError('no steps to finish with: give some, e.g. steps: ["repair", {"name": "unwrap"}]')
        return steps


@dataclass
class OneStepConfig:
    """``settings``: of the step, under those of a request's options."""

    settings: dict[str, Any] = field(default_factory=dict)


class _OneStep(Finish):
    """One step; the request's options are its settings."""

    step = ""

    def __init__(self, config: OneStepConfig) -> None:
        super().__init__(FinishConfig())
        self.settings = config.settings

    def _steps(self, options: Mapping[str, Any]) -> Sequence[Any]:
        return [{"name": self.step, **self.settings, **options}]


class RemeshPipeline(_OneStep):
    """New faces for the request's mesh."""

    step = "remesh"


class UnwrapPipeline(_OneStep):
    """Texture coordinates for the request's mesh."""

    step = "unwrap"


class PrintCheckPipeline(_OneStep):
    """The request's mesh with a report in ``metadata["print_check"]``."""

    step = "print_check"


def _mesh_of(request: Request) -> Mesh:
    if request.mesh is None:
        raise MaquetteError("finishing needs a mesh: send one with the request")
    return request.mesh
