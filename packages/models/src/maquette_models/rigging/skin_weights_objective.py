"""The loss of a model of skin weights: the weights themselves, and where poses take the surface with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from maquette.engine.randomness import normal


@dataclass
class SkinWeightsConfig:
    """The Kullback-Leibler divergence counts 1; `difference` is the weight of the L1 distance, `posed` that of the
    squared distance of posed points, times 100, where each joint turns by about `degrees`."""

    difference: float = 1.0
    posed: float = 0.05
    degrees: float = 30.0


class SkinWeights:
    """Averages are over the points of a shape first, then over shapes. Points that nothing holds do not count."""

    def __init__(self, config: SkinWeightsConfig) -> None:
        self.config = config

    def __call__(self, model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Any]:
        """loss; `divergence`, `difference` (L1) and `posed`, the mean distance of posed points from where they should
        be; `per_sample`, the L1 distance [B] detached. `batch` is of the dataset `skins`."""
        logs, wanted = model(batch), batch["weights"]
        held = wanted.sum(dim=-1)
        counts = (held > 0.5).float()
        share = counts / counts.sum(dim=1, keepdim=True).clamp(min=1)
        wanted = wanted / held.clamp(min=1e-6)[..., None]
        divergence = (torch.xlogy(wanted, wanted) - wanted * logs.clamp(min=-50)).sum(dim=-1)
        weights = logs.exp()
        difference = (weights - wanted).abs().sum(dim=-1)
        moved = self._moved(weights - wanted, batch)
        terms = {"divergence": divergence, "difference": difference, "posed": moved}
        by_shape = {name: (value * share).sum(dim=1) for name, value in terms.items()}
        posed = (100 * moved.square() * share).sum(dim=1)
        loss = by_shape["divergence"] + self.config.difference * by_shape["difference"] + self.config.posed * posed
        own = {name: value.mean() for name, value in by_shape.items()}
        return {"loss": loss.mean(), **own, "per_sample": {"difference": by_shape["difference"].detach()}}

    def _moved(self, error: Tensor, batch: Mapping[str, Any]) -> Tensor:
        """How far [B,P] points of a random pose are off by errors [B,P,J] of weights."""
        joints, parents = batch["joints"], batch["parents"]
        axes = normal("skin_pose", joints.shape, device=joints.device) * (self.config.degrees * torch.pi / 180 / 3**0.5)
        turned, places = posed(joints, parents, turns(axes))
        # A joint takes a point p to turned p + offset; the error is what the wrong weights add up to.
        offset = places - torch.einsum("bjxy,bjy->bjx", turned, joints)
        taken = torch.einsum("bjxy,bpy->bpjx", turned, batch["points"]) + offset[:, None]
        return (torch.einsum("bpj,bpjx->bpx", error, taken).square().sum(dim=-1) + 1e-12).sqrt()


def turns(axes: Tensor) -> Tensor:
    """Rotations [...,3,3] about axes [...,3] by their lengths."""
    zero = torch.zeros_like(axes[..., 0])
    x, y, z = axes.unbind(dim=-1)
    rows = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1)
    return torch.linalg.matrix_exp(rows.unflatten(-1, (3, 3)))


def posed(joints: Tensor, parents: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
    """Rotations [B,J,3,3] and places [B,J,3] of joints that each turn about themselves; parents come first."""
    rows = torch.arange(len(joints), device=joints.device)
    turned, places = [turn[:, 0]], [joints[:, 0]]
    for joint in range(1, joints.shape[1]):
        parent = parents[:, joint].clamp(min=0)
        above, place = torch.stack(turned, dim=1)[rows, parent], torch.stack(places, dim=1)[rows, parent]
        places.append(place + torch.einsum("bxy,by->bx", above, joints[:, joint] - joints[rows, parent]))
        turned.append(above @ turn[:, joint])
    return torch.stack(turned, dim=1), torch.stack(places, dim=1)
