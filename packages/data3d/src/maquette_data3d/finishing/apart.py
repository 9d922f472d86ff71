"""Libraries that end their process when a mesh does not suit them, called in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from maquette.errors import MaquetteError

_SECONDS = 600.0


def run_apart(task: str, vertices: np.ndarray, faces: np.ndarray, options: Mapping[str, Any]) -> list[np.ndarray]:
    """The arrays that a task of this file gives for a mesh.

    Args:
        task: "field_aligned" or "convex_pieces".
        vertices: float [V, 3]; faces: int [F, 3]; options: plain data.

    Raises:
        MaquetteError: the library failed or took over ten minutes.
    """
    with tempfile.TemporaryDirectory(prefix="maquette-") as folder:
        given, out = Path(folder) / "given.npz", Path(folder) / "out.npz"
        np.savez(given, vertices=vertices, faces=faces)
        command = [sys.executable, "-m", __name__, task, str(given), str(out), json.dumps(dict(options))]
        try:
            ended = subprocess.run(command, timeout=_SECONDS, capture_output=True, check=False, cwd=folder)
        except subprocess.TimeoutExpired as error:
            raise MaquetteError(f"{task} had not ended after {_SECONDS:.0f} s: decimate first") from error
        if not out.is_file():
            last = ended.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["without a word"]
            raise MaquetteError(f"{task} failed (code {ended.returncode}): {last[0][:200]}")
        with np.load(out, allow_pickle=False) as arrays:
            return [arrays[name] for name in sorted(arrays.files, key=lambda name: int(name.split("_")[1]))]


def field_aligned(vertices: np.ndarray, faces: np.ndarray, options: Mapping[str, Any]) -> list[np.ndarray]:
    """Vertices and triangles along a smooth field of directions; the two of a quad follow each other.

    Source: Jakob et al. 2015, Instant Field-Aligned Meshes.
    """
    import pyinstantmeshes

    return list(pyinstantmeshes.remesh(vertices.astype(np.float32), faces.astype(np.int32), **options))


def convex_pieces(vertices: np.ndarray, faces: np.ndarray, options: Mapping[str, Any]) -> list[np.ndarray]:
    """Vertices and triangles of each piece, one after the other.

    Source: Wei et al. 2022, Approximate Convex Decomposition for 3D Meshes with Collision-Aware Concavity and Tree
    Search (CoACD).
    """
    import coacd

    coacd.set_log_level("error")
    pieces = coacd.run_coacd(coacd.Mesh(vertices.astype(np.float64), faces.astype(np.int32)), **options)
    return [np.asarray(array) for piece in pieces for array in piece]


TASKS: dict[str, Callable[[np.ndarray, np.ndarray, Mapping[str, Any]], list[np.ndarray]]] = {
    "field_aligned": field_aligned,
    "convex_pieces": convex_pieces,
}


def _main(task: str, given: str, out: str, options: str) -> None:
    with np.load(given, allow_pickle=False) as arrays:
        found = TASKS[task](arrays["vertices"], arrays["faces"], json.loads(options))
    whole = Path(out).with_suffix(".part.npz")
    np.savez(whole, **{f"array_{number}": array for number, array in enumerate(found)})
    whole.rename(out)


if __name__ == "__main__":
    _main(*sys.argv[1:])
