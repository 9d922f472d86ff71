"""What ``train.precision`` and the words beside it mean, in one frozen value that strategies and engine read."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy

from maquette.errors import MaquetteError

if TYPE_CHECKING:
    from maquette.config import TrainConfig

WORDS = ("fp32", "bf16", "fp8")
STORAGE = {"fp32": torch.float32, "bf16": torch.bfloat16}
RECIPES = ("rowwise", "rowwise_with_gw_hp")
CHECKPOINTING = ("none", "full", "selective", "budget")
FP8_MIN_WIDTH = 1536
"""Below it quantising costs more than the faster product saves; see docs/precision.md."""


@dataclass(frozen=True)
class Precision:
    """How a run stores parameters, computes, compiles and keeps activations.

    Args:
        word: ``fp32``; ``bf16``: matrix products in bfloat16, norms, softmax and losses in float32; ``fp8``: as bf16,
            and the large linear layers of the blocks multiply in 8-bit floats.
        parameters: how parameters are stored, ``fp32`` or ``bf16`` (half the memory; the optimizer must round
            stochastically, or small updates are lost).
        recipe: of fp8: ``rowwise``, or ``rowwise_with_gw_hp``, whose gradient of the weight is a bf16 product.
        min_width: the least width, in and out, of a linear layer that fp8 replaces.
        compile: whether each block is compiled, with ``backend`` of torch.compile.
        checkpointing: which activations are recomputed: ``none``, ``full``, ``selective`` or ``budget``.
        memory_budget: of ``budget``: the share of a block's activations to keep, in [0, 1].

    Raises:
        MaquetteError: an unknown word, or words that contradict each other.
    """

    word: str = "fp32"
    parameters: str = "fp32"
    recipe: str = "rowwise"
    min_width: int = FP8_MIN_WIDTH
    compile: bool = False
    backend: str = "inductor"
    checkpointing: str = "none"
    memory_budget: float = 0.5

    def __post_init__(self) -> None:
        _known("train.precision", self.word, WORDS)
        _known("train.parameters", self.parameters, tuple(STORAGE))
        _known("train.fp8_recipe", self.recipe, RECIPES)
        _known("train.activation_checkpointing", self.checkpointing, CHECKPOINTING)
        if self.parameters == "bf16" and self.word == "fp32":
            raise MaquetteError("train.parameters=bf16 cannot compute in fp32; use train.precision=bf16 or fp8")
        if self.checkpointing == "budget" and not self.compile:
            raise MaquetteError("train.activation_checkpointing=budget is the compiler's; add train.compile=true")
        if not 0 <= self.memory_budget <= 1:
            raise MaquetteError(f"train.memory_budget is {self.memory_budget}; it must be in [0, 1]")

    @classmethod
    def of(cls, train: TrainConfig | Any) -> Precision:
        """From the ``train`` block of a run's configuration."""
        return cls(
            word=train.precision,
            parameters=train.parameters,
            recipe=train.fp8_recipe,
            min_width=train.fp8_min_width,
            compile=train.compile,
            backend=train.compile_backend,
            checkpointing=train.activation_checkpointing,
            memory_budget=train.memory_budget,
        )

    @property
    def fp8(self) -> bool:
        """Whether linear layers are swapped for 8-bit ones."""
        return self.word == "fp8"

    @property
    def compute(self) -> torch.dtype:
        """The dtype of matrix products that are not fp8."""
        return torch.float32 if self.word == "fp32" else torch.bfloat16

    @property
    def storage(self) -> torch.dtype:
        """The dtype that parameters are kept in."""
        return STORAGE[self.parameters]

    def policy(self) -> MixedPrecisionPolicy:
        """For FSDP2's ``fully_shard``: gather parameters in the compute dtype, reduce gradients in float32.

        Inputs are not cast: times, positions and targets stay float32, and models cast where a layer meets its input.
        """
        gathered = None if self.compute == self.storage else self.compute
        return MixedPrecisionPolicy(param_dtype=gathered, reduce_dtype=torch.float32, cast_forward_inputs=False)

    def context(self, device: torch.device | str, *, sharded: bool = False) -> AbstractContextManager[Any]:
        """What a forward pass runs in: autocast, or nothing in fp32 and where FSDP2 casts the parameters.

        Args:
            device: that computes.
            sharded: whether the parameters are under FSDP2 with :meth:`policy`.
        """
        if sharded or self.compute == torch.float32:
            return nullcontext()
        return torch.autocast(torch.device(device).type, self.compute)

    def store(self, model: nn.Module) -> None:
        """Bring the parameters to their storage dtype, in place; buffers (positions, tables) keep theirs."""
        for module in model.modules():
            for name, parameter in module.named_parameters(recurse=False):
                if parameter.is_floating_point() and parameter.dtype != self.storage:
                    stored = nn.Parameter(parameter.detach().to(self.storage), parameter.requires_grad)
                    setattr(module, name, stored)


def _known(key: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise MaquetteError(f"'{key}' is '{value}'; known: {', '.join(known)}")
