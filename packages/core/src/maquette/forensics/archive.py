"""One archive of what somebody else needs to find out what happened to a run, without secrets and without weights.

Only files that are known to help are taken, by name and as text; links are not followed. Each text is taken apart where
its format is known, so that a secret is found by its key, and searched for what looks like one in any case.
"""

from __future__ import annotations

import io
import json
import os
import re
import stat
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from maquette.durable import whole_file
from maquette.environment import describe_environment
from maquette.errors import MaquetteError
from maquette.forensics.incidents import tail
from maquette.runs import RunFolder
from maquette.secrets import scrubbed, scrubbed_tree

TAKEN = re.compile(
    r"config\.yaml|environment\.json|result\.json"
    r"|logs/ranks/.*\.(log|json)|logs/csv/[^/]+/metrics\.csv"
    r"|(events|monitor)/[^/]+\.jsonl|incidents/[^/]+/[^/]+\.(txt|json)|checkpoints/[^/]+/[^/]+\.json"
)
"""Of the run's folder."""

KEPT_BYTES = 2**20
"""Of each file: its end."""

VARIABLES = re.compile(
    r"(TORCH|PYTORCH|NCCL|GLOO|CUDA|NVIDIA|OMP|MKL|KMP|TRITON|MAQUETTE)_\w+"
    r"|SLURM_(JOB_ID|JOB_NUM_NODES|NNODES|NTASKS|PROCID|NODEID|RESTART_COUNT)"
    r"|RANK|LOCAL_RANK|WORLD_SIZE|LANG|LC_ALL|TZ|PYTHON(UNBUFFERED|FAULTHANDLER|HASHSEED|OPTIMIZE)"
)
"""The environment variables that are written down; no others."""

HOMES = re.compile(
    r"(?<![\w.-])(?:/home|/Users)/[^/\s\"':;,)\]}]+|(?<![\w.-])/root(?![\w.-])|[A-Z]:\\+Users\\+[^\\\s\"']+"
)
DOCTOR_SECONDS = 120.0


@dataclass(frozen=True)
class Piece:
    """One file of the archive; ``whole`` says whether its beginning is there."""

    name: str
    text: str
    whole: bool = True


def collect(run: Path, target: Path, doctor: bool = True) -> list[str]:
    """Write the archive of a run.

    Args:
        run: the run's folder; it may be running, finished or broken.
        target: a ``.tar.gz`` file, made anew.
        doctor: also have ``maquette doctor`` look at this machine.

    Returns:
        The names in the archive.

    Raises:
        MaquetteError: this is not a run's folder.
    """
    if not run.is_dir() or not (RunFolder(run).config_file.is_file() or (run / "incidents").is_dir()):
        raise MaquetteError(f"'{run}' is not a run: it has no config.yaml; give the folder of a training run")
    pieces = [*_files(run), *_described(run)]
    if doctor:
        pieces.append(Piece("doctor.json", _doctor(run)))
    root = anonymous(run.resolve().name) or "run"
    contents = [{"name": piece.name, "bytes": len(piece.text.encode()), "whole": piece.whole} for piece in pieces]
    pieces.append(Piece("contents.json", json.dumps(contents, indent=2) + "\n"))
    with whole_file(target) as temporary, tarfile.open(temporary, "w:gz") as archive:
        for piece in pieces:
            _add(archive, f"{root}/{piece.name}", piece.text)
    target.chmod(0o600)
    return [piece.name for piece in pieces]


def anonymous(text: str) -> str:
    """The text without secrets and without the names of home folders."""
    home = str(Path.home())
    if len(home) > 1:
        text = re.sub(rf"(?<![\w.-]){re.escape(home)}(?![\w.-])", "~", text)
    return scrubbed(HOMES.sub("~", text))


def _files(run: Path) -> Iterator[Piece]:
    for path, size in _walk(run):
        name = path.relative_to(run).as_posix()
        if TAKEN.fullmatch(name):
            yield Piece(anonymous(name), _cleaned(path.suffix, tail(path, KEPT_BYTES)), size <= KEPT_BYTES)


def _walk(run: Path) -> Iterator[tuple[Path, int]]:
    """All files of the run with their sizes; links are not followed, and what goes meanwhile is passed over."""
    for folder, folders, names in os.walk(run):
        folders.sort()
        for name in sorted(names):
            path = Path(folder) / name
            with suppress(OSError):
                status = path.lstat()
                if stat.S_ISREG(status.st_mode):
                    yield path, status.st_size


def _cleaned(suffix: str, text: str) -> str:
    take_apart: dict[str, Callable[[str], str]] = {".json": _json, ".jsonl": _json_lines, ".yaml": _yaml}
    try:
        return anonymous(take_apart.get(suffix, str)(text))
    except Exception:  # parsers raise families of their own for what is cut off or torn: it is searched as text
        return anonymous(text)


def _json(text: str) -> str:
    return json.dumps(scrubbed_tree(json.loads(text)), indent=2, ensure_ascii=False) + "\n"


def _json_lines(text: str) -> str:
    return "".join(_json_line(line) + "\n" for line in text.splitlines())


def _json_line(line: str) -> str:
    try:
        return json.dumps(scrubbed_tree(json.loads(line)), ensure_ascii=False)
    except (ValueError, RecursionError):
        return line


def _yaml(text: str) -> str:
    return OmegaConf.to_yaml(OmegaConf.create(scrubbed_tree(OmegaConf.to_container(OmegaConf.create(text)))))


def _described(run: Path) -> Iterator[Piece]:
    """What this machine and this installation are, as plain data."""
    packages = {found.metadata["Name"]: found.version for found in metadata.distributions() if found.metadata["Name"]}
    variables = {name: value for name, value in sorted(os.environ.items()) if VARIABLES.fullmatch(name)}
    collected: dict[str, Any] = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **{key: value for key, value in describe_environment(0).items() if key in ("python", "plugins", "machine")},
        "installed": dict(sorted(packages.items(), key=lambda item: item[0].lower())),
        "variables": variables,
    }
    yield Piece("collected.json", _cleaned(".json", json.dumps(collected)))
    yield Piece("files.txt", anonymous("".join(f"{line}\n" for line in _listing(run))))


def _listing(run: Path) -> Iterator[str]:
    """All files of the run by name and size, weights too: without their content."""
    for path, size in _walk(run):
        yield f"{size:>14,}  {path.relative_to(run).as_posix()}"


def _doctor(run: Path) -> str:
    command = [sys.executable, "-m", "maquette.cli", "doctor", "--quick", "--json", str(run.resolve())]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOCTOR_SECONDS, check=False)
    except (subprocess.TimeoutExpired, OSError) as error:
        return json.dumps({"error": type(error).__name__}) + "\n"
    return _cleaned(".json", done.stdout or json.dumps({"error": done.stderr[-2000:]}))


def _add(archive: tarfile.TarFile, name: str, text: str) -> None:
    content = text.encode()
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = len(content), int(time.time()), 0o600
    archive.addfile(entry, io.BytesIO(content))
