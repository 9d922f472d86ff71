"""A small convolutional classifier of occupancy grids: the judge of whether a generated shape is of its
class."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maquette.progress import track

GRID = 16
BATCH = 32
LEARNING_RATE = 2e-3


class ShapeClassifier(nn.Module):
    """Class logits [B,K] of coarse occupancy [B,1,16,16,16] in [0,1]."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(1, 16, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv3d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv3d(32, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * (GRID // 4) ** 3, classes),
        )

    def forward(self, occupancy: Tensor) -> Tensor:
        return self.layers(occupancy)


def coarse_occupancy(tsdf: Tensor) -> Tensor:
    """The occupied share of each of 16^3 cells, float32 [B,1,16,16,16], from distance grids [B,1,R,R,R]."""
    return F.adaptive_avg_pool3d((tsdf < 0).float(), GRID)


def train_classifier(occupancy: Tensor, class_id: Tensor, classes: int, steps: int, seed: int) -> ShapeClassifier:
    """A classifier trained on coarse occupancies [N,1,16,16,16]; the same arguments give the same weights.

    Shapes are mirrored left to right at random. The global generator is left as it was.
    """
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        model = ShapeClassifier(classes)
        optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE)
        for _ in track(range(steps), "Training the classifier"):
            rows = torch.randint(0, len(class_id), (BATCH,))
            x = occupancy[rows]
            x = torch.where(torch.rand(BATCH, 1, 1, 1, 1) < 0.5, x.flip(2), x)
            optimizer.zero_grad()
            F.cross_entropy(model(x), class_id[rows]).backward()
            optimizer.step()
    return model.eval().requires_grad_(False)
