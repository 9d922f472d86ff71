"""What real models lose as voxels, without any network: F-scores, normals, colours, seconds, open ones apart.

    python benchmarks/models_voxel_codec.py MODELS [--resolutions 64,128,256] [--count 300] [--points 10000]

MODELS is a folder of mesh files; every so many-th is taken. Distances are from points drawn on either surface to the
other surface itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch

from maquette.types import Mesh
from maquette_data3d import read_mesh
from maquette_models.sparse_voxels.codec_evaluation import evaluate_codec

SUFFIXES = {".glb", ".gltf", ".obj", ".ply", ".stl", ".off"}


def meshes(folder: Path, count: int) -> Iterator[Mesh]:
    """Some of the meshes of a folder, spread over it."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    for path in files[:: max(len(files) // count, 1)][:count]:
        yield read_mesh(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", type=Path)
    parser.add_argument("--resolutions", default="64,128,256")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--points", type=int, default=10_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for resolution in map(int, options.resolutions.split(",")):
        print(f"resolution {resolution}")
        figures = evaluate_codec(meshes(options.models, options.count), resolution, options.points)
        for name, figure in figures.items():
            print(f"  {name:28} {figure.value:12.5f}  n = {figure.n}")


if __name__ == "__main__":
    main()
