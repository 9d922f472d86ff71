"""A device that is not the CPU, on a machine that has no other: what is placed wrongly on a GPU fails on it too.

Its tensors hold CPU tensors, and every operation is the CPU's, so that results are the CPU's to rounding; but tensors
of the two cannot be mixed, nor read by numpy, as with a GPU.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any, NoReturn, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from maquette.inference_device import VARIABLE
from maquette.testing.child_answers import answer, heard

Result = TypeVar("Result")
NAME = "standin"
MAY_MIX = {  # as with CUDA: copies between the two, and indices that are on the CPU
    torch.ops.aten._to_copy.default,
    torch.ops.aten.copy_.default,
    torch.ops.aten.index.Tensor,
    torch.ops.aten.index_put_.default,
    torch.ops.aten._index_put_impl_.default,
}
MOVES = {torch.ops.aten.to}  # which are made of others, and end in a copy


class There(Tensor):
    """A tensor on the stand-in; `held` has its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> There:
        layout: dict[str, Any] = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        layout |= {"layout": held.layout, "device": torch.device(NAME, 0)}
        return Tensor._make_wrapper_subclass(cls, held.shape, dtype=held.dtype, **layout)  # type: ignore[return-value]

    def __init__(self, held: Tensor) -> None:
        self.held = held

    def __repr__(self) -> str:  # type: ignore[override]
        return f"There({self.held})"

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(inner: dict[str, Tensor], _: None, size: Any, stride: Any) -> There:
        return There(inner["held"])

    def tolist(self) -> Any:
        return self.held.tolist()

    def numpy(self, *, force: bool = False) -> NoReturn:
        raise TypeError(f"can't convert a tensor on {NAME} to numpy")

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return computed(function, args, kwargs or {})


class _Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Makes new tensors on the stand-in where they are asked for there."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(function, args, kwargs or {})


def computed(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """An operation by the CPU; its results are on the stand-in where its tensors are, or where it is told so."""
    leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = [leaf for leaf in leaves if isinstance(leaf, There)]
    if function.overloadpacket in MOVES or not there:
        with _Mode():  # type: ignore[no-untyped-call]
            found = function.decompose(*args, **kwargs)
        if found is not NotImplemented:
            return found
    if there and any(leaf.ndim for leaf in leaves if not isinstance(leaf, There)) and function not in MAY_MIX:
        raise RuntimeError(f"{function}: tensors on two devices, cpu and {NAME}")
    _done[0] += function not in MAY_MIX
    if kwargs.get("device") is not None:
        stays = torch.device(kwargs["device"]).type == NAME
        kwargs = {**kwargs, "device": torch.device("cpu")}
    elif function is torch.ops.aten.copy_.default:
        stays = isinstance(args[0], There)
    else:
        stays = bool(there)
    known = {id(leaf.held): leaf for leaf in there}  # what is changed in place stays the same tensor
    args, kwargs = tree_map(lambda leaf: leaf.held if isinstance(leaf, There) else leaf, (args, kwargs))
    with torch.inference_mode(False), torch.no_grad():
        found = function(*args, **kwargs)
        return tree_map(lambda leaf: _there(leaf, known), found) if stays else found


def _there(leaf: Any, known: dict[int, There]) -> Any:
    if not isinstance(leaf, Tensor):
        return leaf
    return known[id(leaf)] if id(leaf) in known else There(leaf)


_done = [0]


def on_stand_in_device(function: Callable[[], Result], patience: float = 300.0) -> tuple[Result, int]:
    """What a function gives where runs are opened on the stand-in, and how many operations had their tensors there.

    It is called in a fork of this process: torch cannot forget a device, and looks for one everywhere once it has it.

    Args:
        function: its result must be picklable; tensors as they are on the CPU.
        patience: seconds until the fork is killed.

    Raises:
        AssertionError: it failed, with its traceback, or the time was up.
    """
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_forked, args=(send, function), daemon=True)
    process.start()
    send.close()
    try:
        assert receive.poll(patience), f"the stand-in gave no answer within {patience:g} s"
        result: tuple[Result, int] = heard(receive, "the process of the stand-in")
        return result
    finally:
        process.kill()
        process.join()


def _forked(send: Connection, function: Callable[[], Any]) -> None:
    torch.set_num_threads(1)  # the threads of the process before are not here

    def called() -> tuple[Any, int]:
        with stand_in_device():
            return function(), _done[0]

    answer(send, called)


@contextmanager
def stand_in_device() -> Iterator[torch.device]:
    """The device, which runs are opened on while the block lasts; this process knows of it ever after."""
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(NAME)
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device=) then shows its copy to the device
    with opened_on(NAME), _Mode():  # type: ignore[no-untyped-call]
        yield torch.device(NAME)


@contextmanager
def opened_on(name: str) -> Iterator[None]:
    """Runs are opened on a device while the block lasts."""
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = name
    try:
        yield
    finally:
        del os.environ[VARIABLE]
        if before is not None:
            os.environ[VARIABLE] = before
