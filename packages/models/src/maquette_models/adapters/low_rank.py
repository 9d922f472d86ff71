"""Low-rank changes of linear layers: put in, taken out, folded into the weights and back.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", 2021.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from maquette.errors import MaquetteError, unknown_name


@dataclass(frozen=True)
class LowRankChange:
    """What is added to one weight [O,I]: ``up @ down``, of [O,R] and [R,I]."""

    down: Tensor
    up: Tensor

    def delta(self) -> Tensor:
        """The change [O,I], computed in float64, in float32."""
        return (self.up.double() @ self.down.double()).float()


class LowRankLinear(nn.Linear):
    """A linear layer with a low-rank change beside it: ``x W^T + b + scale * (x down^T) up^T``.

    It holds the very parameters of the layer whose place it takes, under the same names, and gives it back by
    :meth:`original`, bit for bit.
    """

    def __init__(self, layer: nn.Linear, rank: int, scale: float = 1.0, dropout: float = 0.0) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias
        self.scale, self.dropout = scale, dropout
        self.down = nn.Parameter(torch.empty(rank, layer.in_features, device=layer.weight.device))
        self.up = nn.Parameter(torch.zeros(layer.out_features, rank, device=layer.weight.device))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        narrow = F.linear(F.dropout(x, self.dropout, self.training), self.down.to(x.dtype))
        return F.linear(x, self.weight, self.bias) + self.scale * F.linear(narrow, self.up.to(x.dtype))

    def original(self) -> nn.Linear:
        """A plain layer with the same parameters."""
        layer = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        layer.weight, layer.bias = self.weight, self.bias
        return layer

    def change(self) -> LowRankChange:
        """What the layer adds to its weight, ``scale`` included."""
        return LowRankChange(self.down.detach(), self.scale * self.up.detach())


def matching_layers(model: nn.Module, globs: Sequence[str]) -> list[str]:
    """The names of the linear layers that any of the globs matches, in the model's order.

    Raises:
        MaquetteError: a glob that matches none.
    """
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in names):
            raise unknown_name("layers", glob, names, where="(a glob over the names of linear layers)")
    return [name for name in names if any(fnmatchcase(name, glob) for glob in globs)]


def insert(model: nn.Module, layers: Iterable[str], rank: int, scale: float = 1.0, dropout: float = 0.0) -> None:
    """Put a change of a rank beside each of the named layers; it is zero until it is trained."""
    for name in layers:
        replace(model, name, LowRankLinear(plain(model.get_submodule(name)), rank, scale, dropout))


def attach(model: nn.Module, changes: Mapping[str, Sequence[LowRankChange]]) -> None:
    """Put given changes, any number a layer, beside the named layers, in the stead of those that were there.

    Several are one of their ranks' sum: their matrices lie side by side.
    """
    detach(model)
    for name, parts in changes.items():
        layer = plain(model.get_submodule(name))
        stacked = LowRankLinear(layer, sum(len(part.down) for part in parts))
        like = {"device": layer.weight.device, "dtype": torch.float32}
        stacked.down = nn.Parameter(torch.cat([part.down for part in parts]).to(**like), requires_grad=False)
        stacked.up = nn.Parameter(torch.cat([part.up for part in parts], dim=1).to(**like), requires_grad=False)
        replace(model, name, stacked.train(layer.training))


def check_weights_as_trained(model: nn.Module) -> None:
    """Before anything is put beside a model's layers, or taken away from there.

    Raises:
        MaquetteError: some are stored small.
    """
    if any(isinstance(layer, nn.Linear) and not isinstance(layer.weight, nn.Parameter) for layer in model.modules()):
        raise MaquetteError(
            "adapters need the weights as they were trained, and these are stored small; leave --weights away, or make "
            "the adapter part of the run: maquette adapter merge"
        )


def detach(model: nn.Module) -> None:
    """Take all changes out: the model has its own layers and computes what it did, bit for bit."""
    for name, layer in list(low_rank_layers(model)):
        replace(model, name, layer.original().train(layer.training))


@torch.no_grad()
def add_to_weights(model: nn.Module, changes: Mapping[str, Sequence[LowRankChange]], sign: float = 1.0) -> None:
    """Fold changes into the weights of the named layers; with ``sign`` -1 out of them again, to rounding."""
    for name, parts in changes.items():
        weight = model.get_submodule(name).weight
        weight.add_(sum(part.delta() for part in parts).to(weight), alpha=sign)


def changes_of(model: nn.Module) -> dict[str, LowRankChange]:
    """The changes of a model's layers by the layers' names."""
    return {name: layer.change() for name, layer in low_rank_layers(model)}


def low_rank_layers(model: nn.Module) -> Iterator[tuple[str, LowRankLinear]]:
    """The layers that have a change, by name."""
    return ((name, module) for name, module in model.named_modules() if isinstance(module, LowRankLinear))


def plain(layer: nn.Module) -> nn.Linear:
    """The layer itself, or the one whose place it has taken."""
    return layer.original() if isinstance(layer, LowRankLinear) else layer


def replace(model: nn.Module, name: str, module: nn.Module) -> None:
    """Put a module in the place of another, by name."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)
