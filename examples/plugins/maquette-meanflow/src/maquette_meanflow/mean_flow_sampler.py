"""Steps of the mean velocity: as many as there are spans, one or two."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from maquette.errors import MaquetteError
from maquette_models.samplers.guidance import Guided
from maquette_models.samplers.sampler import Sampler, State, Velocity, over


@dataclass
class MeanFlowSamplerConfig:
    """`shift` above 1 makes the steps near the noise shorter."""

    steps: int = 1
    shift: float = 1.0


class MeanFlowSampler(Sampler):
    """x at `t_next` is x at `t` along the model's mean velocity between them."""

    def step(self, velocity: Velocity, state: State, t: Tensor, t_next: Tensor) -> State:
        """The state at `t_next`; nothing is remembered.

        Raises:
            MaquetteError: a velocity that cannot be told the span.
        """
        if not isinstance(velocity, Guided):
            raise MaquetteError(
                "sampler 'mean_flow' needs the velocity of a model that reads a span, as Guided gives it"
            )
        span = (t - t_next).expand(len(state.x))
        return State(state.x - over(span, state.x) * velocity.given(span=span)(state.x, t))
