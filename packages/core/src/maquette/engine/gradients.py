"""The gradient's norm over all processes, and clipping: plain tensors and DTensors of any meshes, in any mix."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn

from maquette.parallel.shards import by_sharding, local

if TYPE_CHECKING:
    from maquette.parallel.mesh import Mesh


def total_norm(parameters: Iterable[nn.Parameter], mesh: Mesh | None = None) -> Tensor:
    """The Euclidean norm of the whole gradient, the same on every process.

    Args:
        parameters: this process's; their gradients are reduced already. All processes of a pipeline stage give the
            same ones in the same order.
        mesh: adds up the stages of a pipeline, which hold different parameters; none for one process.

    Returns:
        float32 scalar on the gradients' device; no copy to the host is made.
    """
    every = list(parameters)
    square = _squared_norms(every, [0] * len(every), 1)[0]
    return (mesh.sum(square, "pipeline") if mesh else square).sqrt()


def group_norms(named: Mapping[str, nn.Parameter], mesh: Mesh | None = None) -> dict[str, Tensor]:
    """The norm of the gradient of each top-level module, and of each block by itself (``layers.3``).

    Costs an object gather over the stages of a pipeline: for logs, not for every step.

    Args:
        named: as for :func:`total_norm`, with the names of the whole model.
        mesh: as for :func:`total_norm`.
    """
    labels = [module_of(name) for name in named]
    known = {label: index for index, label in enumerate(dict.fromkeys(labels))}
    squares = _squared_norms(list(named.values()), [known[label] for label in labels], len(known))
    found = dict(zip(known, squares, strict=True))
    stages = mesh.group("pipeline") if mesh else None
    if stages is not None:
        found = _over_stages(found, stages)
    return {label: square.sqrt() for label, square in found.items()}


def module_of(name: str) -> str:
    """``layers.3.mlp.up.weight`` -> ``layers.3``; ``head.weight`` -> ``head``."""
    parts = name.split(".")
    numbered = next((i for i, part in enumerate(parts) if part.isdigit()), None)
    return ".".join(parts[: numbered + 1]) if numbered is not None else parts[0]


def _over_stages(own: dict[str, Tensor], stages: distributed.ProcessGroup) -> dict[str, Tensor]:
    everybody: list[dict[str, float]] = [{} for _ in range(stages.size())]
    distributed.all_gather_object(everybody, {label: float(square) for label, square in own.items()}, group=stages)
    labels = dict.fromkeys(label for stage in everybody for label in stage)
    return {label: torch.tensor(sum(stage.get(label, 0.0) for stage in everybody)) for label in labels}


@torch.no_grad()
def _squared_norms(parameters: Sequence[Tensor], labels: Sequence[int], count: int) -> Tensor:
    """Squared gradient norms, added up by label; [count], whole over all processes but for the pipeline's.

    One all-reduce for each set of process groups that parameters are sharded over, however many parameters there are.
    """
    # By the parameter where it has no gradient: which collectives follow must not depend on that.
    laid_out = [parameter if parameter.grad is None else parameter.grad for parameter in parameters]
    device = local(laid_out[0]).device if laid_out else torch.device("cpu")
    total = torch.zeros(count, device=device)
    for groups, indices in by_sharding(laid_out).items():
        present = [index for index in indices if parameters[index].grad is not None]
        sums = torch.zeros(count, device=device)
        if present:
            norms = torch._foreach_norm([local(laid_out[index]) for index in present], 2, dtype=torch.float32)
            where = torch.tensor([labels[index] for index in present], device=device)
            sums.index_add_(0, where, torch.stack(norms).square())
        for group in groups:
            distributed.all_reduce(sums, group=group)
        total += sums
    return total


@torch.no_grad()
def clip(parameters: Iterable[nn.Parameter], max_norm: float, norm: Tensor) -> None:
    """Shrink all gradients, in place, so that the whole one is no longer than ``max_norm``.

    Args:
        parameters: as for :func:`total_norm`.
        max_norm: the largest norm that is left as it is.
        norm: as :func:`total_norm` gave it, finite.
    """
    gradients = [local(parameter.grad) for parameter in parameters if parameter.grad is not None]
    if gradients:
        torch._foreach_mul_(gradients, (max_norm / (norm + 1e-6)).clamp(max=1.0).to(gradients[0].device))


class AdaptiveClip:
    """Clips at a high percentile of the recent norms (Seetharaman et al. 2020, "AutoClip").

    The limit thus follows a training as its gradients shrink, and only outliers are cut. Until enough norms are known
    it is a fixed one.

    Args:
        first: the limit until ``warmup`` norms are known; 0 clips nothing until then.
        quantile: in [0, 1], of the norms before clipping.
        window: how many norms are remembered.
        warmup: how many must be known.
    """

    def __init__(self, first: float = 1.0, *, quantile: float = 0.95, window: int = 1000, warmup: int = 100) -> None:
        self.first, self.quantile, self.warmup = first, quantile, warmup
        self.norms: deque[float] = deque(maxlen=window)

    def limit(self) -> float:
        """The norm to clip the step under way at; infinite where nothing is to be clipped."""
        if len(self.norms) < self.warmup:
            return self.first or float("inf")
        ordered = sorted(self.norms)
        position = self.quantile * (len(ordered) - 1)
        low = int(position)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (position - low) * (ordered[high] - ordered[low])

    def observe(self, norm: float) -> None:
        """Remember the norm, before clipping, of a step that was made; it must be finite."""
        self.norms.append(norm)

    def state(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        return {"norms": list(self.norms)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state`."""
        self.norms.clear()
        self.norms.extend(state["norms"])
