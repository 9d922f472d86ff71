"""GLB files as pygltflib and trimesh read them, and as the Khronos validator judges them."""

from __future__ import annotations

import numpy as np
import pytest

from maquette.types import Asset, Material, Mesh
from maquette_data3d.exporting.gltf.exporter import GlbConfig, GlbExporter
from maquette_data3d.procedural import sample_shape
from tests.data3d.exporting import copies, khronos
from tests.data3d.exporting import random_assets as assets


@pytest.mark.parametrize("seed", range(6))
def test_pygltflib_finds_what_the_asset_had(seed, tmp_path):
    pytest.importorskip("pygltflib")
    from tests.data3d.exporting import gltf_reader

    asset = assets.random_asset(seed)
    gltf_reader.check(GlbExporter()(asset, tmp_path / "a.glb"), asset, copies)


def test_trimesh_shows_the_texture(tmp_path):
    import trimesh

    random = np.random.default_rng(0)
    vertices, faces = assets.closed_surface(random)
    surface = Material("wood", textures={"base_color": 0})
    uv = random.random((len(faces), 3, 2)).astype(np.float32)
    more = {"materials": (surface,), "images": (assets.picture(random),)}
    mesh = Mesh(vertices, faces, uv=uv, material=np.zeros(len(faces)), **more)
    found = trimesh.load_mesh(GlbExporter()(Asset(mesh), tmp_path / "a b.glb"), process=False)
    assert np.allclose(found.vertices[found.faces], vertices[faces], atol=1e-6)
    assert np.allclose(found.visual.uv[found.faces] * [1, -1] + [0, 1], uv, atol=1e-6)
    assert found.visual.material.baseColorTexture is not None


def test_the_validator_finds_no_error(tmp_path):
    if khronos.missing():
        pytest.skip(khronos.missing())
    paths = []
    for compression in ("none", "draco", "meshopt"):
        exporter = GlbExporter(GlbConfig(compression=compression))
        paths += [exporter(assets.random_asset(seed), tmp_path / f"{compression}{seed}.glb") for seed in range(8)]
    paths.append(GlbExporter()(Asset(sample_shape(0, 0).mesh(24), {"prompt": "a chair"}), tmp_path / "shape.glb"))
    paths += [GlbExporter()(asset, tmp_path / f"{name}.glb") for name, asset in extremes().items()]
    found = khronos.reports(paths)
    assert len(found) == len(paths)
    assert {report["file"]: report["wrong"] for report in found if report["errors"]} == {}


def extremes():
    """What a file may have most, least or oddest of."""
    random = np.random.default_rng(7)
    vertices, faces = assets.closed_surface(random)
    one = Mesh(np.eye(3), np.array([[0, 1, 2]]))
    bare = Mesh(vertices, faces)
    skin = assets.skin(random, len(vertices), 300, 8, loose=0.3)
    flat = Mesh(np.array([[0, 0, 0], [1, 0, 0], [1, 0, 0], [0, 0, 0]]), np.array([[0, 1, 2], [0, 3, 1], [1, 1, 1]]))
    glow = Material("a" * 5000, (2.0, -1.0, 0.5, 1.5), 3.0, -1.0, (500.0, 0.0, 0.0), "mask", True)
    lit = Mesh(vertices, faces, material=np.zeros(len(faces)), materials=(glow,))
    image = assets.picture(random, size=(4096, 2048))
    roles = ("base_color", "metallic_roughness", "normal", "occlusion", "emissive")
    full = Material("five", textures=dict.fromkeys(roles, 0))
    uv = (random.random((len(faces), 3, 2)) * 1e6).astype(np.float32)
    large = Mesh(vertices, faces, uv=uv, material=np.zeros(len(faces)), materials=(full,), images=(image,))
    still = assets.clip(random, skin, frames=1)
    return {
        "one": Asset(one, {"prompt": "\ud800 ü", "nan": float("nan"), "deep": {"a": [1, {"b": None}]}}),
        "bare": Asset(bare),
        "joints": Asset(Mesh(vertices, faces, skin=skin), animations=(still,)),
        "flat": Asset(flat),
        "glow": Asset(lit),
        "large": Asset(large),
    }
