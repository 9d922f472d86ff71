"""A classifier of surfaces with one head an attribute: the judge of whether a shape is what its caption says."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maquette.progress import track

GRID = 32
SHADES = 8
POINTS = 2048
BATCH = 32
WIDTH = 128
LEARNING_RATE = 2e-3
SPREAD = 0.004
"""Standard deviation of what training moves points by, so that the judge looks at shape and not at smoothness."""


@dataclass(frozen=True)
class Surfaces:
    """Points float32 [N,P,3] in the unit cube, evenly by area, and their colours in [0,1], [N,P,3]."""

    points: Tensor
    colors: Tensor


class AttributeJudge(nn.Module):
    """Logits [B,K] of surfaces, K being the `values` of all attributes in turn: those that the shape speaks for, plus
    those that the colours do, wherever they are."""

    def __init__(self, values: int) -> None:
        super().__init__()
        self.shape = nn.Sequential(
            nn.Conv3d(1, 24, 4, stride=4),
            nn.ReLU(),
            nn.Conv3d(24, 48, 3, padding=1),
            nn.ReLU(),
            nn.Conv3d(48, 48, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(48 * (GRID // 8) ** 3, WIDTH),
            nn.ReLU(),
            nn.Linear(WIDTH, values),
        )
        self.color = nn.Sequential(nn.Linear(SHADES**3, WIDTH), nn.ReLU(), nn.Linear(WIDTH, values))

    def forward(self, surfaces: Surfaces) -> Tensor:
        return self.shape(surface_grid(surfaces.points)) + self.color(color_histogram(surfaces.colors))


def surface_grid(points: Tensor) -> Tensor:
    """Root of the area's density in each of 32^3 cells, [B,1,32,32,32], of points [B,P,3] in the unit cube."""
    shares = cell_shares(points + 0.5, GRID)
    return (shares * GRID**2).sqrt().view(-1, 1, GRID, GRID, GRID)


def color_histogram(colors: Tensor) -> Tensor:
    """Root of the share of each of 8^3 colours, [B,512], of colours [B,P,3] in [0,1]."""
    return cell_shares(colors, SHADES).sqrt()


def cell_shares(values: Tensor, side: int) -> Tensor:
    """Of values [B,P,3] the share in each of `side`^3 cells of [0,1]^3, [B,side^3]; the border has those outside."""
    x, y, z = (values * side).floor().long().clamp(0, side - 1).unbind(-1)
    each = torch.full(x.shape, 1 / x.shape[1])
    return torch.zeros(len(values), side**3).scatter_add_(1, (x * side + y) * side + z, each)


def train_judge(surfaces: Surfaces, labels: Tensor, sizes: list[int], steps: int, seed: int) -> AttributeJudge:
    """A judge of attributes with `sizes` values each; the same arguments give the same weights.

    Shapes are mirrored left to right at random, their points drawn anew and moved a little. The global generator is
    left as it was.

    Args:
        surfaces: of N shapes.
        labels: int64 [N,A], the value of each attribute; -1 where the shape has none.
    """
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        judge = AttributeJudge(sum(sizes))
        optimizer = torch.optim.AdamW(judge.parameters(), LEARNING_RATE, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1)
        for _ in track(range(steps), "Training the judge of attributes"):
            rows = torch.randint(len(labels), (BATCH,))
            optimizer.zero_grad()
            judge_loss(judge(varied(surfaces, rows)), labels[rows], sizes).backward()
            optimizer.step()
            schedule.step()
    return judge.eval().requires_grad_(False)


def varied(surfaces: Surfaces, rows: Tensor) -> Surfaces:
    """Some of the points of some shapes, each shape mirrored or not."""
    picked = torch.randint(surfaces.points.shape[1], (len(rows), POINTS))
    points, colors = (x[rows[:, None], picked].float() for x in (surfaces.points, surfaces.colors))
    sign = torch.ones(len(rows), 1, 3)
    sign[torch.rand(len(rows)) < 0.5, :, 0] = -1
    return Surfaces(points * sign + SPREAD * torch.randn_like(points), colors)


def judge_loss(logits: Tensor, labels: Tensor, sizes: list[int]) -> Tensor:
    """Sum over attributes of the mean cross-entropy over the shapes of a batch that have them."""
    losses = []
    for part, own in zip(logits.split(sizes, dim=1), labels.unbind(1), strict=True):
        weight = (own >= 0).float().mean()
        if weight > 0:
            losses.append(weight * F.cross_entropy(part, own, ignore_index=-1))
    return torch.stack(losses).sum()
