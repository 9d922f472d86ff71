"""Folders that tests of builds make, and what they compare of them."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import trimesh

from maquette_data3d import write_mesh_files
from maquette_data3d.procedural import CLASSES, sample_shape

SMALL = {"resolution": 16, "points": 128, "thumbnails": 0}
SHAPES = {"count": 24, "shard_samples": 10, "resolution": 16, "points": 256, "thumbnails": 2}
# What a clock has a part in.
TIMED = ("report.html", "throughput.json")


def hashes(folder):
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name not in TIMED
    }


def interrupted(*_, **__):
    raise KeyboardInterrupt


def drawn(number):
    return sample_shape(0, number, 1.0, CLASSES)


def files(folder):
    return {entry["file"]: entry for entry in map(json.loads, (folder / "files.jsonl").read_text().splitlines())}


def meshes(folder):
    write_mesh_files(folder, 6, seed=1, formats=("glb", "obj", "ply", "stl", "off"), resolution=16)
    (folder / "chair" / "notes.glb").write_text("not a mesh")
    (folder / "flat.obj").write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nf 1 2 3\n")
    (folder / "nan.obj").write_text("v 0 0 nan\nv 1 0 0\nv 1 1 0\nv 0 0 1\nf 1 2 3\nf 1 2 4\n")
    (folder / "readme.txt").write_text("no mesh, not counted")
    twice = trimesh.creation.box()
    twice = trimesh.Trimesh(twice.vertices, np.concatenate([twice.faces, twice.faces[:2]]), process=False)
    (folder / "wooden_crate-01.ply").write_bytes(twice.export(file_type="ply"))
    return folder


def boxes(folder, sizes):
    folder.mkdir(exist_ok=True)
    for name, size in sizes.items():
        (folder / f"{name}.ply").write_bytes(trimesh.creation.box(size).export(file_type="ply"))
