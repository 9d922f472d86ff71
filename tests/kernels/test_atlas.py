"""Texels of an atlas: each that a face touches knows its point of the surface; empty ones take the nearest."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import distance_transform_edt

from maquette.errors import MaquetteError
from maquette_kernels.raster.atlas import dilate, texel_surface

SIZE = (24, 40)


def _triangles(seed: int, count: int = 12) -> torch.Tensor:
    random = np.random.default_rng(seed)
    middle = random.random((count, 1, 2))
    return torch.from_numpy((middle + random.normal(0, 0.05, (count, 3, 2))).clip(0, 1).astype(np.float32))


def _middles(size: tuple[int, int]) -> np.ndarray:
    rows, columns = np.mgrid[: size[0], : size[1]] + 0.5
    return np.stack([columns / size[1], rows / size[0]], -1)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_weights_give_back_the_middle_of_a_covered_texel_or_a_point_within_reach(seed: int) -> None:
    uv = _triangles(seed)
    face, weights = (found.numpy() for found in texel_surface(uv, SIZE))
    on = face >= 0
    assert (weights[~on] == 0).all()
    np.testing.assert_allclose(weights[on].sum(-1), 1, atol=1e-5)
    assert (weights >= 0).all()
    points = np.einsum("nk,nkc->nc", weights[on], uv.numpy()[face[on]])
    away = (points - _middles(SIZE)[on]) * (SIZE[1], SIZE[0])
    assert (np.linalg.norm(away, axis=-1) <= 0.5**0.5 + 1e-3).all()


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), turn=st.floats(0, 3.2))
def test_every_texel_that_a_sliver_touches_is_covered(seed: int, turn: float) -> None:
    along = np.array([np.cos(turn), np.sin(turn)]) * 0.3
    ends = np.random.default_rng(seed).uniform(0.35, 0.65, 2) + np.stack([-along, along])
    uv = torch.from_numpy(np.stack([ends[0], ends[1], ends[1] + 1e-5])[None].astype(np.float32))
    face, _ = texel_surface(uv, SIZE)
    points = ends[0] + np.linspace(0, 1, 300)[:, None] * (ends[1] - ends[0])
    column, row = np.floor(points * (SIZE[1], SIZE[0])).astype(int).T
    assert (face.numpy()[row, column] == 0).all()


def test_a_face_smaller_than_a_texel_has_one() -> None:
    uv = torch.full((1, 3, 2), 0.51) + torch.tensor([[0, 0], [1e-6, 0], [0, 1e-6]])
    assert (texel_surface(uv, 8)[0] == 0).sum() >= 1


def test_no_faces_and_wrong_shapes() -> None:
    assert (texel_surface(torch.zeros(0, 3, 2), 8)[0] == -1).all()
    with pytest.raises(MaquetteError, match=r"uv must be \[F, 3, 2\]"):
        texel_surface(torch.zeros(4, 2), 8)
    with pytest.raises(MaquetteError, match="covered"):
        dilate(torch.zeros(4, 4, 3), torch.zeros(3, 4, dtype=torch.bool))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), share=st.floats(0.01, 1.0))
def test_empty_texels_are_filled_from_the_nearest_covered_one(seed: int, share: float) -> None:
    random = np.random.default_rng(seed)
    covered = random.random(SIZE) < share
    covered[tuple(random.integers(0, SIZE))] = True
    places = torch.stack(torch.meshgrid(*(torch.arange(side) for side in SIZE), indexing="ij"), -1)
    found = dilate(places, torch.from_numpy(covered))
    away = (found - places).double().norm(dim=-1)
    np.testing.assert_allclose(away.numpy(), distance_transform_edt(~covered))


def test_an_image_that_nothing_covers_stays() -> None:
    image = torch.rand(3, 5, 2)
    assert torch.equal(dilate(image, torch.zeros(3, 5, dtype=torch.bool)), image)
