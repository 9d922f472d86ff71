"""What an asset and its copy, read back from a file, have to share: geometry, coordinates, surfaces, skin, clips."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

TOLERANCE = 1e-5


def places(mesh, column):
    """int [F], the part or the material of each face."""
    values = getattr(mesh, column)
    return np.full(len(mesh.faces), 0 if column == "part" else -1) if values is None else values


def order_of(mesh, *columns):
    """The mesh's faces by part, by material, or as they are."""
    keys = [places(mesh, column) for column in columns]
    return np.lexsort(keys[::-1]) if keys else np.arange(len(mesh.faces))


def corners(mesh):
    """float64 [F, 3, 3]."""
    return mesh.vertices.astype(np.float64)[mesh.faces]


def same_geometry(found, wanted, tolerance=TOLERANCE):
    """Corners [F, 3, 3] that differ by less than a share of the longest side."""
    assert found.shape == wanted.shape
    side = np.ptp(wanted.reshape(-1, 3), axis=0).max()
    assert np.abs(found - wanted).max() <= tolerance * side


def same_uv(found, wanted):
    """Texture coordinates [F, 3, 2] that differ by no more than 32 bits make them, where v is turned over."""
    assert (np.abs(found - wanted) <= 1e-6 * np.maximum(np.abs(wanted), 1)).all()


def same_set(found, wanted, tolerance=TOLERANCE):
    """Rows [N, C] of which each has one of the other's within a distance, for formats that change their order."""
    from scipy.spatial import cKDTree

    one, other = found.reshape(-1, found.shape[-1]), wanted.reshape(-1, wanted.shape[-1])
    assert len(one) == len(other)
    assert cKDTree(one).query(other)[0].max() <= tolerance
    assert cKDTree(other).query(one)[0].max() <= tolerance


def near_set(found, wanted, tolerance=TOLERANCE):
    """As `same_set`, but rows of the wanted may come more than once, or once where they came twice."""
    from scipy.spatial import cKDTree

    one, other = found.reshape(-1, found.shape[-1]), wanted.reshape(-1, wanted.shape[-1])
    assert cKDTree(one).query(other)[0].max() <= tolerance
    assert cKDTree(other).query(one)[0].max() <= tolerance


def same_image(found, wanted):
    """The same bytes, or the same texels in another container."""
    if found != wanted:
        one, other = (Image.open(io.BytesIO(content)).convert("RGB") for content in (found, wanted))
        assert np.array_equal(np.asarray(one), np.asarray(other))


def same_materials(found, found_rows, wanted, wanted_rows, fields=None, roles=None, tolerance=1e-5):  # noqa: PLR0917
    """Each face has a material with the same factors and images; -1 stays -1. Faces are paired by the rows."""
    one, other = places(found, "material")[found_rows], places(wanted, "material")[wanted_rows]
    assert np.array_equal(one < 0, other < 0)
    fields = fields or ("base_color", "metallic", "roughness", "emissive", "alpha_mode", "double_sided")
    pairs = np.unique(np.stack([one, other], 1)[one >= 0], axis=0)
    assert len(np.unique(pairs[:, 1])) == len(pairs)
    for a, b in pairs:
        same_surface(found.materials[a], wanted.materials[b], fields, tolerance)
        shown = set(wanted.materials[b].textures) & set(roles if roles is not None else wanted.materials[b].textures)
        shown = shown if wanted.uv is not None else set()
        assert set(found.materials[a].textures) == shown
        for role in shown:
            same_image(
                found.images[found.materials[a].textures[role]], wanted.images[wanted.materials[b].textures[role]]
            )


def same_surface(found, wanted, fields, tolerance):
    """Two materials agree in these fields."""
    for name in fields:
        one, other = getattr(found, name), getattr(wanted, name)
        if isinstance(other, str | bool):
            assert one == other, name
        else:
            assert np.allclose(one, other, atol=tolerance, rtol=1e-4), (name, one, other)


def dense_weights(skin, names):
    """float64 [V, J], the weight of each named joint."""
    place = {name: number for number, name in enumerate(names)}
    table = np.zeros((len(skin.joints), len(names)))
    columns = np.array([place.get(name, -1) for name in skin.skeleton.names])[skin.joints]
    rows = np.broadcast_to(np.arange(len(table))[:, None], columns.shape)
    heavy = skin.weights > 0
    assert (columns[heavy] >= 0).all()
    np.add.at(table, (rows[heavy], columns[heavy]), skin.weights[heavy])
    return table


def same_skeleton(found, wanted, scale=1.0, tolerance=TOLERANCE):
    """The same joints by name: parents, origins and axes (scale apart)."""
    from maquette_data3d.geometry.rigid import rigid

    names = list(wanted.names)
    place = [found.names.index(name) for name in names]
    for number, joint in enumerate(place):
        above = found.parents[joint]
        assert (found.names[above] if above >= 0 else None) == (
            names[wanted.parents[number]] if wanted.parents[number] >= 0 else None
        )
    one, other = rigid(found.rest)[place], rigid(wanted.rest)
    side = max(np.abs(other[:, :3, 3]).max() * scale, 1e-6)
    assert np.abs(one[:, :3, 3] - other[:, :3, 3] * scale).max() <= 10 * tolerance * side
    assert np.abs(one[:, :3, :3] - other[:, :3, :3]).max() <= 1e-4


def same_skin(found, found_rows, wanted, wanted_rows, scale=1.0, heavy_only=False):  # noqa: PLR0917
    """Skeleton and weights of each corner; `heavy_only` compares no joints that move nothing."""
    if heavy_only:
        used = {wanted.skin.skeleton.names[at] for at in np.unique(wanted.skin.joints[wanted.skin.weights > 0])}
        assert used <= set(found.skin.skeleton.names)
    else:
        same_skeleton(found.skin.skeleton, wanted.skin.skeleton, scale)
    names = list(wanted.skin.skeleton.names)
    one = dense_weights(found.skin, names)[found.faces[found_rows]]
    assert np.abs(one - dense_weights(wanted.skin, names)[wanted.faces[wanted_rows]]).max() <= 1e-5


def same_clips(found, wanted, scale=1.0, tolerance=1e-5):
    """The same names, times, turns and moves, joint by joint."""
    assert [clip.name for clip in found.animations] == [clip.name for clip in wanted.animations]
    names = found.mesh.skin.skeleton.names
    place = [names.index(name) for name in wanted.mesh.skin.skeleton.names]
    for one, other in zip(found.animations, wanted.animations, strict=True):
        assert np.abs(one.times - other.times).max() <= tolerance
        turns = np.abs((one.rotations[:, place].astype(np.float64) * other.rotations).sum(-1))
        assert np.abs(turns - 1).max() <= tolerance
        moves = other.translations * scale
        assert np.abs(one.translations[:, place] - moves).max() <= tolerance * max(np.abs(moves).max(), 1e-6) * 10
