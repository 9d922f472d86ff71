"""What a process that parses a stranger's file may still do: little, even if the file has taken it over.

Beside limits of memory, time and file size: no sockets and no looking into other processes (seccomp(2)), and no writing
outside one folder nor signals to others (landlock(7)). The last two need no rights, and are left out where the
system has none of them; see :func:`confine`.
"""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from pathlib import Path

from maquette_data3d.ingest.child_process import limit_memory

_NO_NEW_PRIVILEGES, _SET_SECCOMP, _FILTER = 38, 22, 2
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
# The rights of landlock that change files, by the version that brought them.
_WRITES = {1: sum(1 << bit for bit in (1, 4, 5, 6, 7, 8, 9, 10, 11, 12)), 2: 1 << 13, 3: 1 << 14}
_WRITE_FILE, _TRUNCATE = 1 << 1, 1 << 14
_TCP, _SCOPES = 3, 3  # bind and connect; abstract sockets and signals
_MACHINES = {
    # socket, connect, ptrace, process_vm_readv, process_vm_writev, bpf, keyctl, mount, perf_event_open, userfaultfd,
    # io_uring_setup, unshare, setns, pidfd_getfd
    "x86_64": (0xC000003E, (41, 42, 101, 310, 311, 321, 250, 165, 298, 323, 425, 272, 308, 438)),
    "aarch64": (0xC00000B7, (198, 203, 117, 270, 271, 280, 219, 40, 241, 282, 425, 97, 268, 438)),
}
_X32 = 0x40000000  # x86-64's other numbers of the same calls
_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050001, 0x80000000


def confine(folder: Path, memory_mb: int, seconds: int, file_mb: int) -> set[str]:
    """Confines this process and all that it starts, for good.

    Args:
        folder: the only one that may be written to.
        memory_mb: that it may allocate beyond what it has.
        seconds: of the processor; then the system ends it.
        file_mb: of a file that it writes.

    Returns:
        Which of "limits", "files" and "calls" this system could give.
    """
    given = {"limits"} if _limit(memory_mb, seconds, file_mb) else set()
    if sys.platform == "linux" and ctypes.CDLL(None).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0:
        given |= {"files"} if _only_writes_to(folder) else set()
        given |= {"calls"} if _no_sockets() else set()
    return given


def _limit(memory_mb: int, seconds: int, file_mb: int) -> bool:
    try:
        import resource
    except ImportError:
        return False
    limit_memory(memory_mb)
    # A second apart: the first is a signal that says why, the second ends those that do not hear it.
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file_mb * 2**20, file_mb * 2**20))
    return True


def _only_writes_to(folder: Path) -> bool:
    system = ctypes.CDLL(None).syscall
    version = system(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return False
    writes = sum(bits for since, bits in _WRITES.items() if since <= version)
    words = [writes, *([_TCP] if version >= 4 else []), *([_SCOPES] if version >= 6 else [])]
    rules = struct.pack(f"{len(words)}Q", *words)
    descriptor = system(_CREATE_RULESET, rules, ctypes.c_size_t(len(rules)), 0)
    if descriptor < 0:
        return False
    try:
        for path, rights in ((folder, writes), (Path(os.devnull), writes & (_WRITE_FILE | _TRUNCATE))):
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                if system(_ADD_RULE, descriptor, 1, struct.pack("=Qi", rights, place), 0) != 0:
                    return False
            finally:
                os.close(place)
        return bool(system(_RESTRICT_SELF, descriptor, 0) == 0)
    finally:
        os.close(descriptor)


def _no_sockets() -> bool:
    """A filter in the kernel's own small language (BPF): those calls fail with EPERM, all others pass."""
    if platform.machine() not in _MACHINES:
        return False
    machine, calls = _MACHINES[platform.machine()]
    steps = [(_LOAD, 0, 0, 4), (_EQUAL, 1, 0, machine), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, 0)]
    refuse = len(calls) + 1
    steps.append((_AT_LEAST, refuse, 0, _X32))
    steps += [(_EQUAL, refuse - 1 - place, 0, call) for place, call in enumerate(calls)]
    steps += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = ctypes.create_string_buffer(struct.pack("HP", len(steps), ctypes.addressof(code)))
    return bool(ctypes.CDLL(None).prctl(_SET_SECCOMP, _FILTER, program, 0, 0) == 0)
