"""Child processes of ours: how they are started, ended with their parent, and kept from taking all memory."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

from maquette.secrets import names_secret

_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


def started(module: str, complaints: IO[bytes] | int) -> tuple[subprocess.Popen[bytes], int]:
    """``python -m module LEASH`` with pipes to talk over, and the end of the leash to close when it is to go.

    It has one thread a library, since there are several such processes, and none of the environment's secrets.

    Args:
        complaints: where its standard error goes.
    """
    environment = {name: value for name, value in os.environ.items() if not names_secret(name)}
    environment["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "IGL_NUM_THREADS", "NUMBA_NUM_THREADS")
    environment.update(dict.fromkeys(threads, "1"))
    held, leash = os.pipe()
    command = [sys.executable, "-m", module, str(held)]
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env=environment,
            pass_fds=(held,),
        )
    except BaseException:
        os.close(leash)
        raise
    finally:
        os.close(held)
    return process, leash


def follow_parent(leash: int) -> None:
    """Has the system end this process when its parent ends, whatever it is doing.

    Nothing is ever written to the leash. When the parent goes, its end closes, and the system sends SIGIO, which
    ends a process that does not handle it. (A signal at the death of the parent would come at that of its thread.)

    Args:
        leash: the reading end of a pipe.
    """
    try:
        import fcntl

        fcntl.fcntl(leash, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(leash, fcntl.F_SETFL, fcntl.fcntl(leash, fcntl.F_GETFL) | os.O_ASYNC)
    except (ImportError, AttributeError, OSError):
        return  # no such thing here: the closed pipe of jobs ends this process, a file later


def end_with_parent() -> None:
    """Has the system kill this process when the one that forked or started it ends (prctl(2), Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)


def limit_memory(megabytes: int) -> None:
    """Caps what this process may still allocate, where the system can."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * os.sysconf("SC_PAGE_SIZE") + megabytes * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, OSError, ValueError):
        return
