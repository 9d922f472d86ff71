"""Tokens that are split over processes: differentiable collectives on plain tensors, and where models cut and join.

The convention of gradients here and in ``tensor.py`` and ``context.py``: every process computes its share of the loss,
and the true gradient is the sum of all processes' gradients. The backward pass of a gather is therefore a
reduce-scatter that sums, and that of a split is a gradient that is zero for the other processes' tokens.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn

from maquette.errors import MaquetteError
from maquette.parallel.mesh import Mesh

AXES = ("context", "tensor")
"""The axes that the residual stream's tokens are split over, outermost first."""


@dataclass(frozen=True)
class Peers:
    """The processes along some axes of the mesh, as traced code can hold them: plain numbers and a name."""

    size: int
    index: int
    name: str
    """That of the process group."""

    @classmethod
    def along(cls, mesh: Mesh, *axes: str) -> Peers:
        """Those along ``axes``; all processes must call it, as it may make the group."""
        group = mesh.group(*axes)
        return cls(mesh.size(*axes), mesh.index(*axes), "" if group is None else group.group_name)


# The operations return at once and their results are waited for here: a tensor that is still on its way
# (AsyncCollectiveTensor) loses gradients when it enters a compiled block.


def _gather(x: Tensor, axis: int, peers: Peers) -> Tensor:
    ops = torch.ops._c10d_functional
    whole = ops.wait_tensor(ops.all_gather_into_tensor(x.contiguous(), peers.size, peers.name))
    if axis == 0:
        return whole
    return whole.view(peers.size, *x.shape).movedim(0, axis).flatten(axis, axis + 1)


def _reduce_scatter(x: Tensor, axis: int, peers: Peers) -> Tensor:
    ops = torch.ops._c10d_functional
    if axis:
        x = torch.cat(x.chunk(peers.size, axis))
    return ops.wait_tensor(ops.reduce_scatter_tensor(x.contiguous(), "sum", peers.size, peers.name))


def _exchange(x: Tensor, peers: Peers) -> Tensor:
    ops = torch.ops._c10d_functional
    rows = [x.shape[0] // peers.size] * peers.size
    return ops.wait_tensor(ops.all_to_all_single(x.contiguous(), rows, rows, peers.name))


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: int, peers: Peers) -> Tensor:
        ctx.axis, ctx.peers = axis, peers
        return _gather(x, axis, peers)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _reduce_scatter(gradients[0], ctx.axis, ctx.peers), None, None


class _ReduceScatter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, axis: int, peers: Peers) -> Tensor:
        ctx.axis, ctx.peers = axis, peers
        return _reduce_scatter(x, axis, peers)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _gather(gradients[0], ctx.axis, ctx.peers), None, None


class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, peers: Peers) -> Tensor:
        ctx.peers = peers
        return _exchange(x, peers)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _exchange(gradients[0], ctx.peers), None


def gather(x: Tensor, axis: int, peers: Peers) -> Tensor:
    """Every process's part along ``axis``, put together in the order of ranks; backward: reduce-scatter.

    Args:
        x: this process's part, of the same shape everywhere; whole numbers and truth values may be gathered too.
        axis: not negative.
        peers: whose parts.
    """
    if peers.size == 1:
        return x
    if x.dtype == torch.bool:  # gloo knows no truth values
        return _Gather.apply(x.to(torch.uint8), axis, peers).to(torch.bool)  # type: ignore[no-untyped-call]
    return _Gather.apply(x, axis, peers)  # type: ignore[no-untyped-call]


def reduce_scatter(x: Tensor, axis: int, peers: Peers) -> Tensor:
    """This process's part along ``axis`` of the sum over all processes; backward: gather.

    Args:
        x: a summand, of the same shape everywhere; ``peers.size`` divides its length along ``axis``.
        axis: not negative.
        peers: whose summands.
    """
    return x if peers.size == 1 else _ReduceScatter.apply(x, axis, peers)  # type: ignore[no-untyped-call]


def exchange(x: Tensor, peers: Peers) -> Tensor:
    """All-to-all: the i-th part along axis 0 goes to process i, whose part takes its place; backward: the same."""
    return x if peers.size == 1 else _Exchange.apply(x, peers)  # type: ignore[no-untyped-call]


def split(x: Tensor, axis: int, peers: Peers) -> Tensor:
    """This process's part along ``axis`` of what all processes hold alike; no communication.

    Raises:
        MaquetteError: the length is no multiple of the number of processes; names the numbers that would do.
    """
    length = x.shape[axis]
    if length % peers.size:
        raise MaquetteError(uneven(length, peers.size))
    part = length // peers.size
    return x.narrow(axis, peers.index * part, part).contiguous()  # stages of a pipeline send it on


def uneven(length: int, parts: int) -> str:
    """Why ``length`` tokens do not go over ``parts`` processes, and what would."""
    fit = ", ".join(str(size) for size in range(1, min(length, 64) + 1) if length % size == 0)
    near = [length // parts * parts, (length // parts + 1) * parts]
    counts = " or ".join(str(count) for count in near if count)
    return (
        f"parallel: {length} tokens do not split over context x tensor = {parts} processes; "
        f"make it {counts} tokens (bucket or pad the data), or choose context x tensor from: {fit}"
    )


def split_tokens(model: nn.Module, mesh: Mesh) -> None:
    """Split the stream's tokens over ``context`` and ``tensor`` between ``begin`` and ``finish`` of a model, or part.

    What ``begin`` gives is cut and what ``finish`` takes is put together again, so that a pipeline's stages in between
    pass their part on. Other tensors that count tokens (``token_axes``) are cut over ``context`` alone: within a
    block, tensor parallelism gathers the tokens that it has split. Means over a sample's tokens (``token_means``)
    become those of all processes' tokens. Does nothing the second time.
    """
    if "_splits_tokens" in model.__dict__:
        return
    _share_token_means(model, mesh)
    stream, others = Peers.along(mesh, *AXES), Peers.along(mesh, "context")
    cuts = _Cuts(token_axes(model), stream, others)
    model.__dict__["_splits_tokens"] = True
    if callable(begin := getattr(model, "begin", None)):
        model.__dict__["begin"] = functools.partial(_begin_and_split, begin, cuts)
    if callable(finish := getattr(model, "finish", None)):
        model.__dict__["finish"] = functools.partial(_join_and_finish, finish, cuts)


def _share_token_means(model: nn.Module, mesh: Mesh) -> None:
    """Where the tokens of a sample lie on several processes, make a model's ``token_means()`` those of all tokens.

    Each of them averages [B, N, C] over N; routers need it, whose balance is that of a whole sample.
    """
    if mesh.size("context", "tensor") == 1 or not hasattr(model, "token_means"):
        return
    peers = Peers.along(mesh, "context", "tensor")
    for module in model.token_means():  # type: ignore[operator]
        module.forward = functools.partial(_mean_of_shards, module.forward, peers)


def _mean_of_shards(mean: Callable[[Tensor], Tensor], peers: Peers, tokens: Tensor) -> Tensor:
    """The mean of the means [B, C]: shards are equally long."""
    return gather(mean(tokens)[:, None], 1, peers).mean(dim=1)


def missing(model: nn.Module, methods: tuple[str, ...]) -> str:
    """The first of some methods of the model protocol that a model lacks, with brackets; empty where it has all."""
    return next((f"{name}()" for name in methods if not callable(getattr(model, name, None))), "")


def token_axes(model: nn.Module) -> tuple[int | None, ...]:
    """Which axis of each of ``begin``'s results counts tokens; of the stream alone where the model does not say."""
    declared = getattr(model, "token_axes", None)
    return tuple(declared()) if callable(declared) else (1,)


@dataclass(frozen=True)
class _Cuts:
    axes: tuple[int | None, ...]
    stream: Peers
    others: Peers

    def each(self, apply: Callable[[Any, int, Peers], Any], tensors: tuple[Any, ...]) -> tuple[Any, ...]:
        axes = self.axes + (None,) * (len(tensors) - len(self.axes))
        peers = (self.stream, *(self.others for _ in tensors[1:]))
        return tuple(
            x if axis is None or not isinstance(x, Tensor) else apply(x, axis, who)
            for x, axis, who in zip(tensors, axes, peers, strict=False)
        )


def _begin_and_split(begin: Callable[..., tuple[Any, ...]], cuts: _Cuts, *inputs: Any, **named: Any) -> tuple[Any, ...]:
    return cuts.each(split, begin(*inputs, **named))


def _join_and_finish(finish: Callable[..., Any], cuts: _Cuts, *tensors: Any) -> Any:
    return finish(*cuts.each(gather, tensors))


def add_up(tensors: list[Tensor], group: distributed.ProcessGroup, bucket_bytes: int = 2**25) -> None:
    """Sum tensors over a group in place, in flat buckets of about ``bucket_bytes``, one kind of tensor a bucket."""
    kinds: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
    for tensor in tensors:
        if tensor.numel():
            kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    for same in kinds.values():
        for bucket in make_buckets(same, bucket_bytes):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            distributed.all_reduce(flat, group=group)
            parts = torch.split(flat, [tensor.numel() for tensor in bucket])
            torch._foreach_copy_(bucket, [part.view_as(tensor) for part, tensor in zip(parts, bucket, strict=True)])


def make_buckets(tensors: list[Tensor], limit: int) -> list[list[Tensor]]:
    """Runs of tensors in their order, each of at most ``limit`` bytes, or of one tensor."""
    buckets: list[list[Tensor]] = [[]]
    filled = 0
    for tensor in tensors:
        if buckets[-1] and filled + tensor.nbytes > limit:
            buckets.append([])
            filled = 0
        buckets[-1].append(tensor)
        filled += tensor.nbytes
    return buckets
