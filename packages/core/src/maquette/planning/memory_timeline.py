"""Follows every storage that torch's operators make and free, so that the memory of a step is known without a device.

Works on fake tensors as on real ones. What no operator shows is not seen: a kernel's own workspace, the allocator's
rounding and fragments, the CUDA context.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from maquette.planning.known_values import answer, carry

KEPT, GRADIENT, WORKING = "kept", "gradient", "working"


@dataclass(frozen=True)
class Moment:
    """Bytes that live at one moment beside what is kept: gradients, and all else (activations, temporaries)."""

    gradient: int
    working: int


class MemoryTimeline(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While entered, sorts storages into kept (weights, optimizer state), gradients and working memory.

    Attributes:
        live: bytes by kind, now.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = {KEPT: 0, GRADIENT: 0, WORKING: 0}
        self._kinds: dict[int, tuple[str, int]] = {}  # a storage's number -> (kind, bytes)
        self._numbers: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._count = 0
        self._moments: list[Moment] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return answer(args[0], func)
        result = func(*args, **(kwargs or {}))
        carry(func, args, kwargs or {}, result)
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.sort(leaf, WORKING, again=False)
        return result

    def sort(self, tensor: Tensor, kind: str, again: bool = True) -> None:
        """Count a tensor's storage as ``kind``; one that is known changes its kind only with ``again``."""
        try:
            storage = tensor.untyped_storage()
        except (NotImplementedError, RuntimeError):
            return  # sparse and wrapped tensors: their parts are seen on their own
        number = self._numbers.get(storage)
        if number is None:
            self._count += 1
            number = self._numbers[storage] = self._count
            weakref.finalize(storage, self._free, number)
        elif not again and self._kinds[number][1] == storage.nbytes():
            return
        old_kind, old_size = self._kinds.get(number, (kind, 0))
        kind = kind if again else old_kind  # a storage that grew in place keeps its kind
        self.live[old_kind] -= old_size
        self.live[kind] += storage.nbytes()
        self._kinds[number] = (kind, storage.nbytes())
        self._note()

    def keep(self, tensors: Iterable[Tensor]) -> None:
        """These are kept from step to step."""
        for tensor in tensors:
            self.sort(tensor, KEPT)

    def watch_gradients(self, model: nn.Module) -> None:
        """Count what becomes a parameter's ``.grad`` as gradient, from the moment it does."""

        def note(parameter: Tensor) -> None:
            if parameter.grad is not None:
                self.sort(parameter.grad, GRADIENT)

        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.register_post_accumulate_grad_hook(note)  # type: ignore[no-untyped-call]

    def forget(self) -> None:
        """Begin the list of moments anew."""
        self._moments = []

    def moments(self) -> list[Moment]:
        """Those moments since :meth:`forget` that no other surpasses in gradients and in working memory at once.

        The peak is at one of them, whatever the two are scaled by.
        """
        front: list[Moment] = []
        for moment in sorted(set(self._moments), key=lambda m: (-m.gradient, -m.working)):
            if not front or moment.working > front[-1].working:
                front.append(moment)
        return front

    def _note(self) -> None:
        gradient, working = self.live[GRADIENT], self.live[WORKING]
        last = self._moments[-1] if self._moments else None
        if last and last.gradient == gradient and last.working < working:
            self._moments.pop()
        if not last or last.gradient != gradient or last.working < working:
            self._moments.append(Moment(gradient, working))

    def _free(self, number: int) -> None:
        kind, size = self._kinds.pop(number)
        self.live[kind] -= size
