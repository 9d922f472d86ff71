"""Writes released.txt, the exact versions of all that the five packages need: ``python tests/release_versions.py``."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

RELEASED = Path(__file__).parents[1] / "released.txt"
HEAD = """\
# The exact versions that the tests of this release ran with, for installations that are the same everywhere:
# pip install -c released.txt ./packages/*    Made anew with: python tests/release_versions.py
"""
ROOTS = {
    "maquette-core": (),
    "maquette-kernels": (),
    "maquette-data3d": ("ray", "fbx", "usd", "meshopt"),
    "maquette-models": ("pretrained",),
    "maquette-serve": ("object-store", "postgres", "telemetry", "ray"),
}


def needed() -> dict[str, str]:
    """Name -> installed version of everything that is needed to use the five packages with their extras."""
    found: dict[str, str] = {}
    seen: set[tuple[str, tuple[str, ...]]] = set()
    waiting = list(ROOTS.items())
    while waiting:
        name, extras = waiting.pop()
        key = (canonicalize_name(name), tuple(sorted(extras)))
        if key in seen:
            continue
        seen.add(key)
        try:
            package = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # an optional one that no requirement of the workspace asks for
        if not key[0].startswith("maquette-"):
            found[key[0]] = package.version.split("+")[0]
        for line in package.requires or []:
            requirement = Requirement(line)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in (*extras, "")):
                waiting.append((requirement.name, tuple(requirement.extras)))
    return dict(sorted(found.items()))


if __name__ == "__main__":
    RELEASED.write_text(HEAD + "".join(f"{name}=={version}\n" for name, version in needed().items()))
