"""A user's picture reaches the encoder as training's pictures do: read from a file, cut as it may be, framed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from maquette import plugins
from maquette.cli import cli
from maquette.types import Request
from maquette_models.conditioners.request_batch import batch_of
from maquette_serve.picture_files import read_picture
from tests.models import toy_shapes as toy
from tests.models.conditioners import pictured_shapes as pictured

pictured.install()

IMAGE = {"name": "image", "size": 16, "patch": 8, "width": 16, "depth": 1, "heads": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pictures")
    toy.train_autoencoder(root / "autoencoder", steps=60)
    return pictured.train_flow(root / "flow", root / "autoencoder", IMAGE, {"fields": ["view_rgb"]}, steps=30)


def stored(number: int) -> torch.Tensor:
    """The first picture of a training shape, as batches hold it: [1,1,4,S,S]."""
    return pictured.extra(number)["view_rgb"][None, :1]


def as_file(picture: torch.Tensor, path: Path, margin: int = 0) -> Path:
    pixels = (picture[0, 0] * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(np.pad(pixels, ((margin, 0), (2 * margin, margin), (0, 0)))).save(path)
    return path


def seen(path: Path) -> torch.Tensor:
    """What the encoder gets of a file that a request names, by the way that `maquette sample --image` goes."""
    own = plugins.build("conditioners", IMAGE).eval()
    return own.prepare(batch_of(own, Request(images=(read_picture(path),))))["pictures"]


@pytest.mark.parametrize("margin", [0, 5])
def test_a_file_is_seen_as_the_stored_picture_is(tmp_path: Path, margin: int) -> None:
    trained = plugins.build("conditioners", IMAGE).eval().prepare({"view_rgb": stored(3)})["pictures"]
    used = seen(as_file(stored(3), tmp_path / "picture.png", margin))
    assert used.shape == trained.shape == (1, 1, 4, 16, 16)
    assert (used - trained).abs().mean() < 0.05 * trained.std()


def test_the_command_sees_the_object_and_not_the_cut(run: Path, tmp_path: Path) -> None:
    made = {}
    for name, number, margin in (("tight", 3, 0), ("wide", 3, 5), ("other", 2, 0)):
        out, file = tmp_path / f"{name}.glb", as_file(stored(number), tmp_path / f"{name}.png", margin)
        done = CliRunner().invoke(cli, ["sample", str(run), "--image", str(file), "--out", str(out)])
        assert done.exit_code == 0, done.output
        made[name] = out.read_bytes()
    assert made["tight"] == made["wide"] != made["other"]
