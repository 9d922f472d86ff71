"""Loss by noise level: the mean loss hides that a flow learns its noisy and its clean end at different speeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


class NoiseBins:
    """Sums of per-sample losses in bins of equal width over the times 0 (data) to 1 (noise).

    Sums stay on the losses' device, so that counting never waits for a GPU.

    Args:
        bins: how many.
    """

    def __init__(self, bins: int = 10) -> None:
        self.bins = bins
        self._sums: Tensor | None = None  # [2, bins] float32: losses, counts

    def add(self, per_sample: Mapping[str, Tensor]) -> None:
        """Count ``{"loss": [B], "t": [B] in [0, 1]}``; samples with losses that are not finite do not count."""
        loss, t = per_sample["loss"].detach().float(), per_sample["t"].detach().float()
        place = (t * self.bins).long().clamp(0, self.bins - 1)
        finite = torch.isfinite(loss)
        if self._sums is None:
            self._sums = torch.zeros(2, self.bins, device=loss.device)
        self._sums[0].index_add_(0, place, torch.where(finite, loss, torch.zeros_like(loss)))
        self._sums[1].index_add_(0, place, finite.float())

    def read(self, total: Callable[[Tensor], Tensor] | None = None) -> dict[str, float]:
        """Mean loss by bin since the last reading, and start again.

        Args:
            total: adds a tensor up over the processes that see different samples. All of them must call.

        Returns:
            ``{"loss_at_noise/0.00-0.10": mean, ...}`` without the bins that saw no sample; empty where nothing was
            ever counted.
        """
        if self._sums is None:
            return {}
        sums = total(self._sums) if total else self._sums
        losses, counts = sums.tolist()
        self._sums.zero_()
        edges = [index / self.bins for index in range(self.bins + 1)]
        return {
            f"loss_at_noise/{low:.2f}-{high:.2f}": loss / count
            for low, high, loss, count in zip(edges, edges[1:], losses, counts, strict=False)
            if count
        }
