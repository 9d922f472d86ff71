"""One flow of several that requests go through."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from maquette import plugins
from maquette.errors import MaquetteError
from maquette.inference_device import CPU, device_of, moved
from maquette.runs import Run
from maquette.types import Request
from maquette_models.adapters.adapter_rack import AdapterRack
from maquette_models.conditioners.request_batch import batch_of, class_named
from maquette_models.pipelines.exact_batches import ExactBatches
from maquette_models.pipelines.option_values import fraction
from maquette_models.pipelines.step_cache import TOLERANCE, FirstVelocity, StepCache
from maquette_models.samplers.guidance import Guided
from maquette_models.samplers.sampler import State

GRAIN = 32
"""Sets of tokens are filled up to multiples of it: sets of about one size share passes, and rows keep their bits."""


@dataclass
class FlowStageConfig:
    """How a stage is sampled; `guidance` and the sampler's steps give way to those of a request.

    `interval`, `rescale` and `zero_star` are those of `Guided`; a forward pass has at most `max_batch` rows,
    and computes its products in `precision`, fp32 or bf16.
    """

    sampler: dict[str, Any] = field(default_factory=lambda: {"name": "euler", "steps": 20})
    guidance: float = 3.0
    interval: list[float] = field(default_factory=lambda: [0.0, 1.0])
    rescale: float = 0.0
    zero_star: bool = False
    max_batch: int = 16
    precision: str = "fp32"


@dataclass(eq=False)
class SampledFlow:
    """One request's sampling in a stage, from noise at the first of `times` to data at the last.

    Args:
        stage: computes its steps.
        state: of one row.
        condition: encoded, and `null` without the request; what belongs to the tokens is in both.
        guidance: the scale.
        times: of the steps, falling from 1 to 0, [steps + 1].
        count: how many tokens the state has that are no filling, or None where it is a grid.
        done: how many steps are behind it.
        adapter: what its model wears, as `AdapterRack.resolved` gives it.
        cache: what it remembers of its last evaluation, where the request lets steps take velocities over.
    """

    stage: FlowStage
    state: State
    condition: Mapping[str, Tensor]
    null: Mapping[str, Tensor]
    guidance: float
    times: Tensor
    count: int | None
    done: int = 0
    adapter: str = ""
    cache: StepCache | None = None

    @property
    def steps(self) -> int:
        """In all."""
        return len(self.times) - 1

    @cached_property
    def key(self) -> Hashable:
        """The same for flows of one stage whose tensors have the same shapes."""
        shapes = tuple((key, tuple(value.shape[1:])) for key, value in self.condition.items())
        return id(self.stage), self.adapter, self.cache is not None, tuple(self.state.x.shape[1:]), shapes

    @property
    def rows(self) -> int:
        """Of a forward pass, that the next step takes."""
        low, high = self.stage.config.interval
        guided = self.done < self.steps and low <= float(self.times[self.done]) <= high
        return 2 if guided and self.guidance != 1 and not self.stage.takes_guidance else 1

    @property
    def size(self) -> int:
        """Numbers in the state."""
        return self.state.x.numel()

    @property
    def result(self) -> Tensor:
        """What the noise has come to: [1,...] as the noise was given, normalised as the run's data was; on the CPU."""
        return (self.state.x if self.count is None else self.state.x[:, : self.count]).to(CPU)


class FlowStage:
    """Samples of a run that trained a flow. A request's sample depends on that request alone, to the bit."""

    def __init__(self, run: Run, config: FlowStageConfig) -> None:
        self.config = config
        self.model = run.model.requires_grad_(False)
        self.device = device_of(self.model)
        self.batched = ExactBatches(self.model, config.max_batch, config.precision)
        self.takes_guidance = bool(getattr(self.model.config, "guidance_embedding", False))
        self.mean, self.std = (torch.tensor(run.facts[key]) for key in ("latent_mean", "latent_std"))
        self.channels = int(run.facts["latent_channels"])
        self.sampler = plugins.build("samplers", config.sampler)
        self.adapters: AdapterRack | None = None

    def complete(self, request: Request) -> Request:
        """A request with the stage's guidance and steps, and with the class that its prompt names, where it has none.

        Raises:
            MaquetteError: an unknown class, or something that the run cannot be conditioned on.
        """
        self.wear(request)
        conditioner = self.model.conditioner
        batch_of(conditioner, request)
        return replace(
            request,
            guidance=self.config.guidance if request.guidance is None else request.guidance,
            steps=int(self.sampler.config.steps if request.steps is None else request.steps),
            class_name=class_named(conditioner, request),
        )

    def wear(self, request: Request) -> str:
        """Puts on the adapter that a request names, and gives the reference to it, or "".

        Raises:
            MaquetteError: there is none of that name, or no adapters are registered.
        """
        reference = self.resolved(request)
        if self.adapters is not None:
            self.adapters.wear(reference)
        return reference

    def resolved(self, request: Request) -> str:
        """The reference to the adapter that a request names, see `AdapterRack.resolved`.

        Raises:
            MaquetteError: there is none of that name, or no adapters are registered.
        """
        named = request.options.get("adapter", "")
        if self.adapters is not None:
            return self.adapters.resolved(named)
        if named:
            raise MaquetteError("no adapters are registered; start the engine with --adapters FOLDER")
        return ""

    @torch.inference_mode()
    def flow(self, request: Request, noise: Tensor, tokens: Mapping[str, Tensor] | None = None) -> SampledFlow:
        """What a noise [1,...] begins under a request.

        Args:
            request: its prompt, class, pictures or mesh are the condition, whichever the run was trained on.
            noise: standard normal, on any device.
            tokens: what belongs to the tokens [1,N,...], such as `positions`; the same with and without the condition.

        Raises:
            MaquetteError: an unknown class, or something that the run cannot be conditioned on.
        """
        conditioner, request = self.model.conditioner, self.complete(request)
        count = noise.shape[1] if tokens else None
        noise, tokens = noise.to(self.device), moved(dict(tokens or {}), self.device)
        if tokens and count is not None:
            noise = filled_up(noise)
            tokens = {
                key: filled_up(value) for key, value in {"token_mask": whole(count, self.device), **tokens}.items()
            }
        condition, null = (
            self.model.encode_condition({**prepared, **tokens})
            for prepared in (conditioner.prepare(batch_of(conditioner, request)), conditioner.null(1))
        )
        assert request.guidance is not None  # completed
        times = self.sampler.times(request.steps)
        tolerance = fraction(request.options.get(TOLERANCE, 0), TOLERANCE)
        cache = StepCache(tolerance) if tolerance else None
        return SampledFlow(
            self,
            self.sampler.start(noise),
            condition,
            null,
            request.guidance,
            times,
            count,
            adapter=self.wear(request),
            cache=cache,
        )

    @torch.inference_mode()
    def advance(self, flows: Sequence[SampledFlow]) -> None:
        """One step of each of several flows of one key."""
        if self.adapters is not None:
            self.adapters.wear(flows[0].adapter)
        t, t_next = (self._at([flow.times[flow.done + ahead] for flow in flows]) for ahead in (0, 1))
        state = State.join([flow.state for flow in flows])
        field: Guided | FirstVelocity = self.guided(flows)  # samplers may ask it for more than velocities
        if flows[0].cache is not None:
            field = FirstVelocity(field)
        after = self.sampler.step(field, state, t, t_next)
        for row, flow in enumerate(flows):
            one = slice(row, row + 1)
            flow.state = after.rows(one)
            flow.done += 1
            if flow.cache is not None and isinstance(field, FirstVelocity):
                flow.cache = flow.cache.evaluated(state.x[one], field.first[one])
                self._take_over(flow)

    def _take_over(self, flow: SampledFlow) -> None:
        """The steps that follow, as far as the velocity is near enough to the last one; the last step never is."""
        while flow.cache is not None and flow.done < flow.steps - 1 and flow.cache.serves(flow.state.x):
            t, t_next = self._at([flow.times[flow.done]]), self._at([flow.times[flow.done + 1]])
            velocity = flow.cache.velocity
            flow.state = self.sampler.step(lambda x, t, velocity=velocity: velocity, flow.state, t, t_next)
            flow.cache = flow.cache.reused()
            flow.done += 1

    def _at(self, times: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(times)).to(self.device)

    def guided(self, flows: Sequence[SampledFlow]) -> Guided:
        """The guided velocity field of several flows, a row each."""
        return Guided(
            self.batched,
            joined([flow.condition for flow in flows]),
            joined([flow.null for flow in flows]),
            torch.tensor([flow.guidance for flow in flows], device=self.device),
            (self.config.interval[0], self.config.interval[1]),
            self.config.rescale,
            self.config.zero_star,
        )

    def sample(self, request: Request, noise: Tensor, tokens: Mapping[str, Tensor] | None = None) -> Tensor:
        """What a noise [1,...] flows to under a request, normalised as the run's data was; see `flow`."""
        flow = self.flow(request, noise, tokens)
        while flow.done < flow.steps:
            self.advance([flow])
        return flow.result

    def told(self, request: Request) -> dict[str, Any]:
        """What a request asked of the stage, its defaults filled in: for the metadata of an asset."""
        request = self.complete(request)
        return {
            "prompt": request.prompt,
            "class_name": request.class_name,
            "seed": request.seed,
            "steps": request.steps,
            "guidance": request.guidance,
            "unknown_words": self.unknown_words(request.prompt),
            **{key: asked(request.options[key]) for key in ("adapter", TOLERANCE) if request.options.get(key)},
        }

    def unknown_words(self, text: str) -> list[str]:
        """The words of a text that the conditioner does not know."""
        conditioner = self.model.conditioner
        return list(conditioner.unknown_words(text)) if hasattr(conditioner, "unknown_words") else []


def asked(option: Any) -> Any:
    """An option as it was given: a name of an adapter without the version that was found for it."""
    return option.partition("@")[0] if isinstance(option, str) else option


def joined(conditions: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The rows of several conditions."""
    return {key: torch.cat([condition[key] for condition in conditions]) for key in conditions[0]}


def whole(count: int, device: torch.device = CPU) -> Tensor:
    """The mask of tokens that all count, bool [1, count]."""
    return torch.ones(1, count, dtype=torch.bool, device=device)


def filled_up(values: Tensor) -> Tensor:
    """Values of tokens [1,N,...] and zeros up to a multiple of `GRAIN`, of which a mask says that they do not count."""
    missing = -values.shape[1] % GRAIN
    return F.pad(values, (0, 0) * (values.ndim - 2) + (0, missing))


def drawn(shape: tuple[int, ...], seed: int) -> Tensor:
    """Standard normal numbers from a seed alone."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))
