"""Evaluations of the model against error, Euler beside Heun, on a flow whose solution is known.

    python benchmarks/models_sampling.py

The flow carries standard noise to a mixture of two Gaussians in one dimension; its velocity is exact, so
all error is the sampler's. Prints one row a budget of evaluations: the root mean square distance to a
solution with 4096 Heun steps.
"""

from __future__ import annotations

import math
import sys

import torch
from torch import Tensor

from maquette import plugins

MEANS = torch.tensor([-1.0, 1.5], dtype=torch.float64)
STD = 0.3
BUDGETS = (4, 8, 16, 32, 64)


def velocity(x: Tensor, t: Tensor) -> Tensor:
    """E[eps - x0 | x_t = x] for x0 from an even mixture of N(mean, STD^2), x_t = (1-t) x0 + t eps."""
    x = x[:, None]
    variance = (1 - t) ** 2 * STD**2 + t**2
    offset = x - (1 - t) * MEANS
    weight = torch.softmax(-0.5 * offset.square() / variance, dim=1)
    each = -MEANS + (t - (1 - t) * STD**2) / variance * offset
    return (weight * each).sum(dim=1)


def main() -> None:
    noise = math.sqrt(2) * torch.erfinv(torch.linspace(-0.999, 0.999, 501, dtype=torch.float64))
    exact = plugins.build("samplers", {"name": "heun", "steps": 4096}).sample(velocity, noise)
    rows = ["evaluations        euler         heun"]
    for budget in BUDGETS:
        errors = []
        for name, cost in (("euler", 1), ("heun", 2)):
            sampler = plugins.build("samplers", {"name": name, "steps": budget // cost})
            errors.append((sampler.sample(velocity, noise) - exact).square().mean().sqrt().item())
        rows.append(f"{budget:11d} {errors[0]:12.5f} {errors[1]:12.5f}")
    sys.stdout.write("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
