"""A mesh to a complete training sample, by stage, beside the straightforward path; and how a build scales.

    OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 python benchmarks/data3d_build.py [FOLDER OF MESHES] [meshes=6] [rounds=3]
        [files=120] [ray=true]

The folder is MAQUETTE_MODELS where none is given; without either, procedural shapes are written as meshes. A sample
is a 64^3 grid with colours, 8,192 surface and 8,192 sharp points, and 24,576 points with their distances. The
straightforward path is trimesh alone: load, sample the surface, ask its proximity for the distance of every grid cell
and query; it is asked for 1,000 points and its time scaled up, for it would take minutes a mesh. The two take turns;
medians of the ratios, with their spread. The second part builds `files` meshes by one process, by two, and on Ray.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import trimesh

from maquette_data3d import BuildConfig, build_shards, write_mesh_files
from maquette_data3d.building.process import process, warm_up
from maquette_data3d.building.recipe import Recipe
from maquette_data3d.building.sources import Item

SETTINGS = {"meshes": 6, "rounds": 3, "files": 120, "ray": 1}
FEATURES = ["grid", "surface", "sharp", "queries"]
ASKED = 64**3 + 16_384 + 8_192
FEW = 1_000


def straightforward(path: Path) -> float:
    """Seconds that trimesh alone takes for a sample, its distances scaled up from a few."""
    start = time.perf_counter()
    mesh = trimesh.load(path, force="mesh")
    mesh.apply_translation(-mesh.bounds.mean(0))
    mesh.apply_scale(0.9 / mesh.extents.max())
    trimesh.sample.sample_surface(mesh, 8192)
    prepared = time.perf_counter() - start
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (FEW, 3))
    trimesh.proximity.signed_distance(mesh, points[:10])  # its tree is built once
    start = time.perf_counter()
    trimesh.proximity.signed_distance(mesh, points)
    return prepared + (time.perf_counter() - start) * ASKED / FEW


def ours(path: Path, recipe: Recipe) -> tuple[float, dict[str, float]]:
    """Seconds of our path, and by stage."""
    start = time.perf_counter()
    outcome, sample = process(Item(0, path.name, str(path), "a mesh", "mesh"), recipe)
    if sample is None:
        raise SystemExit(f"{path}: {outcome.reason} ({outcome.detail})")
    return time.perf_counter() - start, outcome.seconds


def shown(values: list[float], unit: str) -> str:
    """Median and spread."""
    return f"{statistics.median(values):8.2f}{unit} ({min(values):.2f} - {max(values):.2f})"


def samples(paths: list[Path], rounds: int) -> None:
    """The first part."""
    recipe = Recipe.of(BuildConfig("meshes", "unused", features=FEATURES))
    warm_up(recipe, procedural=False)
    ratios, stages = [], {}
    for path in paths:
        times, peers = [], []
        for _ in range(rounds):
            seconds, by_stage = ours(path, recipe)
            times.append(seconds)
            peers.append(straightforward(path))
            for stage, spent in by_stage.items():
                stages.setdefault(stage, []).append(spent * 1000)
        ratios += [peer / own for peer, own in zip(peers, times, strict=True)]
        faces = len(trimesh.load(path, force="mesh").faces)
        print(f"{path.stem[:28]:28} {faces:7} faces  ours {shown(times, ' s')}  trimesh {shown(peers, ' s')}")
    print(f"trimesh / ours: {shown(ratios, '')}, n {len(ratios)}")
    for stage, spent in sorted(stages.items(), key=lambda item: -statistics.median(item[1])):
        print(f"  {stage:10} {shown(spent, ' ms')}")


def scaling(folder: str, files: int, ray: bool) -> None:
    """The second part: sources a second by one process, two, and Ray; starting up included, then without it."""
    kinds = {"one process": {"workers": 1}, "two processes": {"workers": 2}}
    if ray:
        kinds["Ray, two actors"] = {"workers": 2, "engine": "ray"}
    rates = {}
    for name, how in kinds.items():
        with tempfile.TemporaryDirectory() as out:
            config = {"features": FEATURES, "limit": files, "thumbnails": 0, **how}
            seconds = {}
            for count in (max(2, files // 10), files):  # the difference leaves out what starting costs
                target = Path(out) / str(count)
                start = time.perf_counter()
                report = build_shards(BuildConfig(folder, str(target), **{**config, "limit": count}))
                seconds[report.found] = time.perf_counter() - start
        (few, short), (many, long) = sorted(seconds.items())
        rates[name] = (many - few) / (long - short)
        print(f"{name:16} {rates[name]:6.2f} meshes a second; {many} meshes with start-up {long:.1f} s")
    one = rates["one process"]
    print("beside one process: " + ", ".join(f"{name} x {rate / one:.2f}" for name, rate in rates.items()))


def main(words: list[str]) -> None:
    """Both parts."""
    given = dict(word.split("=") for word in words if "=" in word)
    settings = {name: int(str(given.get(name, value)).replace("true", "1").replace("false", "0"))
                for name, value in SETTINGS.items()}  # fmt: skip
    folders = [word for word in words if "=" not in word]
    folder = folders[0] if folders else os.environ.get("MAQUETTE_MODELS", "")
    with tempfile.TemporaryDirectory() as made:
        if not folder:
            write_mesh_files(made, max(settings["files"], settings["meshes"]))
            folder = made
        paths = sorted(Path(folder).rglob("*.glb"))
        samples(paths[:: max(1, len(paths) // settings["meshes"])][: settings["meshes"]], settings["rounds"])
        scaling(folder, settings["files"], bool(settings["ray"]))


if __name__ == "__main__":
    main(sys.argv[1:])
