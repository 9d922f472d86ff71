"""A stage of torch's pipelining that takes nested inputs, accumulates over several batches and sends every gradient."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor, distributed
from torch.distributed.pipelining import PipelineStage


class AccumulatingStage(PipelineStage):
    """torch's stage, with what its schedules leave out.

    Attributes:
        inputs: of the first stage: the model's arguments for each microbatch.
        reduces: whether FSDP reduces the gradients at the end of this batch, or they wait for the next one.
    """

    inputs: list[tuple[Any, ...]]
    reduces: bool = True

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **named)
        # It would compare the first stage's arguments with the row numbers that stand for them.
        self._runtime_validate = False

    def forward_one_chunk(self, fwd_chunk_id: int, args: tuple[Any, ...], *rest: Any, **named: Any) -> Any:
        """The first stage looks its arguments up: the schedule cuts row numbers, which any nesting follows."""
        if self.is_first:
            args = self.inputs[fwd_chunk_id]
        return super().forward_one_chunk(fwd_chunk_id, args, *rest, **named)  # type: ignore[no-untyped-call]

    def get_fwd_send_ops(self, fwd_chunk_id: int) -> list[distributed.P2POp]:
        """Nothing for the last stage, however many tensors the model gives."""
        return [] if self.is_last else super().get_fwd_send_ops(fwd_chunk_id)

    def backward_one_chunk(self, bwd_chunk_id: int, *rest: Any, **named: Any) -> None:
        """Gradients of what the stage did not differentiate are zeros: the one before waits for a tensor of each."""
        super().backward_one_chunk(bwd_chunk_id, *rest, **named)  # type: ignore[no-untyped-call]
        if self.is_first or bwd_chunk_id not in self.bwd_cache:
            return
        received = [cast(Tensor, info.buffer) for info in self.args_recv_info[bwd_chunk_id]]
        self.bwd_cache[bwd_chunk_id] = tuple(
            torch.zeros_like(buffer) if gradient is None else gradient.contiguous()
            for gradient, buffer in zip(self.bwd_cache[bwd_chunk_id], received, strict=True)
        )

    def perform_reduce_grad(self, grad_scale_factor: int) -> None:
        """FSDP's reduction, once an optimizer step: until then the gradients stay whole and nothing is sent."""
        if self.reduces:
            super().perform_reduce_grad(grad_scale_factor)  # type: ignore[no-untyped-call]

    def _post_metadata_inference_cleanup(self) -> None:
        """Nothing was inferred, and torch's would throw away the gradients that FSDP's parts have accumulated."""
