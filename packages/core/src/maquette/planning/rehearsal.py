"""One process's training step, played through on fake tensors: what it keeps, what it needs, what it computes.

The real model, objective and optimizer run; only the numbers are missing. The model is whole and has this process's
samples; how a layout splits it is worked out from that (see :mod:`maquette.planning.shares`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.hooks import RemovableHandle

from maquette.errors import MaquetteError
from maquette.planning.memory_timeline import GRADIENT, WORKING, MemoryTimeline, Moment

MakeOptimizer = Callable[[nn.Module], torch.optim.Optimizer]


@dataclass(frozen=True)
class Weight:
    """One parameter: its name, shape and bytes, and in which of ``blocks()`` it is (None: in none)."""

    name: str
    shape: tuple[int, ...]
    bytes: int
    block: int | None

    @property
    def numel(self) -> int:
        """How many numbers."""
        count = 1
        for size in self.shape:
            count *= size
        return count


@dataclass(frozen=True)
class Product:
    """What one linear layer multiplies: ``rows`` x ``inner`` by ``inner`` x ``columns``."""

    name: str
    rows: int
    inner: int
    columns: int


@dataclass(frozen=True)
class Rehearsal:
    """What was seen.

    Attributes:
        weights: all parameters of the whole model.
        buffers: bytes of the buffers.
        slots: optimizer state, bytes, by parameter's name.
        activations: bytes that wait for the backward pass when the forward pass ends.
        gradients: bytes of all gradients, as the backward pass leaves them.
        moments: gradients and working memory at the moments that can be the peak; see ``MemoryTimeline.moments``.
        flops: multiply-adds x 2 of one forward pass: the model's own count, where it has ``flops(batch)``.
        products: of the linear layers, in the order of their calls.
        stream: bytes of what passes between two blocks; 0 where the model has no ``blocks()``.
        block_attention: bytes of one block's queries, keys and values, by the model's ``attentions()``.
    """

    weights: list[Weight]
    buffers: int
    slots: dict[str, int]
    activations: int
    gradients: int
    moments: list[Moment]
    flops: int
    products: list[Product]
    stream: int
    block_attention: int


@dataclass
class Script:
    """What to play.

    Args:
        build: makes the model.
        objective: ``objective(model, batch)``.
        batch: makes one process's batch; called with fake tensors on.
        optimizer: makes the optimizer of a model.
        precision: fp32, bf16 or fp8 (played as bf16).
        storage: as what weights are kept: fp32 or bf16.
        casts_weights: the strategy hands modules weights in the precision of the arithmetic (FSDP's mixed precision)
            instead of leaving casts to autocast.
        fused_attention: attention keeps no scores, as on GPUs.
        prepare: changes the model before it runs, e.g. wraps blocks in activation checkpointing.
    """

    build: Callable[[], nn.Module]
    objective: Callable[..., dict[str, Tensor]]
    batch: Callable[[], Mapping[str, Any]]
    optimizer: MakeOptimizer
    precision: str = "fp32"
    storage: str = "fp32"
    casts_weights: bool = False
    fused_attention: bool = False
    prepare: Callable[[nn.Module], Any] | None = None


def rehearse(script: Script) -> Rehearsal:
    """Play a step of an optimizer that has its state already.

    Raises:
        MaquetteError: the model or the objective does something that fake tensors cannot.
    """
    timeline = MemoryTimeline()
    try:
        with FakeTensorMode(allow_non_fake_inputs=True), timeline:
            model = script.build().train()
            return _play(script, model, timeline)
    except MaquetteError:
        raise
    except Exception as error:
        first = str(error).strip().split("\n")[0]
        raise MaquetteError(
            f"plan: the step cannot be played without a device ({type(error).__name__}: {first}); "
            "plan needs a model and an objective whose shapes do not depend on values"
        ) from error


def _play(script: Script, model: Any, timeline: MemoryTimeline) -> Rehearsal:
    blocks = list(model.blocks()) if hasattr(model, "blocks") else []
    timeline.keep(model.parameters())  # also those that a cast leaves to the garbage collector
    if script.storage == "bf16":
        _cast(model)
    weights = _weights(model, blocks)  # before wrappers lengthen the names
    optimizer = script.optimizer(model)
    slots = _slots(model, optimizer)
    if script.casts_weights and script.precision != "fp32":
        _cast(model)  # what a module sees; the optimizer keeps to what is stored
    if script.prepare:
        script.prepare(model)
    timeline.keep(model.parameters())
    timeline.keep(model.buffers())
    timeline.keep(_state(optimizer))
    timeline.watch_gradients(model)
    batch = script.batch()
    with _Listener(model, blocks) as heard, _attention(model, script.fused_attention):
        with FlopCounterMode(display=False) as counter:
            _forward(script, model, batch)
        heard.stop()
        timeline.forget()
        loss = _forward(script, model, batch)
        activations = timeline.live[WORKING]
        loss.backward()  # type: ignore[no-untyped-call]
        gradient_bytes = timeline.live[GRADIENT]
        if not script.casts_weights:
            optimizer.step()
    return Rehearsal(
        weights=weights,
        buffers=sum(buffer.untyped_storage().nbytes() for buffer in model.buffers()),
        slots=slots,
        activations=activations,
        gradients=gradient_bytes,
        moments=timeline.moments(),
        flops=model.flops(batch) if hasattr(model, "flops") else counter.get_total_flops(),
        products=heard.products,
        stream=heard.stream,
        block_attention=heard.attention,
    )


def _cast(model: nn.Module) -> None:
    """Parameters as bf16, new ones: ``Module.to`` would swap fake tensors, which others hold."""
    made: dict[Tensor, nn.Parameter] = {}  # tied weights stay tied
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is not None and parameter.is_floating_point():
                if parameter not in made:
                    made[parameter] = nn.Parameter(parameter.detach().to(torch.bfloat16), parameter.requires_grad)
                setattr(module, name, made[parameter])


def _forward(script: Script, model: nn.Module, batch: Mapping[str, Any]) -> Tensor:
    casts = script.precision != "fp32" and not script.casts_weights
    context: AbstractContextManager[Any] = torch.autocast("cpu", torch.bfloat16) if casts else nullcontext()
    with context:
        return script.objective(model, batch)["loss"]


def _weights(model: nn.Module, blocks: list[nn.Module]) -> list[Weight]:
    place = {id(p): number for number, block in enumerate(blocks) for p in block.parameters()}
    return [
        Weight(name, tuple(p.shape), p.numel() * p.element_size(), place.get(id(p)))
        for name, p in model.named_parameters()
    ]


def _state(optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    for slots in optimizer.state.values():
        yield from (value for value in slots.values() if isinstance(value, Tensor))


def _slots(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, int]:
    """Step once with gradients of nothing, so that the optimizer makes its state; bytes by parameter."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return {
        name: sum(v.untyped_storage().nbytes() for v in optimizer.state[p].values() if isinstance(v, Tensor))
        for name, p in model.named_parameters()
        if p in optimizer.state
    }


def plain_name(name: str) -> str:
    """A parameter's name without what compiling and checkpointing put into it."""
    return name.replace("_orig_mod.", "").replace("_checkpoint_wrapped_module.", "")


class _Listener:
    """Notes the shapes of linear layers' products, of the stream between blocks and of attention's inputs."""

    def __init__(self, model: Any, blocks: list[nn.Module]) -> None:
        self.model, self.blocks = model, blocks
        self.products: list[Product] = []
        self.stream = self.attention = 0
        self._hooks: list[RemovableHandle] = []

    def __enter__(self) -> _Listener:
        for name, module in self.model.named_modules():
            if isinstance(module, nn.Linear):
                self._hooks.append(module.register_forward_hook(self._product(plain_name(name))))
        if self.blocks:
            self._hooks.append(self.blocks[-1].register_forward_hook(self._stream))
        cores = self.model.attentions() if hasattr(self.model, "attentions") else []
        if cores:
            self._hooks.append(cores[0].register_forward_pre_hook(self._attention))
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _product(self, name: str) -> Callable[..., None]:
        def note(module: nn.Module, inputs: tuple[Any, ...], _output: Any) -> None:
            assert isinstance(module, nn.Linear)
            rows = inputs[0].numel() // module.in_features
            self.products.append(Product(name, rows, module.in_features, module.out_features))

        return note

    def _stream(self, _module: nn.Module, _inputs: Any, output: Any) -> None:
        first = output[0] if isinstance(output, tuple) else output
        self.stream = first.numel() * first.element_size() if isinstance(first, Tensor) else 0

    def _attention(self, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self.attention = sum(x.numel() * x.element_size() for x in inputs if isinstance(x, Tensor))


@contextmanager
def _attention(model: Any, fused: bool) -> Iterator[None]:
    """Inside, the cores of self-attention run as one fused operator, which keeps no scores for backward."""
    cores = model.attentions() if fused and hasattr(model, "attentions") else []
    for core in cores:
        core.forward = _fused
    try:
        yield
    finally:
        for core in cores:
            del core.forward


def _fused(q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k.to(q.dtype), v.to(q.dtype)).transpose(1, 2)
