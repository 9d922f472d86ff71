"""What one checkpoint of a run takes on the disk."""

from __future__ import annotations

from pathlib import Path

from omegaconf import DictConfig

from maquette import checkpoint
from maquette.runs import RunFolder

ADAM_COPIES = 2
"""Averages of gradients and of their squares, in float32; what other optimizers keep is no more."""


def newest_checkpoint_bytes(folder: Path) -> int | None:
    """Of the newest checkpoint of a run; None where it has none."""
    found = checkpoint.paths(RunFolder(folder).checkpoints)
    if not found:
        return None
    return sum(file.stat().st_size for file in found[0].rglob("*") if file.is_file())


def planned_checkpoint_bytes(node: DictConfig) -> int:
    """Of a run that is not started yet: weights, their averages and the optimizer's, from the model's shapes alone.

    Raises:
        MaquetteError: the model needs facts of a dataset that cannot be read.
    """
    import torch

    from maquette.planning.source import Source
    from maquette.runs import build_model

    Source(node).facts()
    with torch.device("meta"):
        model = build_model(node)
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    weights = sum(weight.numel() * weight.element_size() for weight in model.state_dict().values())
    return weights * (1 + len(node.train.ema_decays)) + 4 * ADAM_COPIES * trained
