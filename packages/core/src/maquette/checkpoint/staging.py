"""Copies of the state on the host, so that the next step may change it while the disk still writes."""

from __future__ import annotations

import torch
from torch import Tensor

from maquette.checkpoint.planning import Files


class Staging:
    """Buffers that are kept from one save to the next: fresh memory costs more than the copy itself.

    They take as much host memory as this process's share of the state; pinned where the state is on a GPU.
    """

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, str], Tensor] = {}

    def copy(self, files: Files) -> Files:
        """Copies of all tensors; when it returns, the originals may change."""
        copies: Files = {}
        devices: set[torch.device] = set()
        for file, tensors in files.items():
            copies[file] = {}
            for key, tensor in tensors.items():
                buffer = self._buffer((file, key), tensor)
                buffer.copy_(tensor, non_blocking=True)
                copies[file][key] = buffer
                devices.add(tensor.device)
        for device in devices:
            if device.type == "cuda":
                torch.cuda.synchronize(device)
        for place in self._buffers.keys() - {(file, key) for file, tensors in copies.items() for key in tensors}:
            del self._buffers[place]
        return copies

    def _buffer(self, place: tuple[str, str], tensor: Tensor) -> Tensor:
        buffer = self._buffers.get(place)
        if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
            pinned = tensor.device.type == "cuda"
            buffer = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=pinned)
            self._buffers[place] = buffer
        return buffer
