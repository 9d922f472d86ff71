"""The pipeline `edit` on a toy run: what stays, what repeats, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from maquette import plugins
from maquette.assets import export, import_mesh, open_pipeline
from maquette.cli import cli
from maquette.cli import run as call
from maquette.errors import MaquetteError
from maquette.runs import RunFolder
from maquette.testing import check_pipeline, check_pipeline_on_device
from maquette.types import Asset, Mesh, Request
from maquette_kernels.ops import MeshQuery
from maquette_models.editing import mesh_edits
from maquette_models.editing.agreement import agreement
from maquette_models.editing.edit import coarse
from maquette_models.editing.regions import region_mask
from maquette_models.metrics.mesh_topology import is_closed, topology
from maquette_models.surface_points import surface_points
from tests.models import toy_shapes as toy

toy.install()

EXTRACT = 32
UPPER = {"region": "upper half"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    toy.train_autoencoder(root / "autoencoder", steps=60)
    flow = RunFolder(toy.train_flow(root / "flow", root / "autoencoder", steps=40))
    config = flow.read_config()
    config.facts.truncation = 0.1
    flow.write_config(config)
    return flow.path


@pytest.fixture(scope="module")
def pipeline(run: Path) -> Any:
    return open_pipeline(run, {"name": "edit", "extract": EXTRACT, "rounds": 2, "candidates": 2})


@pytest.fixture(scope="module")
def box() -> Mesh:
    tsdf, color, _, _ = toy.shape(9)
    return plugins.build("decoders", {"name": "marching_cubes"})(tsdf, color)


def request(box: Mesh, seed: int = 0, **options: Any) -> Request:
    return Request("a blue ball", seed, mesh=box, options=options or UPPER)


def moved(one: Mesh, other: Mesh, mask: np.ndarray) -> np.ndarray:
    points = surface_points(one, 4000)[0]
    cell = ((points.numpy() + 0.5) * len(mask)).astype(np.int64).clip(0, len(mask) - 1)
    query = MeshQuery(torch.from_numpy(other.vertices), torch.from_numpy(other.faces))
    return query.closest(points[torch.from_numpy(~mask[tuple(cell.T)])])[0].numpy()


def test_pipeline_contract(pipeline: Any, box: Mesh) -> None:
    check_pipeline(pipeline, request(box))


@pytest.mark.parametrize("options", [UPPER, {**UPPER, "release": 0.0}, {"variation": 0.5}])
def test_models_compute_on_another_device(run: Path, box: Mesh, options: dict[str, Any]) -> None:
    block = {"name": "edit", "extract": EXTRACT, "rounds": 2, "candidates": 2}
    asked = replace(request(box, **options), steps=3)
    check_pipeline_on_device(lambda: open_pipeline(run, block), asked)


def test_outside_the_region_the_surface_stays_and_inside_it_does_not(pipeline: Any, box: Mesh) -> None:
    mask = region_mask(box, UPPER, EXTRACT, 0.0)
    edited = pipeline(request(box, seed=2)).mesh
    assert is_closed(edited)
    for one, other in ((box, edited), (edited, box)):
        assert moved(one, other, mask).max() < 1 / toy.RESOLUTION / 2
    assert moved(box, edited, ~mask).mean() > moved(box, edited, mask).mean()
    above = edited.vertices[:, 1] > 0.1
    assert edited.colors[above, 2].mean() > 100 > edited.colors[~above, 2].mean()  # blue, on a red box


def decoded(pipeline: Any, asked: Request, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    """The latent that the mesh of a request was decoded from."""
    seen: list[torch.Tensor] = []
    fields = pipeline.fields
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "fields", lambda latent: seen.append(latent) or fields(latent))
        pipeline(asked)
    return seen[0]


def test_what_is_not_free_is_the_meshs_own_at_no_release_and_led_by_the_prompt_too_at_others(
    pipeline: Any, box: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = pipeline.latent(box)
    free = coarse(region_mask(box, UPPER, EXTRACT, 0.0), known.shape[-1]).expand_as(known)
    inpainted = decoded(pipeline, request(box, **UPPER, release=0.0), monkeypatch)
    assert torch.equal(inpainted[~free], known[~free]) and not torch.equal(inpainted[free], known[free])
    assert 0 < free.float().mean() < 1
    some, much = (
        decoded(pipeline, request(box, **UPPER, release=release, candidates=1), monkeypatch) - known
        for release in (0.3, 0.95)
    )
    assert 0 < some[~free].square().mean() < much[~free].square().mean()


def test_guidance_leads_away_from_the_source(pipeline: Any, box: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    """From what the mesh already is to the same there is nothing to lead; to another colour there is."""
    same, scaled, other = (
        decoded(pipeline, Request(prompt, 3, guidance=guidance, mesh=box, options=options), monkeypatch)
        for prompt, guidance, options in (
            ("a red box", 1.0, {"variation": 0.8}),
            ("a red box", 5.0, {"variation": 0.8, "source": "a red box"}),
            ("a blue box", 5.0, {"variation": 0.8, "source": "a red box"}),
        )
    )
    torch.testing.assert_close(same, scaled, atol=1e-3, rtol=1e-3)
    assert (other - scaled).abs().max() > 0.1
    asset = pipeline(request(box, variation=0.1, source="a red gnomon"))
    assert asset.metadata["unknown_words"] == ["gnomon"]


@pytest.mark.parametrize("release", [0.0, 0.8])
def test_the_candidate_that_agrees_best_is_kept(
    pipeline: Any, box: Mesh, release: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what candidates have in the region, beside what the mesh has elsewhere."""
    drawn: list[torch.Tensor] = []
    measure = mesh_edits.agreement
    monkeypatch.setattr(
        mesh_edits, "agreement", lambda field, latent, *a: drawn.append(latent) or measure(field, latent, *a)
    )
    kept = decoded(pipeline, request(box, **UPPER, release=release, candidates=5), monkeypatch)
    free = coarse(region_mask(box, UPPER, EXTRACT, 0.0), kept.shape[-1])
    order = pipeline.stage.complete(Request("a blue ball"))
    found = agreement(pipeline.velocity([order] * 5), drawn[0], free, seed=0)
    assert len(drawn[0]) == 5 and found.std() > 0
    best = drawn[0][int(found.argmax())]
    assert torch.equal(torch.where(free, kept, pipeline.latent(box))[0], best)
    pipeline(request(box, **UPPER, candidates=1))
    assert len(drawn) == 1, "one alone is not measured"


def test_shapes_agree_with_their_own_prompts(pipeline: Any) -> None:
    """Coloured balls and boxes of the data, each against another prompt: the colour is all that the cells can tell."""
    shapes = [toy.shape(number) for number in range(1, 13)]
    latents = torch.cat([pipeline.autoencoder.encode(tsdf[None], color[None]) for tsdf, color, _, _ in shapes])
    latents = (latents - pipeline.mean) / pipeline.std
    free = torch.ones(1, 1, *latents.shape[2:], dtype=torch.bool)
    by_prompt = {}
    for name in ("a red box", "a blue box"):
        order = pipeline.stage.complete(Request(name))
        by_prompt[name] = agreement(pipeline.velocity([order] * len(latents)), latents, free, seed=1)
    red = torch.tensor([" red " in caption for *_, caption in shapes])
    prefers_red = by_prompt["a red box"] - by_prompt["a blue box"]
    assert prefers_red[red].mean() > prefers_red[~red].mean()


def test_requests_do_not_disturb_each_other(pipeline: Any, box: Mesh) -> None:
    asked = [request(box, 1), request(box, 1, region="nowhere"), request(box, 1, variation=0.5), request(box, 2)]
    results = pipeline.batch(asked)
    assert isinstance(results[1], MaquetteError)
    alone = pipeline(request(box, 2))
    assert np.array_equal(results[3].mesh.vertices, alone.mesh.vertices)
    assert not np.array_equal(results[0].mesh.colors, alone.mesh.colors)
    assert [results[i].metadata["edit"] for i in (0, 2, 3)] == ["region", "variation", "region"]


def test_a_variation_of_no_strength_is_the_autoencoders_own_and_interpolation_has_its_ends(
    pipeline: Any, box: Mesh
) -> None:
    field = pipeline.edit(request(box, variation=0.0))[1]
    assert torch.equal(field, pipeline.fields(pipeline.latent(box))[0])
    tsdf, color, _, _ = toy.shape(2)
    ball = plugins.build("decoders", {"name": "marching_cubes"})(tsdf, color)
    ends = [pipeline.edit(request(box, toward=ball, at=at, strength=0.0))[1] for at in (0.0, 1.0)]
    for end, mesh in zip(ends, (box, ball), strict=True):
        torch.testing.assert_close(end, pipeline.fields(pipeline.latent(mesh))[0], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "an edit is one of: box, part, region, variation, toward; got none"),
        ({"regoin": "top"}, "unknown option 'regoin' of an edit; did you mean 'region'"),
        ({"region": "top", "variation": 0.3}, "an edit is one of"),
        ({"variation": 1.5}, "must be a number from 0 to 1"),
        ({"toward": "x.glb"}, "'toward' of an edit must be a mesh"),
        ({"region": "top", "release": 2}, "option 'release' of an edit is 2; it must be a number from 0 to 1"),
        ({"region": "top", "candidates": 0}, "'candidates' of an edit is 0; it must be a whole number of at least 1"),
    ],
)
def test_mistakes_are_one_line(pipeline: Any, box: Mesh, options: dict[str, Any], message: str) -> None:
    with pytest.raises(MaquetteError, match=message):
        pipeline(Request("a ball", mesh=box, options=options))
    with pytest.raises(MaquetteError, match="needs a mesh"):
        pipeline(Request("a ball", options=UPPER))


def test_the_command_reads_a_file_and_writes_one(run: Path, box: Mesh, tmp_path: Path) -> None:
    export(Asset(box), tmp_path / "box.glb")
    words = ["edit", str(run), "--mesh", str(tmp_path / "box.glb"), "--prompt", "a red ball", "extract=16"]
    words += ["--source", "a red box"]
    out = ["--out", str(tmp_path / "out.glb")]
    assert call(cli, [*words, "--region", "top", *out], standalone_mode=False) == 0
    assert topology(import_mesh(tmp_path / "out.glb")).closed  # a file may have a vertex once for each normal
    for more in ([], ["--region", "nowhere"], ["--toward", str(tmp_path / "none.glb")]):
        assert call(cli, [*words, *more, "--out", str(tmp_path / "none.glb")], standalone_mode=False) == 1
    assert not (tmp_path / "none.glb").exists()
