"""What a flow's model predicts, and the velocity that it means by it.

A model says what it predicts in its own config, where sampling finds it again; an objective refuses a model that
predicts something else than it trains. Models without the key predict the velocity.
"""

from __future__ import annotations

from torch import Tensor

PREDICTIONS = ("v", "x0")
SMALLEST_TIME = 0.05
"""Where a predicted x0 is turned into a velocity, errors grow as 1/t: no further than at this time (Li & He 2025)."""


def prediction_of(model: object) -> str:
    """What a model predicts: "v", the velocity eps - x0, or "x0", the data."""
    return str(getattr(getattr(model, "config", None), "prediction", "v"))


def takes_guidance(model: object) -> bool:
    """Whether a model was built to take the guidance scale as an input, as distilled ones do."""
    return bool(getattr(getattr(model, "config", None), "guidance_embedding", False))


def velocity_of(prediction: str, output: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """The velocity [B,...] that a model's output means at x [B,...] and t [B]."""
    return output if prediction == "v" else (x - output) / steepness(x, t)


def steepness(x: Tensor, t: Tensor) -> Tensor:
    """The time [B,1,...] by which x - x0 is divided to be a velocity, in the shape to meet x [B,...]."""
    return t.clamp(min=SMALLEST_TIME).view(-1, *[1] * (x.ndim - 1))
