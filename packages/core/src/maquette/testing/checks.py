"""Checks that a plugin's author runs on their own parts; maquette's tests run the same ones on ours.

Each raises AssertionError with what is wrong. Operations (kernels) have theirs in ``maquette_kernels.testing``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from torch import Tensor, nn

from maquette.engine.randomness import drawing
from maquette.image_loading import decoded_image
from maquette.testing.stand_in_device import NAME, on_stand_in_device, opened_on
from maquette.types import Asset, Mesh, Request


def check_dataset(build: Callable[[], Any], batches: int = 5, world: int = 2) -> None:
    """A dataset repeats itself, resumes at the exact sample, and shares a batch out over the ranks.

    Args:
        build: gives a fresh data module, the same each time.
        batches: how many training batches to look at.
        world: over how many ranks to share.
    """
    whole = _first_batches(_ready(build()), batches)
    assert len(whole) == batches, f"the training loader ended after {len(whole)} batches; it must be endless"
    for batch, again in zip(whole, _first_batches(_ready(build()), batches), strict=True):
        assert_equal_batches(batch, again, "two fresh datasets disagree")

    interrupted = _ready(build())
    _first_batches(interrupted, batches // 2)
    resumed = _ready(build())
    resumed.load_state_dict(copy.deepcopy(interrupted.state_dict()))
    for batch, again in zip(whole[batches // 2 :], _first_batches(resumed, batches - batches // 2), strict=True):
        assert_equal_batches(batch, again, "a resumed dataset does not continue the sequence")

    shares = [_first_batches(_ready(build(), rank, world), 1)[0] for rank in range(world)]
    for key, value in whole[0].items():
        if isinstance(value, Tensor):
            rows = {_row(row) for share in shares for row in share[key]}
            assert rows == {_row(row) for row in value}, f"the ranks' shares of '{key}' do not make up the batch"
    facts = build_facts(_ready(build()))
    assert OmegaConf.to_container(OmegaConf.create(facts)) == facts, "facts() must be plain data that YAML can hold"
    assert sum(1 for _ in islice(_ready(build()).val_dataloader(), 100_000)) < 100_000, "validation must end"


def build_facts(data: Any) -> dict[str, Any]:
    """A dataset's facts; none where it gives none."""
    return data.facts() if hasattr(data, "facts") else {}


def check_architecture(model: nn.Module, objective: Callable[..., dict[str, Tensor]], batch: Mapping[str, Any]) -> None:
    """A model's declarations name real parts, its loss reaches every parameter, and its weights travel.

    Args:
        model: freshly built.
        objective: one that the model is trained with.
        batch: one that the objective takes.
    """
    modules = dict(model.named_modules())
    blocks = model.blocks()  # type: ignore[operator]
    assert blocks, "blocks() must list the repeated blocks"
    assert all(any(block is module for module in modules.values()) for block in blocks), "blocks() must be submodules"
    for pattern, style in model.tensor_parallel_plan().items():  # type: ignore[operator]
        assert any(fnmatch(name, pattern) for name in modules), (
            f"the tensor-parallel plan's '{pattern}' matches no module"
        )
        assert style in ("gather", "colwise", "rowwise"), f"the tensor-parallel plan's '{pattern}' is '{style}'"
    check_objective(model, objective, batch)
    twin = copy.deepcopy(model)
    twin.load_state_dict(model.state_dict())
    for name, parameter in twin.named_parameters():
        assert torch.isfinite(parameter).all(), f"parameter '{name}' starts out non-finite"


def check_objective(model: nn.Module, objective: Callable[..., dict[str, Tensor]], batch: Mapping[str, Any]) -> None:
    """An objective gives finite scalars, its loss has gradients for the model, and it repeats itself under a seed."""
    torch.manual_seed(0)
    terms = objective(model.train(), batch)
    assert "loss" in terms, "an objective must return a 'loss'"
    for name, value in terms.items():
        if name != "per_sample":
            assert value.ndim == 0 and torch.isfinite(value), f"'{name}' must be a finite scalar"
    model.zero_grad()
    terms["loss"].backward()  # type: ignore[no-untyped-call]
    silent = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not silent, f"the loss does not reach {len(silent)} parameters, e.g. '{silent[0]}'"
    torch.manual_seed(0)
    assert torch.equal(objective(model, batch)["loss"], terms["loss"]), "the loss differs under the same seed"
    if hasattr(objective, "inputs"):
        _check_halves(model, objective, batch)
    model.zero_grad()


@torch.no_grad()
def _check_halves(model: nn.Module, objective: Any, batch: Mapping[str, Any]) -> None:
    """What a pipeline does with an objective and a model gives what one process does."""
    rows = next(len(value) for value in batch.values() if isinstance(value, Tensor) and value.ndim)
    declares: Any = model
    with drawing(0, range(rows)):
        torch.manual_seed(0)  # for what draws without a name
        whole = objective(model, batch)["loss"]
        torch.manual_seed(0)
        output = model(*objective.inputs(model, batch))
        halves = objective.loss(output, objective.target(batch))["loss"]
        assert torch.allclose(halves, whole, rtol=1e-5), "loss(model(*inputs), target) is not what the objective gives"
        if hasattr(model, "begin"):
            torch.manual_seed(0)
            h, *context = declares.begin(*objective.inputs(model, batch))
            assert len(declares.token_axes()) == 1 + len(context), "token_axes() must name each of begin()'s results"
            for block in declares.blocks():
                h = block(h, *context)
            staged = objective.loss(declares.finish(h, *context), objective.target(batch))["loss"]
            assert torch.allclose(staged, whole, rtol=1e-5), "forward() is not begin(), the blocks and finish()"


def check_exporter(export: Callable[[Asset, Path], Any], path: Path) -> None:
    """An exporter writes a file, replaces it whole, and leaves nothing else behind."""
    vertices = np.array([[0, 0, 0], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5]], np.float32)
    faces = np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]], np.int32)
    asset = Asset(Mesh(vertices, faces))
    for _ in range(2):
        export(asset, path)
    left = [p.name for p in path.parent.iterdir() if p.name.startswith(".")]
    assert path.stat().st_size > 0 and not left, f"the exporter left {left} beside '{path.name}'"


def check_pipeline(pipeline: Any, request: Request) -> None:
    """A pipeline gives the same asset for the same request, alone or in company."""
    first, again = pipeline(request), pipeline(request)
    assert np.array_equal(first.mesh.vertices, again.mesh.vertices), "the same request gave two different meshes"
    other = Request(prompt=request.prompt, seed=request.seed + 1)
    together = pipeline.batch([other, request])
    assert len(together) == 2, "batch() must give one asset a request"
    assert np.allclose(together[1].mesh.vertices[:1], first.mesh.vertices[:1], atol=1e-3), "company changes the mesh"


def check_pipeline_on_device(opened: Callable[[], Any], request: Request) -> None:
    """What models of a pipeline compute is computed on a device that is not the CPU, and the asset is the same.

    Args:
        opened: opens the pipeline, whose runs come onto `maquette.inference_device`.
        request: to be met.
    """
    with opened_on("cpu"):
        one = opened()(request).mesh
    two, computations = on_stand_in_device(lambda: opened()(request).mesh)
    assert computations, f"nothing was computed on {NAME}; open runs with load_run(..., inference_device())"
    a, b = (torch.from_numpy(mesh.vertices) for mesh in (one, two))
    for some, others in ((a, b), (b, a)):
        distances = [torch.cdist(part, others).amin(dim=1).max() for part in torch.split(some, 1024)]
        assert max(distances) < 1e-3, "the mesh is another one than on the CPU"
    if one.colors is not None and one.colors.shape == two.colors.shape:
        assert np.abs(one.colors.astype(float) - two.colors).mean() < 1, "its colours are others than on the CPU"
    for image, other in zip(one.images, two.images, strict=True):
        away = np.abs(decoded_image(image).astype(float) - decoded_image(other))
        assert away.mean() < 1, "its textures are others than on the CPU"
    if one.skin is not None:
        assert np.allclose(one.skin.weights, two.skin.weights, atol=1e-3), "its weights are others than on the CPU"
    if one.part is not None:
        assert (one.part == two.part).mean() > 0.99, "its parts are others than on the CPU"


def assert_equal_batches(one: Mapping[str, Any], two: Mapping[str, Any], message: str) -> None:
    """Two batches hold the same keys and the same values, bit for bit."""
    assert one.keys() == two.keys(), f"{message}: keys {sorted(one)} and {sorted(two)}"
    for key, value in one.items():
        same = torch.equal(value, two[key]) if isinstance(value, Tensor) else value == two[key]
        assert same, f"{message}, at '{key}'"


def _ready(data: Any, rank: int = 0, world: int = 1) -> Any:
    data.rank, data.world = rank, world
    data.prepare_data()
    data.setup("fit")
    return data


def _first_batches(data: Any, count: int) -> list[Mapping[str, Any]]:
    return list(islice(iter(data.train_dataloader()), count))


def _row(row: Tensor) -> bytes:
    return row.contiguous().view(-1).numpy().tobytes()
