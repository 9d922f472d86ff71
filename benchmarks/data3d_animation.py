"""Do feet keep to the ground? Clips on procedural creatures with their true rigs and on real rigged characters.

    python benchmarks/data3d_animation.py [creatures=60] [clips=[walk,run]] [rig=RUN] [sheet=FILE.png]

MAQUETTE_MODELS names the folder of real models with its manifest; without it creatures alone are measured. With
`rig` creatures have the skeletons and weights that the pipeline of that run predicts, not their true ones. Slide is the
farthest that the middle of a standing sole is from its mean place, depth how far a vertex of a sole is under the
ground, both as shares of the height, at four times the frames of the clip. Soles are vertices that the skin moves.
"""

from __future__ import annotations

import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from maquette.assets import Pipeline, import_asset, open_pipeline
from maquette.cli import run
from maquette.config import read_words
from maquette.errors import MaquetteError
from maquette.progress import track
from maquette.types import Mesh, Request, Skeleton, Skin
from maquette_data3d import sample_shape
from maquette_data3d.animation.animation_sheet import animation_sheet
from maquette_data3d.animation.foot_contact import foot_contact
from maquette_data3d.animation.retarget import retarget

CLASSES = ("biped", "creature", "bird")
SEED, ROWS = 51_000, 8


def creature(number: int, rig: Pipeline | None) -> Mesh:
    """A creature with its true rig, or with the one that a pipeline predicts."""
    shape = sample_shape(SEED, number, 1.0, CLASSES)
    mesh, skeleton = shape.mesh(64), shape.skeleton()
    if rig is not None:
        return rig(Request(mesh=mesh)).mesh
    skin = shape.skin(mesh.vertices)
    if skeleton is None or skin is None:
        raise MaquetteError(f"shape {number} has no skeleton")
    rest = np.tile(np.eye(4), (len(skeleton.names), 1, 1))
    rest[:, :3, 3] = skeleton.positions
    return replace(mesh, skin=Skin(Skeleton(skeleton.names, skeleton.parents, rest), *skin))


def characters(folder: Path) -> Iterator[tuple[str, Mesh]]:
    """Real models with joints."""
    for line in (folder / "manifest.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if entry["joints"]:
            yield entry["file"], import_asset(folder / entry["file"]).mesh


def measure(named: Iterator[tuple[str, Mesh]], clips: list[str], title: str) -> list[np.ndarray]:
    """Prints the figures of meshes; gives the sheets of the first ones."""
    found, refused, sheets = {clip: [] for clip in clips}, defaultdict(list), []
    for name, mesh in named:
        for clip in clips:
            try:
                made = retarget(mesh, clip)
            except MaquetteError as error:
                refused[str(error).partition(";")[0]].append(Path(name).stem)
                continue
            found[clip].append((name, foot_contact(mesh, made), made.stride))
            if len(sheets) < ROWS:
                sheets.append(animation_sheet(mesh, made.animation))
    for clip, rows in found.items():
        if not rows:
            continue
        slide, depth, stride = (
            np.array(values) for values in zip(*((c.slide, c.depth, s) for _, c, s in rows), strict=True)
        )
        print(
            f"{title}, {clip}: n {len(rows)}, slide median {np.median(slide):.5f} most {slide.max():.5f}, depth median "
            f"{np.median(depth):.5f} most {depth.max():.5f}, strides shortened {np.mean(stride < 1):.2f}"
        )
        for name, contact, _ in rows:
            if max(contact.slide, contact.depth) > 0.01:
                print(f"  above 1 %: {name} slide {contact.slide:.4f} depth {contact.depth:.4f}")
    for reason, names in refused.items():
        print(f"{title}, {len(names)} refused: {reason}: {', '.join(names)}")
    return sheets


def main() -> None:
    words = read_words(sys.argv[1:])
    clips, count = list(words.get("clips", ["walk", "run"])), int(words.get("creatures", 60))
    numbers = track(range(count), "Animating creatures")
    rig = open_pipeline(words["rig"]) if "rig" in words else None
    sheets = measure(((f"creature {n}", creature(n, rig)) for n in numbers), clips, "procedural creatures")
    if os.environ.get("MAQUETTE_MODELS"):
        sheets += measure(characters(Path(os.environ["MAQUETTE_MODELS"])), clips, "real characters")
    if "sheet" in words:
        Image.fromarray(np.concatenate(sheets, 0)).save(words["sheet"])


if __name__ == "__main__":
    sys.exit(run(main))
