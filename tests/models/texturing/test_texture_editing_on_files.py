"""Textures of files that people made, edited in a region."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from maquette import plugins
from maquette.assets import import_asset
from maquette.placement import in_unit_cube
from maquette.types import Request
from maquette_kernels.raster.atlas import texel_surface
from maquette_models.texturing.view_attributes import decoded

MODELS = os.environ.get("MAQUETTE_MODELS", "")
LARGEST = 400_000  # bytes of a file
COUNT = 6


def textured_files(count):
    """Files with a texture, small ones, from all over the folder."""
    found = []
    for path in sorted(Path(MODELS).rglob("*.glb"))[::17]:
        if path.stat().st_size < LARGEST and len(found) < count:
            mesh = import_asset(path).mesh
            if mesh.uv is not None and any("base_color" in m.textures for m in mesh.materials):
                found.append((path, mesh))
    return found


@pytest.mark.skipif(not MODELS, reason="MAQUETTE_MODELS names no folder of models")
def test_texels_of_the_lower_half_stay(tmp_path):
    """Of every image, whatever the layout; the upper half has changed, or its texels are shared and that is said."""
    edit = plugins.build("pipelines", {"name": "texture_edit"})
    files = textured_files(COUNT)
    assert files
    for path, mesh in files:
        options = {"region": "upper half", "color": "purple", "keep_uv": "auto", "size": 256, "seam": 0.0}
        done = edit.batch([Request(mesh=mesh, options=options)])[0]
        if isinstance(done, Exception):
            assert "texels of its own" in str(done), path
            continue
        assert np.array_equal(done.mesh.vertices, mesh.vertices) and done.metadata["texels_edited"] > 0
        if not np.array_equal(done.mesh.uv, mesh.uv):
            continue  # laid out anew: there is no image before to compare with
        cube = in_unit_cube(mesh)
        middle = (cube.vertices[cube.faces][..., 1].min() + cube.vertices[cube.faces][..., 1].max()) / 2
        for place, image in enumerate(mesh.images):
            faces = np.flatnonzero([mesh.materials[m].textures.get("base_color") == place for m in mesh.material])
            old, new = decoded(image), decoded(done.mesh.images[place])
            if not len(faces):
                assert np.array_equal(old, new), path
                continue
            uv = mesh.uv[faces] - np.floor(mesh.uv[faces].mean(1, keepdims=True))
            face, share = (v.numpy() for v in texel_surface(torch.from_numpy(uv.astype(np.float32)), old.shape[:2]))
            height = np.einsum("yxc,yxc->yx", share, cube.vertices[cube.faces[faces]][..., 1][np.maximum(face, 0)])
            assert np.array_equal(*(pixels[(face >= 0) & (height < middle - 1e-4)] for pixels in (old, new))), path
