"""Every loader of strangers' files, with good files to damage, and what must hold of whatever it gives."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from maquette import checkpoint
from maquette.assets import export
from maquette.checkpoint import Saver
from maquette.checkpoint.manifest import encode
from maquette.checkpoint.tensor_files import Written
from maquette.checkpoint.weights import load_weights, save_weights
from maquette.config import RunConfig, load, read_yaml
from maquette.image_loading import RARE_FORMATS, decoded_image
from maquette.types import Asset
from maquette_data3d.ingest import fbx_child
from maquette_data3d.ingest.read_asset import read_mesh
from maquette_data3d.ingest.reading import ReadLimits, read
from maquette_data3d.ingest.scene_file import read_scene, write_scene
from tests.data3d import mesh_files

LIMITS = ReadLimits(largest_bytes=2**24, animations=True)
CONFIG = """
name: fuzzed
folder: runs/${name}
data: {name: shards, path: /data/shards, batch: 8}
model: &model {name: dit, width: 64, depth: 4}
objective: {name: flow, like: *model}
train: {steps: 200, clip_norm: 1.0, ema_decays: [0.99, 0.999]}
"""


def good_files(folder: Path) -> list[tuple[str, str, bytes]]:
    """(kind, suffix, content) of small good files of every format."""
    return [*_meshes(folder), *_images(), *_tensors(folder), ("config", ".yaml", CONFIG.encode())]


def _meshes(folder: Path) -> list[tuple[str, str, bytes]]:
    written = [
        ("mesh", suffix, write(folder / f"a{suffix}").read_bytes()) for suffix, write in mesh_files.WRITERS.items()
    ]
    rich = mesh_files.Gltf().tetrahedron(TEXCOORD_0=np.zeros((4, 2), np.float32), COLOR_0=np.ones((4, 4), np.float32))
    rich.json["materials"] = [
        {"pbrMetallicRoughness": {"baseColorTexture": {"index": rich.image(mesh_files.picture())}}}
    ]
    rich.json["meshes"][0]["primitives"][0]["material"] = 0
    rich.glb(folder / "rich.glb")
    for packing in ("none", "draco", "meshopt"):
        if packing != "meshopt" or importlib.util.find_spec("meshopt"):
            asset = Asset(read_mesh(folder / "rich.glb"))
            written_to = export(asset, folder / f"{packing}.glb", {"compression": packing})
            written.append(("mesh", ".glb", written_to.read_bytes()))
    text = b"ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
    text += b"element face 4\nproperty list uchar int vertex_indices\nend_header\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n"
    text += b"3 0 2 1\n3 0 1 3\n3 0 3 2\n3 1 2 3\n"
    stl = (
        b"solid a\n"
        + b"facet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex 1 0 0\nvertex 0 1 1\nendloop\nendfacet\n" * 2
    )
    return [*written, ("mesh", ".glb", (folder / "rich.glb").read_bytes()), ("mesh", ".ply", text),
            ("mesh", ".stl", stl + b"endsolid a\n")]  # fmt: skip


def _images() -> list[tuple[str, str, bytes]]:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (12, 10, 3), np.uint8))
    made = []
    for kind in RARE_FORMATS:
        out = io.BytesIO()
        picture.save(out, kind)
        made.append(("image", f".{kind.lower()}", out.getvalue()))
    frames = io.BytesIO()
    picture.save(frames, "WEBP", save_all=True, append_images=[picture, picture])
    return [*made, ("image", ".webp", frames.getvalue())]


def _tensors(folder: Path) -> list[tuple[str, str, bytes]]:
    save_weights(
        folder / "a.safetensors", {"a": torch.arange(12.0).reshape(3, 4), "b": torch.zeros(2, dtype=torch.bool)}
    )
    scene = read(mesh_files.WRITERS[".glb"](folder / "scene.glb"), LIMITS)
    write_scene(scene, folder / "scene.safetensors")
    with Saver(folder / "saved", keep=1, background=False) as saver:
        saver.save(1, {"model": {"w": torch.arange(6.0).reshape(2, 3)}}, {"step": 1, "score": 0.5})
    (saved,) = checkpoint.paths(folder / "saved")
    small = [(name, ".json", (saved / name).read_bytes()) for name in ("index.json", "state.json", "manifest.json")]
    return [
        ("weights", ".safetensors", (folder / "a.safetensors").read_bytes()),
        ("scene", ".safetensors", (folder / "scene.safetensors").read_bytes()),
        *small,
    ]


def load_one(kind: str, suffix: str, content: bytes, folder: Path) -> None:
    """Loads a file of a kind; raises MaquetteError where it is refused, AssertionError for a wrong result."""
    path = folder / f"fuzzed{suffix}"
    path.write_bytes(content)
    if kind == "mesh":
        scene = read(path, LIMITS)
        assert len(scene.faces) and 0 <= scene.faces.min() and scene.faces.max() < len(scene.vertices)
        assert np.isfinite(scene.vertices[scene.faces]).all()
    elif kind == "image":
        assert decoded_image(content, "RGB", RARE_FORMATS).ndim == 3
    elif kind == "weights":
        assert all(isinstance(tensor, torch.Tensor) for tensor in load_weights(path).values())
    elif kind == "scene":
        read_scene(path)
    elif kind == "config":
        load(RunConfig, read_yaml(path))
    else:
        (saved,) = checkpoint.paths(folder / "saved")
        before = {one.name: one.read_bytes() for one in saved.iterdir()}
        try:
            (saved / kind).write_bytes(content)
            if kind != "manifest.json":  # a stranger makes the checksums right
                others = [one for one in saved.iterdir() if one.name != "manifest.json"]
                sums = [Written(o.name, o.stat().st_size, hashlib.sha256(o.read_bytes()).hexdigest()) for o in others]
                (saved / "manifest.json").write_bytes(encode(1, sums))
            checkpoint.read(saved)
        finally:
            for name, held in before.items():
                (saved / name).write_bytes(held)


def fork_fbx_child() -> None:
    """FBX's own process as a fork of this one, which costs milliseconds instead of half a second."""
    import ufbx  # noqa: F401

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        child = os.fork()
        if not child:
            try:
                signal.alarm(0)
                os.close(2)
                fbx_child.main(command[3:])
            finally:
                os._exit(0)
        return subprocess.CompletedProcess(command, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    assert sys.platform != "win32"
    subprocess.run = run  # type: ignore[assignment]
