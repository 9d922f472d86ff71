"""What is written is what was given, in every format."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest

from maquette.testing import check_exporter
from maquette.types import Asset, Mesh
from maquette_data3d import read_mesh
from maquette_data3d.exporters import GlbExporter, ObjExporter, OffExporter, PlyExporter, StlExporter
from maquette_data3d.procedural import sample_shape

EXPORTERS = [GlbExporter, ObjExporter, PlyExporter, StlExporter, OffExporter]


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_meshes_come_back(exporter, tmp_path):
    mesh = sample_shape(0, 3).mesh(24)
    path = exporter()(Asset(mesh, {"prompt": "a mug"}), tmp_path / f"deep/er/shape{exporter.suffix}")
    found = read_mesh(path, normalised=False)
    corners = found.vertices[found.faces].reshape(-1, 3)
    assert np.abs(corners - mesh.vertices[mesh.faces].reshape(-1, 3)).max() < 1e-6
    if exporter in (GlbExporter, ObjExporter, PlyExporter):
        difference = found.colors[found.faces].astype(int) - mesh.colors[mesh.faces]
        # Dark linear light has few steps in 8 bits.
        assert np.abs(difference).max() <= (6 if exporter is GlbExporter else 0)


@pytest.mark.parametrize("exporter", EXPORTERS)
def test_writing_is_atomic(exporter, tmp_path):
    check_exporter(exporter(), tmp_path / f"a{exporter.suffix}")


def test_glb_colors_are_linear_light_as_the_standard_says(tmp_path):
    vertices = np.array([[0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]], np.float32)
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.int32)
    colors = np.tile(np.array([188, 188, 188, 255], np.uint8), (4, 1))
    content = GlbExporter()(Asset(Mesh(vertices, faces, colors)), tmp_path / "a.glb").read_bytes()
    (length,) = struct.unpack_from("<I", content, 12)
    document = json.loads(content[20 : 20 + length])
    accessor = document["accessors"][document["meshes"][0]["primitives"][0]["attributes"]["COLOR_0"]]
    start = 28 + length + document["bufferViews"][accessor["bufferView"]].get("byteOffset", 0)
    assert abs(content[start] - 128) <= 1
