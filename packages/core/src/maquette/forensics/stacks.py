"""Python stacks of a process that may hold the interpreter's lock or wait in a library: by a signal, from C."""

from __future__ import annotations

import faulthandler
import os
import re
import signal
import sys
from pathlib import Path

STACKS = getattr(signal, "SIGRTMIN", 34) + 5
"""The signal; SIGUSR1 and SIGUSR2 ask for profiles."""

FRAME = re.compile(r'^\s+File "(?P<file>[^"]+)", line (?P<line>\d+) in (?P<function>.+)$')
LIBRARIES = ("site-packages", f"{os.sep}lib{os.sep}python", "<frozen", "<string>")


def stacks_file(folder: Path, rank: int) -> Path:
    """Where a rank writes its stacks when it is asked to."""
    return folder / f"stacks.rank{rank}.txt"


def answer_with_stacks(folder: Path, rank: int) -> None:
    """From now on :data:`STACKS` makes this process write the stacks of all its threads."""
    # Never closed: the handler writes to its descriptor as long as the process lives.
    descriptor = os.open(stacks_file(folder, rank), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    faulthandler.register(STACKS, file=descriptor, all_threads=True, chain=False)


def ask_for_stacks(pid: int) -> None:
    """Only of a process that is known to answer: others would end."""
    os.kill(pid, STACKS)


def main_thread_frames(stacks: str) -> list[tuple[str, int, str]]:
    """(file, line, function) of the last answer's main thread, innermost first."""
    blocks = re.split(r"^(?=(?:Current thread|Thread) 0x)", stacks, flags=re.MULTILINE)
    # Threads come newest first, so that the main one is the last of an answer.
    last = blocks[-1] if len(blocks) > 1 else ""
    found = (FRAME.match(line) for line in last.splitlines())
    return [(match["file"], int(match["line"]), match["function"]) for match in found if match]


def telling_place(stacks: str) -> str:
    """Where the main thread is: its innermost frame, and the innermost one that is not a library's."""
    frames = main_thread_frames(stacks)
    if not frames:
        return ""
    own = next((frame for frame in frames if not any(part in frame[0] for part in LIBRARIES)), frames[0])
    told = [frames[0]] if own == frames[0] else [frames[0], own]
    return ", called from ".join(f"{function} ({_short(file)}:{line})" for file, line, function in told)


def _short(file: str) -> str:
    """A path without what every path of this installation begins with."""
    roots = sorted((path for path in sys.path if path and file.startswith(path + os.sep)), key=len)
    return file[len(roots[-1]) + 1 :] if roots else file
