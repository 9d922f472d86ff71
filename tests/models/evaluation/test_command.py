"""`maquette eval` on toy runs: what it writes, that it repeats itself, what it refuses; pictures and comparisons."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image

from maquette.cli import cli
from maquette.errors import MaquetteError
from maquette.report import Figure
from maquette.types import Mesh
from maquette_models.evaluation.comparison import compared, write_comparison
from maquette_models.evaluation.pictures import contact_sheet, picture


def evaluate(*words: Any) -> Result:
    return CliRunner().invoke(cli, ["eval", *map(str, words)], catch_exceptions=False)


def test_an_autoencoder(shards: str, runs: Path, tmp_path: Path) -> None:
    for out in (tmp_path / "one", tmp_path / "two"):
        done = evaluate(runs / "autoencoder", "--data", shards, "--out", out, "--limit", 3)
        assert done.exit_code == 0 and "reconstruction: unseen_pairs" in done.output
    found = json.loads((tmp_path / "one" / "metrics.json").read_text())
    assert set(found) == {"reconstruction: val", "reconstruction: unseen_pairs"}
    iou = found["reconstruction: val"]["iou"]
    assert iou["n"] == 3 and iou["interval"][0] <= iou["value"] <= iou["interval"][1]
    assert "nearest training shape instead" in iou["beside"]
    for name in ("metrics.json", "samples.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    page = (tmp_path / "one" / "report.html").read_text()
    assert "95 % interval" in page and "data:image/png;base64" in page


def test_a_generator_against_another(shards: str, runs: Path, tmp_path: Path) -> None:
    captions = tmp_path / "captions.txt"
    captions.write_text("a red car\na blue chair\n")
    flow = (runs / "flow", "--data", shards, "--captions", captions)
    done = evaluate(*flow, "--out", tmp_path / "out", "--against", runs / "autoencoder", "--limit", 2)
    assert done.exit_code == 0
    figures = json.loads((tmp_path / "out" / "metrics.json").read_text())["conditional: captions.txt"]
    assert figures["class_accuracy"]["n"] == 2 and "empty_share" in figures
    assert "matched_iou" not in figures, "captions of no shapes"
    both = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert str(runs / "autoencoder") in both["reconstruction: val"]["iou"]
    assert "Compared: reconstruction: val" in (tmp_path / "out" / "report.html").read_text()


def test_one_split_alone(shards: str, runs: Path, tmp_path: Path) -> None:
    done = evaluate(runs / "autoencoder", "--data", shards, "--out", tmp_path, "--limit", 2, "--split", "unseen_pairs")
    assert done.exit_code == 0
    assert set(json.loads((tmp_path / "metrics.json").read_text())) == {"reconstruction: unseen_pairs"}
    with pytest.raises(MaquetteError, match="split 'train'"):
        evaluate(runs / "autoencoder", "--data", shards, "--out", tmp_path, "--split", "train")


def test_what_it_refuses(shards: str, runs: Path, tmp_path: Path) -> None:
    with pytest.raises(MaquetteError, match="does not exist"):
        evaluate(tmp_path / "nothing", "--data", shards)
    with pytest.raises(MaquetteError, match="once"):
        evaluate(runs / "flow", "--data", shards, "--against", runs / "flow")
    with pytest.raises(MaquetteError, match="nowhere"):
        evaluate(runs / "flow", "--data", tmp_path / "nowhere")


def test_comparisons_say_what_is_clear(tmp_path: Path) -> None:
    one = {"group": {"share": Figure(0.5, 100, {}, (0.4, 0.6)), "count": Figure(3.0, 5)}}
    other = {"group": {"share": Figure(0.8, 100, {}, (0.7, 0.87))}, "more": {"figure": Figure(1.0, 1)}}
    write_comparison(tmp_path / "c.json", {"a": one, "b": other})
    found = json.loads((tmp_path / "c.json").read_text())
    share = found["group"]["share"]["b"]
    assert share["difference"] == pytest.approx(0.3) and share["clear"]
    assert share["difference_interval"] == pytest.approx([0.3 - 0.02**0.5, 0.3 + (0.07**2 + 0.1**2) ** 0.5])
    assert set(found["more"]["figure"]) == {"b"} and "difference" not in found["group"]["share"]["a"]
    tables = compared({"a": one, "b": other})
    assert [table.title for table in tables] == ["Compared: group", "Compared: more"]
    assert tables[0].rows[0][:2] == ["share", "0.5"] and tables[0].rows[0][2].startswith("0.8 (+0.3, ")
    assert tables[0].rows[1] == ["count", "3", ""]


def square(z: float, color: tuple[int, int, int], size: float = 0.3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    corners = np.array([[-size, -size, z], [size, -size, z], [size, size, z], [-size, size, z]])
    return corners, np.array([[0, 1, 2], [0, 2, 3]]), np.tile([*color, 255], (4, 1))


def mesh(*parts: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Mesh:
    vertices, faces, colors = zip(*parts, strict=True)
    return Mesh(
        np.concatenate(vertices), np.concatenate([f + 4 * i for i, f in enumerate(faces)]), np.concatenate(colors)
    )


def test_pictures_show_the_front_with_y_up() -> None:
    image = picture(mesh(square(0.02, (200, 0, 0)), square(-0.02, (0, 0, 200))), 64).astype(int)
    red, blue = ((image[..., c] > image[..., 2 - c] + 60).sum() for c in (0, 2))
    assert red > 5 * max(blue, 1), "the square in front hides the one behind"
    assert image[0, 0].tolist() == [250, 250, 252]
    flag = picture(mesh((square(0, (0, 200, 0), 0.1)[0] + [0, 0.35, 0], *square(0, (0, 200, 0))[1:])), 64).astype(int)
    rows = np.flatnonzero((flag[..., 1] > flag[..., 0] + 60).any(axis=1))
    assert rows.max() < 32, "above the middle"
    right = picture(mesh((square(0, (0, 200, 0), 0.1)[0] + [0.35, 0, 0], *square(0, (0, 200, 0))[1:])), 64).astype(int)
    assert np.flatnonzero((right[..., 1] > right[..., 0] + 60).any(axis=0)).min() > 32, "x to the right"


def test_a_contact_sheet(tmp_path: Path) -> None:
    tiles = [(mesh(square(0, (200, 0, 0))), "a red square with a long caption that needs three lines at least")] * 7
    first, second = (contact_sheet([*tiles, (None, "nothing")], tmp_path / f"{n}.png") for n in "ab")
    assert first.read_bytes() == second.read_bytes()
    assert Image.open(first).size == (6 * 176, 2 * (176 + 28))
