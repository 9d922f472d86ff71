"""Which token to write next, of those that may come next."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maquette.errors import MaquetteError


@dataclass(frozen=True)
class Choice:
    """`temperature` 0 always takes the likeliest token. Else one is drawn from the `top_k` likeliest (0: all), and of
    these from the fewest that together have `top_p` of the probability (Holtzman et al., 2020).

    Raises:
        MaquetteError: a value out of range.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature < 0 or self.top_k < 0 or not 0 < self.top_p <= 1:
            raise MaquetteError(
                f"choice of tokens: temperature {self.temperature} and top_k {self.top_k} must not be negative, "
                f"top_p {self.top_p} be in (0, 1]"
            )

    def __call__(self, logits: NDArray[np.float32], allowed: NDArray[np.bool_], number: float) -> int:
        """A token.

        Args:
            logits: [V].
            allowed: bool [V], at least one of them.
            number: random, in [0, 1).
        """
        tokens = np.flatnonzero(allowed)
        scores = logits[tokens].astype(np.float64)
        if self.temperature == 0 or len(tokens) == 1:
            return int(tokens[scores.argmax()])
        order = np.argsort(-scores, kind="stable")[: self.top_k or None]
        weights = np.exp((scores[order] - scores[order[0]]) / self.temperature)
        total = weights.cumsum()
        kept = int(np.searchsorted(total, self.top_p * total[-1])) + 1
        place = np.searchsorted(total[:kept], number * total[:kept][-1], side="right")
        return int(tokens[order[min(place, len(total[:kept]) - 1)]])
