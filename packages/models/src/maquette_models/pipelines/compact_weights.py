"""Linear layers whose weights are stored small and widened at each use: less memory, the same arithmetic.

Scales are one a row of the weight, symmetric, so that a layer's output depends on nothing but its input: no calibration
data, and the same bits each time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from maquette.errors import unknown_name

LARGEST = {"int8": 127.0, "fp8": 448.0}
"""The largest magnitude that a stored number can have."""
STORED = {"bf16": torch.bfloat16, "int8": torch.int8, "fp8": torch.float8_e4m3fn}


class CompactLinear(nn.Linear):
    """A linear layer with a stored weight [O,I] of bf16, int8 or fp8 (e4m3), and for the latter two a scale [O,1]."""

    packed: Tensor
    scale: Tensor

    def __init__(self, layer: nn.Linear, kind: str) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        packed, scale = pack(layer.weight.detach(), kind)
        self.register_buffer("packed", packed)
        self.register_buffer("scale", scale)
        self.register_parameter("bias", layer.bias)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]  # computed, where nn.Linear holds a parameter
        """The weight float32 [O,I] that it stands for."""
        return self.packed.float() * self.scale


def pack(weight: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """A weight [O,I] as it is stored, and the scale [O,1] by which that is multiplied.

    Raises:
        MaquetteError: an unknown kind.
    """
    if kind not in STORED:
        raise unknown_name("weights", kind, STORED)
    if kind == "bf16":
        return weight.to(torch.bfloat16), torch.ones(len(weight), 1, device=weight.device)
    scale = weight.float().abs().amax(dim=1, keepdim=True).clamp(min=1e-12) / LARGEST[kind]
    scaled = weight.float() / scale
    return (scaled.round() if kind == "int8" else scaled).to(STORED[kind]), scale


def compact(model: nn.Module, kind: str) -> None:
    """Stores the linear layers of a model's blocks small, in place; what is before and after the blocks stays.

    Layers that an adapter has widened stay too.
    """
    for block in model.blocks():  # type: ignore[operator]
        for parent in list(block.modules()):
            for name, layer in list(parent.named_children()):
                if type(layer) is nn.Linear:
                    setattr(parent, name, CompactLinear(layer, kind).train(layer.training))


def stored_bytes(model: nn.Module) -> int:
    """Of a model's parameters and buffers."""
    return sum(tensor.numel() * tensor.element_size() for tensor in (*model.parameters(), *model.buffers()))
