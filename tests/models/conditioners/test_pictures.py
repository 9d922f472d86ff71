"""Pictures are framed by what they show, whatever they were cut like, and laid on a background."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from maquette import plugins
from maquette.errors import MaquetteError
from maquette.types import Request
from maquette_models.conditioners.pictures import MARGIN, framed, normalised, on_background, stack_pictures
from maquette_models.conditioners.request_batch import batch_of


def disc(side: int, x: float, y: float, radius: float, color: tuple[int, int, int] = (200, 30, 60)) -> np.ndarray:
    """A disc on transparency, in shares of the side."""
    axis = (np.arange(side) + 0.5) / side
    inside = (axis[None, :] - x) ** 2 + (axis[:, None] - y) ** 2 < radius**2
    return np.concatenate([np.broadcast_to(color, (side, side, 3)), inside[..., None] * 255], axis=2).astype(np.uint8)


def seen(image: np.ndarray, size: int = 32) -> torch.Tensor:
    return framed(stack_pictures([image], size), size)[0]


def test_place_and_size_in_the_picture_do_not_matter() -> None:
    centred = seen(disc(128, 0.5, 0.5, 0.4))
    for other in (disc(128, 0.3, 0.6, 0.2), disc(64, 0.5, 0.5, 0.25), disc(256, 0.7, 0.3, 0.1)):
        assert (seen(other) - centred).abs().mean() < 0.015
    across = (centred[3] > 0.5).sum(dim=1).max().item()
    assert across == pytest.approx(32 / MARGIN, abs=1.5)
    rows = torch.nonzero((centred[3] > 0.5).any(dim=1)).flatten()
    assert abs(int(rows[0]) - (31 - int(rows[-1]))) <= 1


def test_an_opaque_picture_is_used_as_it_is() -> None:
    image = np.zeros((32, 32, 3), np.uint8)
    image[:8, :, 0] = 255
    out = seen(image)
    torch.testing.assert_close(out[:3], torch.from_numpy(image).permute(2, 0, 1).float() / 255, atol=1e-5, rtol=0)
    assert (out[3] == 1).all()


def test_a_square_object_is_no_opaque_picture() -> None:
    image = np.zeros((64, 64, 4), np.uint8)
    image[20:40, 10:30] = 255
    assert (seen(image)[3] > 0.5).any(dim=1).sum().item() == pytest.approx(32 / MARGIN, abs=1.5)
    assert (seen(image[20:40, 10:30])[3] > 0.5).all()


def test_a_picture_that_is_not_square_is_not_stretched() -> None:
    wide = disc(64, 0.5, 0.5, 0.4)[12:52]  # 40 rows of 64
    alpha = seen(wide, 64)[3] > 0.5
    assert alpha.any(dim=1).sum() < 0.85 * alpha.any(dim=0).sum()


def test_large_pictures_are_averaged() -> None:
    """A checkerboard finer than the encoder's pixels becomes grey and not a pattern of aliases."""
    board = np.indices((512, 512)).sum(axis=0) % 2 * 255
    image = np.repeat(board[..., None], 3, axis=2).astype(np.uint8)
    assert (seen(image, 16)[:3] - 0.5).abs().max() < 0.02


def test_colours_of_transparent_pixels_do_not_bleed() -> None:
    image = disc(64, 0.5, 0.5, 0.3)
    image[image[..., 3] == 0, :3] = 255
    clean = disc(64, 0.5, 0.5, 0.3)
    clean[clean[..., 3] == 0, :3] = 0
    torch.testing.assert_close(seen(image), seen(clean), atol=1e-5, rtol=0)


def test_background_and_normalisation() -> None:
    premultiplied = torch.zeros(1, 4, 2, 2)
    premultiplied[:, :, 0, 0] = torch.tensor([1.0, 0.0, 0.0, 1.0])
    shown = on_background(premultiplied, torch.tensor([[0.25, 0.5, 0.75]]))
    assert shown[0, :, 0, 0].tolist() == [1, 0, 0] and shown[0, :, 1, 1].tolist() == [0.25, 0.5, 0.75]
    plain = normalised(shown, (0.25, 0.5, 0.75), (0.5, 1.0, 2.0))
    assert plain[0, :, 1, 1].tolist() == [0, 0, 0] and plain[0, 0, 0, 0] == 1.5


def test_what_is_no_picture_is_refused() -> None:
    for odd in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 2), np.uint8)):
        with pytest.raises(MaquetteError, match="picture must be uint8"):
            stack_pictures([odd], 16)


def views(**changes: object) -> torch.nn.Module:
    torch.manual_seed(0)
    block = {"name": "views", "max_views": 3, "size": 16, "patch": 8, "depth": 1, "heads": 2, "width": 16}
    return plugins.build("conditioners", {**block, **changes})


def test_any_number_of_views_in_use() -> None:
    own = views().eval()
    pictures = stack_pictures([disc(16, 0.5, 0.5, 0.4, (40 * i, 90, 20)) for i in range(4)], 16)[None]
    seen = [own(own.prepare({"view_rgb": pictures[:, :count]})) for count in (1, 2, 3)]
    assert [int(one.mask.sum()) for one in seen] == [1 + 4, 1 + 8, 1 + 12]
    torch.testing.assert_close(seen[0].tokens[seen[0].mask], seen[2].tokens[:, :5][seen[2].mask[:, :5]])
    assert not torch.equal(seen[1].pooled, seen[2].pooled)
    with pytest.raises(MaquetteError, match="at most 3"):
        own.prepare({"view_rgb": pictures})


def test_training_shows_one_view_to_all_of_them() -> None:
    own = views(drop=0.0)
    shown = own.prepare({"view_rgb": torch.ones(3000, 3, 4, 1, 1)})["shown"]
    counts = torch.bincount(shown.sum(dim=1), minlength=4) / 3000
    assert counts[0] == 0 and (counts[1:] - 1 / 3).abs().max() < 0.04


def test_cameras_may_be_known() -> None:
    own = views(drop_cameras=0.5).eval()
    pictures, cameras = torch.rand(2, 2, 4, 16, 16), torch.eye(4).expand(2, 2, 4, 4).clone()
    known, unknown = own.prepare({"view_rgb": pictures, "view_camera": cameras}), own.prepare({"view_rgb": pictures})
    assert known["oriented"].all() and not unknown["oriented"].any()
    assert not torch.allclose(own(known).pooled, own(unknown).pooled)
    many = {"view_rgb": torch.ones(2000, 2, 4, 1, 1), "view_camera": cameras[:1].expand(2000, 2, 4, 4)}
    assert own.train().prepare(many)["oriented"].float().mean().item() == pytest.approx(0.5, abs=0.045)


def test_one_picture_is_what_image_takes() -> None:
    block = {"name": "image", "size": 16, "patch": 8, "depth": 1, "heads": 2, "width": 16}
    own = plugins.build("conditioners", block)
    two = torch.rand(2, 2, 4, 16, 16)
    assert own.prepare({"view_rgb": two})["pictures"].shape == (2, 1, 4, 16, 16)
    own.eval()
    assert torch.equal(own(own.prepare({"view_rgb": two})).pooled, own(own.prepare({"view_rgb": two[:, :1]})).pooled)
    with pytest.raises(MaquetteError, match="at most 1"):
        batch_of(own, Request(images=(disc(16, 0.5, 0.5, 0.4),) * 2))
