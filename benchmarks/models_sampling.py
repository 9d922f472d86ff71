"""Evaluations of the model against error, for each sampler, on a flow whose solution is known.

    python benchmarks/models_sampling.py

The flow carries standard noise to a mixture of two Gaussians in one dimension; its velocity is exact, so all error is
the sampler's. Prints one row a budget of evaluations: the root mean square distance to a solution with 4096 Heun steps,
at a shift of 1 and, behind it, of 3.
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
SHIFTS = (1.0, 3.0)
STEPS = {
    "euler": lambda budget: budget,
    "heun": lambda budget: (budget + 1) // 2,  # the last step takes one evaluation
    "ab2": lambda budget: budget,
    "dpmpp_2m": lambda budget: budget,
    "unipc": lambda budget: budget,
}
"""How many steps a sampler does with so many evaluations."""


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
    rows = ["evaluations  " + "".join(f"{name:>20}" for name in STEPS)]
    for budget in BUDGETS:
        cells = []
        for name, steps in STEPS.items():
            errors = []
            for shift in SHIFTS:
                sampler = plugins.build("samplers", {"name": name, "steps": steps(budget), "shift": shift})
                errors.append((sampler.sample(velocity, noise) - exact).square().mean().sqrt().item())
            cells.append("".join(f"{error:10.5f}" for error in errors))
        rows.append(f"{budget:11d}  " + "".join(cells))
    sys.stdout.write("\n".join(rows) + "\n")


if __name__ == "__main__":
    main()
