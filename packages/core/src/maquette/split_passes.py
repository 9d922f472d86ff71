"""Passes of models that several processes compute together, each a share of the tokens, so that one request is quicker.

One process leads: it alone knows of requests. It tells the others which model's pass is next and sends the inputs; all
then compute that pass as context parallelism has it (`maquette.parallel.context`), and its output is whole in each.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from multiprocessing.connection import Connection

import torch
from torch import Tensor, distributed, nn

from maquette import plugins
from maquette.config import ParallelConfig
from maquette.inference_device import inference_device
from maquette.parallel.parallelism import Parallelism
from maquette.precision import Precision

log = logging.getLogger("maquette.inference")
Pass = Callable[[Tensor, Tensor, Mapping[str, Tensor]], Tensor]
PATIENCE = 5.0
"""Minutes that a pass may take before the others count as lost."""


class SplitPasses:
    """What the processes of one engine have in common. All make one, and share the same models in the same order.

    Args:
        rank: which of them this one is; 0 leads.
        size: how many there are.
        port: of this machine, where they meet; the same for all.
        channels: the leader's to each follower, or a follower's to the leader.
        attention: the strategy by which attention sees all tokens: ulysses, ring or all_gather.
    """

    def __init__(
        self, rank: int, size: int, port: int, channels: Sequence[Connection], attention: str = "ulysses"
    ) -> None:
        self.device = inference_device()
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": rank, "WORLD_SIZE": size}
        where["LOCAL_RANK"] = self.device.index or 0
        os.environ.update({key: str(value) for key, value in where.items()})
        config = ParallelConfig(timeout_minutes=PATIENCE)
        self.parallelism = Parallelism(config, plugins.build("strategies", {"name": attention}), Precision())
        self.rank, self.channels = rank, channels
        self._models: list[nn.Module] = []

    def shared(self, model: nn.Module) -> Pass:
        """Splits a model's tokens over the processes, in place; gives what the leader calls in the model's stead.

        Raises:
            MaquetteError: the model cannot be split over so many.
        """
        self.parallelism.split(model)
        self._models.append(model)
        return partial(self._lead, len(self._models) - 1)

    def _lead(self, number: int, x: Tensor, t: Tensor, condition: Mapping[str, Tensor]) -> Tensor:
        inputs = {"x": x, "t": t, **condition}
        low = torch.is_autocast_enabled(x.device.type)
        shapes = {name: (tuple(value.shape), value.dtype) for name, value in inputs.items()}
        for channel in self.channels:
            channel.send((number, low, shapes))
        for value in inputs.values():
            broadcast(value.contiguous())
        output: Tensor = self._models[number](x, t, condition)
        return output

    @torch.inference_mode()
    def follow(self) -> None:
        """Computes what the leader announces, until it ends."""
        (channel,) = self.channels
        while True:
            try:
                number, low, shapes = channel.recv()
            except (EOFError, OSError):
                return
            inputs = {
                name: torch.empty(shape, dtype=kind, device=self.device) for name, (shape, kind) in shapes.items()
            }
            for value in inputs.values():
                broadcast(value)
            x, t = inputs.pop("x"), inputs.pop("t")
            try:
                with torch.autocast(self.device.type, torch.bfloat16) if low else nullcontext():
                    self._models[number](x, t, inputs)
            except Exception:  # the leader has the same, and tells whoever asked
                log.exception("a shared pass failed")


def broadcast(value: Tensor) -> None:
    """The leader's bytes of a contiguous tensor, whatever its kind, into everybody's."""
    if value.numel():
        distributed.broadcast(value.view(-1).view(torch.uint8), src=0)
