"""Tensor parallelism: linear layers split over processes, and the tokens between them (sequence parallel).

After Shoeybi et al., "Megatron-LM", 2019, and Korthikanti et al., "Reducing Activation Recomputation in Large
Transformer Models", 2022. Between the split layers each process holds its share of the tokens; a layer that needs all
of them gathers them on entry, and the row-wise product on its way out adds up and cuts again. Weights become DTensors,
so that sharding and checkpoints know how they are split; activations stay plain tensors.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard
from torch.nn import functional as F

from maquette.parallel.layout import Layout
from maquette.parallel.mesh import Mesh
from maquette.parallel.strategy import Strategy
from maquette.parallel.tokens import Peers, add_up, gather, missing, reduce_scatter, split_tokens

if TYPE_CHECKING:
    from maquette.precision import Precision

STYLES = ("gather", "colwise", "rowwise")
TILE = 16
"""What a process's part of an fp8 product must be a multiple of."""


@dataclass
class TensorParallelConfig:
    """Nothing to set: the model's plan says which layers are split, ``parallel.tensor`` over how many processes."""


class TensorParallel(Strategy):
    """Linear layers split over ``tensor`` processes, and with them the tokens of the stream between blocks.

    The model names its layers by ``tensor_parallel_plan()``: a glob of module names -> ``gather`` (all tokens are
    gathered on entry), ``colwise`` or ``rowwise`` (linear layers; a process holds some of the outputs, or inputs).
    """

    axis = "tensor"

    def __init__(self, config: TensorParallelConfig | None = None) -> None:
        self.config = config or TensorParallelConfig()

    def refuses(self, layout: Layout, model: nn.Module | None, precision: Precision) -> str | None:
        """A model without blocks or plan, or whose heads or widths the processes do not divide."""
        if layout.tensor == 1 or model is None:
            return None
        lacking = missing(model, ("blocks", "begin", "finish", "tensor_parallel_plan"))
        if lacking or not plan_of(model):
            return (
                f"{type(model).__name__} declares no {lacking or 'layers in tensor_parallel_plan()'}; tensor must be 1"
            )
        return _bad_plan(model) or _indivisible(model, layout.tensor, precision)

    def apply(self, model: nn.Module, mesh: Mesh, precision: Precision) -> None:
        """Split the weights in place, gather and cut tokens where the plan says, and split the stream."""
        if mesh.size("tensor") == 1:
            return
        peers, device_mesh = Peers.along(mesh, "tensor"), mesh.device_mesh("tensor")
        for _, module, style in planned(model):
            if style == "gather":
                module.register_forward_pre_hook(_GatherFirst(peers), with_kwargs=True)
            elif isinstance(module, nn.Linear):
                _split_linear(module, style, peers, device_mesh)
        split_tokens(model, mesh)

    def reduce_gradients(self, model: nn.Module, mesh: Mesh) -> None:
        """Add up over ``tensor`` the gradients of what is not split: each process saw some of tokens or heads."""
        group = mesh.group("tensor")
        if group is not None:
            gradients = [p.grad for p in model.parameters() if p.grad is not None and not splits_over(p, "tensor")]
            add_up([_local(gradient) for gradient in gradients], group)


def splits_over(parameter: Tensor, name: str) -> bool:
    """Whether a parameter is a DTensor that is split over the mesh's dimension ``name``."""
    if not isinstance(parameter, DTensor):
        return False
    names = parameter.device_mesh.mesh_dim_names or ()
    return any(dim == name and placement.is_shard() for dim, placement in zip(names, parameter.placements, strict=True))


def plan_of(model: nn.Module) -> dict[str, str]:
    """What the model declares; nothing where it declares nothing."""
    declared = getattr(model, "tensor_parallel_plan", None)
    return dict(declared()) if callable(declared) else {}


def planned(model: nn.Module) -> Iterator[tuple[str, nn.Module, str]]:
    """(name, module, style) of every module that the plan names."""
    plan = plan_of(model)
    for name, module in model.named_modules():
        for style in {style for pattern, style in plan.items() if fnmatchcase(name, pattern)}:
            yield name, module, style


def head_count(model: nn.Module, among: Container[nn.Module] | None = None) -> int | None:
    """The heads of attention: the fewest among the blocks' modules that know their ``head_dim``, or None.

    Args:
        model: with ``blocks()``.
        among: the linear layers that count; all where None.
    """
    counts = [
        layer.out_features // module.head_dim
        for block in model.blocks()  # type: ignore[operator]
        for module in block.modules()
        if isinstance(getattr(module, "head_dim", None), int)
        for layer in module.children()
        if isinstance(layer, nn.Linear) and (among is None or layer in among)
    ]
    return min(counts, default=None)


def _bad_plan(model: nn.Module) -> str | None:
    where = f"{type(model).__name__}.tensor_parallel_plan()"
    names = [name for name, _ in model.named_modules()]
    for pattern, style in plan_of(model).items():
        if style not in STYLES:
            return f"{where}: '{pattern}' is '{style}'; known: {', '.join(STYLES)}"
        if not any(fnmatchcase(name, pattern) for name in names):
            return f"{where}: '{pattern}' names no module"
    styles: dict[str, str] = {}
    for name, module, style in planned(model):
        if name in styles:
            return f"{where}: '{name}' is both '{styles[name]}' and '{style}'"
        if style != "gather" and not isinstance(module, nn.Linear):
            return f"{where}: '{name}' is '{style}' but no linear layer"
        styles[name] = style
    return None


def _indivisible(model: nn.Module, tensor: int, precision: Precision) -> str | None:
    units: dict[str, int] = {}  # how many indivisible units there are of each thing that is split
    if heads := head_count(model, {module for _, module, style in planned(model) if style != "gather"}):
        units["heads"] = heads
    for name, module, style in planned(model):
        if isinstance(module, nn.Linear) and style != "gather":
            ends = {"colwise": module.out_features, "rowwise": module.in_features}
            what = {"colwise": "outputs", "rowwise": "inputs"}[style]
            fp8 = precision.fp8 and min(ends.values()) >= precision.min_width and ends[style] % TILE == 0
            units[f"{f'x {TILE} ' if fp8 else ''}{what} of '{name}'"] = ends[style] // (TILE if fp8 else 1)
    odd = next(((what, count) for what, count in units.items() if count % tensor), None)
    if odd is None:
        return None
    fit = [n for n in range(1, min(units.values()) + 1) if not any(count % n for count in units.values())]
    works = ", ".join(map(str, fit[:12]))
    return f"{type(model).__name__} has {odd[1]} {odd[0]}, which tensor={tensor} does not divide; would work: {works}"


@dataclass(frozen=True)
class _GatherFirst:
    """A hook before a module: its first input, by place or by name, with all tokens."""

    peers: Peers

    def __call__(self, module: nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if args:
            return (gather(args[0], 1, self.peers), *args[1:]), named
        first, *_ = named
        return args, named | {first: gather(named[first], 1, self.peers)}


class _Split(nn.Linear):
    """What the split linear layers share; ``peers`` is set when a layer becomes one."""

    peers: Peers

    def _product(self, x: Tensor) -> Tensor:
        weight = _local(self.weight)
        product = getattr(self, "product", None)  # of layers in another precision
        return F.linear(x, weight) if product is None else product(x, weight)


class Colwise(_Split):
    """A linear layer that holds some of the outputs: [..., in] -> [..., out / size]."""

    def forward(self, x: Tensor) -> Tensor:
        y = self._product(x)
        return y if self.bias is None else y + _local(self.bias).to(y.dtype)


class Rowwise(_Split):
    """A linear layer that holds some of the inputs: [B, N, in / size] -> [B, N / size, out], summed over all."""

    def forward(self, x: Tensor) -> Tensor:
        y = reduce_scatter(self._product(x), 1, self.peers)
        return y if self.bias is None else y + self.bias.to(y.dtype)


def _split_linear(layer: nn.Linear, style: str, peers: Peers, device_mesh: DeviceMesh) -> None:
    kind, dim = (Colwise, 0) if style == "colwise" else (Rowwise, 1)
    # A class of its own keeps the layer where it is, with its names, hooks and other methods, e.g. an fp8 product.
    layer.__class__ = kind if type(layer) is nn.Linear else mixed(kind, type(layer))  # type: ignore[assignment]
    layer.peers = peers  # type: ignore[assignment]
    layer.weight = _shard(layer.weight, dim, peers, device_mesh)
    if layer.bias is not None and dim == 0:
        layer.bias = _shard(layer.bias, 0, peers, device_mesh)


_MIXED: dict[tuple[type[nn.Module], type[nn.Module]], type[nn.Module]] = {}


def mixed(kind: type[nn.Module], own: type[nn.Module]) -> type[nn.Module]:
    """A class with ``kind``'s forward and the rest of ``own``; always the same one, as compiled blocks are told apart
    by their layers' classes."""
    if (kind, own) not in _MIXED:
        _MIXED[kind, own] = type(f"{kind.__name__}{own.__name__}", (kind, own), {})
    return _MIXED[kind, own]


def _shard(parameter: Tensor, dim: int, peers: Peers, device_mesh: DeviceMesh) -> nn.Parameter:
    own = parameter.detach().chunk(peers.size, dim)[peers.index].clone(memory_format=torch.contiguous_format)
    return nn.Parameter(DTensor.from_local(own, device_mesh, [Shard(dim)], run_check=False), parameter.requires_grad)


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
