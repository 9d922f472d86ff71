"""Paint of surface points, encoded by cell and decoded at any point."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from maquette import plugins
from maquette.engine.randomness import drawing
from maquette.errors import MaquetteError
from maquette.runs import load_run
from maquette.testing import check_dataset, on_stand_in_device
from maquette_models.texturing.paint_vae import PaintVAE, PaintVAEConfig
from maquette_models.texturing.painted_points import Cells, PaintedPoints
from tests.models.texturing import toy_paints

SMALL = {"name": "paint_vae", "resolution": 4, "detail_channels": 3, "shape_channels": 2, "width": 16}


def balls(rows: int, count: int, seed: int = 0) -> PaintedPoints:
    generator = torch.Generator().manual_seed(seed)
    normals = torch.nn.functional.normalize(torch.randn(rows, count, 3, generator=generator), dim=-1)
    return PaintedPoints(normals * 0.4, normals, torch.rand(rows, count, 6, generator=generator) * 2 - 1)


def test_points_know_their_cells_and_cells_the_mean_of_their_points() -> None:
    points = balls(2, 50)
    cells = Cells.of(points.places, 4)
    where = ((points.places + 0.5) * 4).floor().int().view(-1, 3)
    assert torch.equal(cells.coords[cells.owner, 1:], where)
    assert torch.equal(cells.coords[cells.owner, 0], torch.arange(2, dtype=torch.int32).repeat_interleave(50))
    assert cells.counts.sum() == len(cells.coords) == len({tuple(row) for row in cells.coords.tolist()})
    flat = points.paint.flatten(0, 1)
    for number in (0, len(cells.coords) - 1):
        torch.testing.assert_close(cells.means(flat)[number], flat[cells.owner == number].mean(dim=0))


def test_a_new_autoencoder_gives_plain_paint_back() -> None:
    """The latent holds the mean paint and the decoder starts by adding nothing."""
    model = PaintVAE(PaintVAEConfig(4, 3, 2, 16)).eval()
    points = balls(2, 200)
    plain = PaintedPoints(points.places, points.normals, points.paint[:, :1].expand(-1, 200, -1))
    torch.testing.assert_close(model(plain, points).paint, plain.paint, atol=1e-5, rtol=0)


def test_a_row_is_what_it_is_alone() -> None:
    model = PaintVAE(PaintVAEConfig(4, 3, 2, 16)).eval()
    torch.nn.init.normal_(model.decoder[-1].weight)
    points = balls(3, 100)
    both = model(points, points).paint
    one = PaintedPoints(*(part[1:2] for part in (points.places, points.normals, points.paint)))
    torch.testing.assert_close(model(one, one).paint[0], both[1], atol=1e-5, rtol=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2), st.integers(1, 3), st.floats(-0.3, 0.3), st.integers(0, 2**16))
def test_paint_does_not_jump_between_cells(axis: int, border: int, along: float, seed: int) -> None:
    torch.manual_seed(seed)
    model = PaintVAE(PaintVAEConfig(4, 3, 2, 16)).eval()
    torch.nn.init.normal_(model.decoder[-1].weight)
    axes = torch.linspace(-0.49, 0.49, 12)
    filled = torch.cartesian_prod(axes, axes, axes)[None]  # points in every cell
    cells, shape = model.shape(filled, torch.zeros_like(filled))
    latent = torch.randn(len(cells.coords), model.channels)
    sides = torch.full((1, 2, 3), along)
    sides[0, :, axis] = border / 4 - 0.5 + torch.tensor([-1e-5, 1e-5])
    one, other = model.decode(latent, shape, cells, sides, torch.zeros_like(sides))[0]
    assert (one - other).abs().max() < 0.02


def test_noise_of_a_sample_does_not_depend_on_its_neighbours() -> None:
    model = plugins.build("architectures", SMALL)
    objective = plugins.build("objectives", {"name": "paint_vae", "queries": 32})
    model.train()
    points = balls(3, 96)
    batch = as_batch(points)
    with drawing(0, [5, 6, 7]):
        whole = model(*objective.inputs(model, batch))
    with drawing(0, [6]):
        alone = model(*objective.inputs(model, {key: value[1:2] for key, value in batch.items()}))
    element = Cells.of(points.places[:, :64], 4).coords[:, 0]
    torch.testing.assert_close(alone.mean, whole.mean[element == 1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(alone.paint[0], whole.paint[1], atol=1e-5, rtol=1e-5)


def as_batch(points: PaintedPoints) -> dict[str, Any]:
    unit = points.paint * 0.5 + 0.5
    material = (unit[..., 3:5] * 255).round().to(torch.uint8)
    return {
        "surface": points.places,
        "normals": points.normals,
        "surface_color": unit[..., :3],
        "surface_material": material,
    }


def test_gradients_reach_every_weight() -> None:
    model = plugins.build("architectures", SMALL).train()
    torch.nn.init.normal_(model.decoder[-1].weight)
    objective = plugins.build("objectives", {"name": "paint_vae", "queries": 32})
    terms = objective(model, as_batch(balls(2, 96)))
    terms["loss"].backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in model.parameters())
    assert set(terms) == {"loss", "paint", "kl"}


def test_clear_refusals() -> None:
    objective = plugins.build("objectives", {"name": "paint_vae", "queries": 96})
    with pytest.raises(MaquetteError, match=r"96 queries of 96 points"):
        objective.inputs(plugins.build("architectures", SMALL), as_batch(balls(1, 96)))
    with pytest.raises(MaquetteError, match="surface_material"):
        PaintedPoints.of_batch({"surface": torch.zeros(1, 2, 3), "normals": 0, "surface_color": 0})
    with pytest.raises(MaquetteError, match="resolution 1"):
        plugins.build("architectures", {**SMALL, "resolution": 1})


def test_training_beats_the_mean_paint(toy_runs: Path) -> None:
    model = load_run(toy_runs / "autoencoder").model
    points = PaintedPoints.of_batch(toy_paints.batch([toy_paints.Toy(number) for number in range(52, 64)]))
    seen, asked = points.window(0, 512), points.window(512, 640)
    error = (model(seen, asked).paint - asked.paint).abs().mean()
    of_mean = (seen.paint.mean(dim=1, keepdim=True) - asked.paint).abs().mean()
    assert error < 0.3 * of_mean


def dataset(runs: Path, **changes: Any) -> Any:
    block = {"name": "paint_latents", "shards": "toy", "reader": "toy_paints", "batch_size": 8}
    data = plugins.build("datasets", {**block, "autoencoder": str(runs / "autoencoder"), **changes})
    data.setup("fit")
    return data


def test_dataset_contract(toy_runs: Path) -> None:
    check_dataset(lambda: dataset(toy_runs), batches=10)


def test_latents_are_encoded_on_another_device(toy_runs: Path, tmp_path: Path) -> None:
    shutil.copytree(toy_runs / "autoencoder", tmp_path / "autoencoder", ignore=shutil.ignore_patterns("*latents-*"))
    before = dataset(toy_runs).splits["val"]
    made, _ = on_stand_in_device(lambda: dataset(tmp_path).splits["val"])
    assert made.latent.device.type == "cpu" and torch.equal(made.voxels, before.voxels)
    torch.testing.assert_close(made.latent, before.latent, atol=1e-4, rtol=1e-4)


def test_latents_and_what_is_given_are_those_of_the_autoencoder(toy_runs: Path) -> None:
    data = dataset(toy_runs)
    facts, part = data.facts(), data.val_dataloader()[0]
    model = load_run(toy_runs / "autoencoder").model
    raw = toy_paints.batch([toy_paints.Toy(int(name.removeprefix("toy-"))) for name in part["id"]])
    points = PaintedPoints.of_batch(raw)
    cells, shape = model.shape(points.places, points.normals)
    expected, _ = model.moments(points, cells, shape)
    mask = part["token_mask"]
    assert torch.equal(part["positions"][mask], cells.coords[:, 1:].float())
    for key, own in (("latent", expected), ("given", shape)):
        mean, std = (torch.tensor(facts[f"{key}_{name}"]) for name in ("mean", "std"))
        assert part[key].shape[-1] == facts[f"{key}_channels"] == len(mean)
        torch.testing.assert_close((part[key] * std + mean)[mask], own, atol=1e-4, rtol=1e-4)
        assert not part[key][~mask].any()


def test_twins_are_mirrored_and_facts_of_an_earlier_run_are_kept_to(toy_runs: Path) -> None:
    data = dataset(toy_runs)
    train = data.splits["train"]
    half = len(train) // 2
    assert train.id[half] == f"{train.id[0]}-mirrored"
    own, twin = (train.voxels[train.offsets[row] : train.offsets[row + 1]] for row in (0, half))
    assert {tuple(cell) for cell in twin.tolist()} == {(3 - x, y, z) for x, y, z in own.tolist()}
    other = plugins.build("datasets", {**block_of(toy_runs)})
    facts = {**data.facts(), "latent_mean": [1.0] * 12, "given_std": [2.0] * 4}
    other.adopt_facts(facts)
    other.setup("fit")
    assert other.facts()["latent_mean"] == [1.0] * 12 and other.facts()["given_std"] == [2.0] * 4


def block_of(runs: Path) -> dict[str, Any]:
    autoencoder = str(runs / "autoencoder")
    return {"name": "paint_latents", "shards": "toy", "reader": "toy_paints", "autoencoder": autoencoder}
