"""The process whose forks parse strangers' files: `python -m maquette_data3d.ingest.reading_child LEASH`.

It has loaded every parser and read nothing itself: a fork costs milliseconds, is confined before it opens the file,
and takes with it whatever the file has done to it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from maquette.errors import MaquetteError
from maquette_data3d.ingest.child_process import end_with_parent, follow_parent
from maquette_data3d.ingest.confinement import confine
from maquette_data3d.ingest.gltf import meshopt
from maquette_data3d.ingest.reading import READERS, ReadLimits, read
from maquette_data3d.ingest.scene_file import write_scene

SCENE, ERROR = "scene.safetensors", "error"


def _warm_up() -> None:
    """What a confined fork could no longer load, compile or keep."""
    import PIL.Image
    import trimesh  # noqa: F401

    PIL.Image.init()
    for module in sorted(set(READERS.values())):
        import_module(f"maquette_data3d.ingest.{module}")
    meshopt.warm_up()


def _parse(job: Mapping[str, Any]) -> None:
    """Reads one file, confined; leaves a scene or an error in the job's folder."""
    folder = Path(job["folder"])
    tempfile.tempdir = str(folder)
    try:
        end_with_parent()
        confine(folder, job["memory_mb"], job["seconds"], job["file_mb"])
        write_scene(read(Path(job["path"]), ReadLimits(**job["limits"])), folder / SCENE)
    except MaquetteError as error:
        (folder / ERROR).write_text(str(error), encoding="utf-8")
    except MemoryError:
        (folder / ERROR).write_text("memory: it needed more than a reader may have", encoding="utf-8")


def _let_go() -> None:
    """Of the pipes of jobs and answers: a file that takes a fork over must not answer for those after it."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.closerange(3, 1024)


def _forked(job: Mapping[str, Any]) -> int:
    """How the fork that read a file ended."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        _let_go()
        _parse(job)
        code = 0
    except BaseException:  # a fork must not go on as its parent
        traceback.print_exc()
    finally:
        os._exit(code)


def main() -> None:
    """Entry point: a line of JSON a job comes in, a line with the fork's exit code goes out."""
    follow_parent(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends us
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        _warm_up()
        for line in sys.stdin:
            print(_forked(json.loads(line)), file=answers, flush=True)


if __name__ == "__main__":
    main()
