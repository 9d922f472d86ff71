"""Trains a run that is killed again and again: python killed_runs.py FOLDER WORLD KILLS SEED WORD ...

A program of its own, because it forks: torch is imported once and its threads have not started yet. Prints one JSON
object: how many attempts there were, and how many kills found a checkpoint being written.
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sys
import time
import traceback
from pathlib import Path

from maquette.config import load_run_config
from maquette.runner import ensure_trained

PATIENCE = 60.0


def main(folder: Path, world: int, kills: int, seed: int, words: list[str]) -> None:
    rng, saving, attempts = random.Random(seed), 0, 0
    steps = int(next(word for word in words if word.startswith("train.steps=")).partition("=")[2])
    for number in range(kills):
        ranks = start(folder, world, words)
        attempts += 1
        target = round(steps * (number + rng.random()) / (kills + 1))
        saving += kill(ranks, folder, target, rng)
    code = 1
    for _ in range(3):  # a kill leaves a free port to others, so a start may fail
        attempts += 1
        code = max(wait(pid) for pid in start(folder, world, words))
        if code == 0:
            break
    sys.stdout.write(json.dumps({"attempts": attempts, "while_saving": saving, "exit_code": code}) + "\n")


def start(folder: Path, world: int, words: list[str]) -> list[int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return [_fork(folder, rank, world, port, words) for rank in range(world)]


def _fork(folder: Path, rank: int, world: int, port: int, words: list[str]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        if world > 1:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
            os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_WORLD_SIZE": str(world)}
        ensure_trained(load_run_config(None, [*words, f"folder={folder}"]))
        code = 0
    except BaseException:
        with folder.with_suffix(".log").open("a") as log:
            log.write(f"rank {rank}:\n{traceback.format_exc()}\n")
    finally:
        os._exit(code)


def kill(ranks: list[int], folder: Path, target: int, rng: random.Random) -> bool:
    """Kill one rank, or all, some time after step ``target`` was saved; says whether a checkpoint was under way."""
    checkpoints = folder / "checkpoints"
    began = time.monotonic()
    while newest(checkpoints) < target and alive(ranks) and time.monotonic() < began + PATIENCE:
        time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.03))
    if rng.random() < 0.5:
        while not unfinished(checkpoints) and alive(ranks) and time.monotonic() < began + PATIENCE:
            time.sleep(0.0002)
        time.sleep(rng.uniform(0, 0.004))
    first = rng.randrange(len(ranks))
    os.kill(ranks[first], signal.SIGKILL)
    found = unfinished(checkpoints)
    if rng.random() < 0.5:  # the others notice by themselves, or are lost with the same machine
        until = time.monotonic() + 3
        while alive(ranks) and time.monotonic() < until:
            time.sleep(0.01)
    for pid in ranks:
        if not _gone(pid):
            os.kill(pid, signal.SIGKILL)
    for pid in ranks:
        wait(pid)
    return found


def newest(checkpoints: Path) -> int:
    return max((int(path.name.removeprefix("step_")) for path in checkpoints.glob("step_*")), default=0)


def unfinished(checkpoints: Path) -> bool:
    """Whether a folder is there that is no checkpoint yet."""
    if not checkpoints.is_dir():
        return False
    with os.scandir(checkpoints) as entries:
        return any(not entry.name.startswith(("step_", "damaged_")) and entry.is_dir() for entry in entries)


_codes: dict[int, int] = {}


def _gone(pid: int) -> bool:
    if pid not in _codes:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            _codes[pid] = os.waitstatus_to_exitcode(status)
    return pid in _codes


def alive(ranks: list[int]) -> bool:
    return any(not _gone(pid) for pid in ranks)


def wait(pid: int) -> int:
    while not _gone(pid):
        time.sleep(0.005)
    return abs(_codes[pid])


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5:])
