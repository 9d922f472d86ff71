"""Runs checks in child processes, so that a kernel that reads or writes out of bounds fails one check and does
not end the process that asked.

Children are forks of a server that has torch and the operations loaded but has run nothing: a child costs
milliseconds, and no thread or lock of the asking process is in it.
"""

from __future__ import annotations

import multiprocessing
import signal
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from maquette import plugins

_PRELOADED = ["maquette_kernels.testing", "maquette_kernels.ops", "hypothesis.strategies"]


def in_child(function: Callable[..., Any], *arguments: Any, timeout: float = 900.0, **named: Any) -> Any:
    """What ``function(*arguments, **named)`` gives in a process of its own; all must be picklable.

    The child knows the plugins that are installed and the loose files that this process has loaded, and inherits
    the environment of the first call.

    Raises:
        AssertionError: the function raised (with its message), was killed by a signal, or took longer than
            ``timeout`` seconds.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    ours, theirs = context.Pipe(duplex=False)
    work = (function, arguments, named, plugins.loose_files())
    child = context.Process(target=_answer, args=(theirs, *work), daemon=True)
    child.start()
    theirs.close()
    try:
        if not ours.poll(timeout):
            raise AssertionError(f"{_name(function, arguments)}: no answer in {timeout:.0f} s")
        raised, answer = ours.recv()
    except EOFError:
        child.join()
        raise AssertionError(f"{_name(function, arguments)}: the process {_end(child.exitcode)}") from None
    finally:
        child.kill()
        child.join()
        ours.close()
    if raised:
        raise AssertionError(answer)
    return answer


def _answer(sending: Connection, function: Any, arguments: Any, named: Any, files: tuple[str, ...]) -> None:
    import torch

    torch.set_num_threads(1)
    try:
        plugins.load_files(files)
        sending.send((False, function(*arguments, **named)))
    except AssertionError as error:
        sending.send((True, str(error)))
    except BaseException:  # whatever it is, the asking process is to tell it
        sending.send((True, traceback.format_exc()))


def _name(function: Callable[..., Any], arguments: tuple[Any, ...]) -> str:
    return f"{function.__name__}({', '.join(map(repr, arguments))})"


def _end(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"was killed by {signal.Signals(-exit_code).name}"
    return f"ended with exit code {exit_code}"
