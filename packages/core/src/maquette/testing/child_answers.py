"""What processes that tests start tell the one that started them: a result, or the traceback of what went wrong."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


def answer(end: Connection, function: Callable[[], Any]) -> bool:
    """Call a function and send what came of it; whether it was a result. In the child."""
    good = True
    try:
        told = pickle.dumps((good, function()))  # plainly: multiprocessing's own way shares memory that dies with it
    except BaseException:
        good = False
        told = pickle.dumps((good, traceback.format_exc()))
    end.send_bytes(told)
    end.close()
    return good


def heard(end: Connection, who: str) -> Any:
    """The result that a child sent.

    Raises:
        AssertionError: it failed, with its traceback, or died.
    """
    try:
        good, value = pickle.loads(end.recv_bytes())
    except EOFError:
        raise AssertionError(f"{who} died") from None
    assert good, f"{who} failed:\n{value}"
    return value
