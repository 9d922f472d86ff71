"""Students of frozen runs: what they are taught, that they learn it, and that averaged targets survive a resumption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from maquette import plugins
from maquette.engine.ema import WeightAverages
from maquette.engine.randomness import drawing
from maquette.errors import MaquetteError
from maquette.runner import resume_config, train
from maquette.runs import load_run
from maquette_models.objectives.consistency_flow import ConsistencyFlow
from maquette_models.samplers.guidance import Guided
from maquette_models.samplers.timesteps import timesteps
from tests.models.objectives import toy_latents as toy

toy.install()


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a flow that has learnt the two classes."""
    return toy.train_toy(tmp_path_factory.mktemp("runs") / "teacher", 100, {"name": "flow_matching"})


def objective(name: str, teacher: Path, **keys: Any) -> Any:
    return plugins.build("objectives", {"name": name, "teacher": str(teacher), **keys})


def samples(run: Path, scale: float, steps: int, shift: float = 1.0) -> Tensor:
    """32 of class "high" from the same noises."""
    model = load_run(run).model
    with torch.inference_mode():
        condition = model.encode_condition(model.conditioner.prepare({"class_id": [1] * 32}))
        null = model.encode_condition(model.conditioner.null(32))
        field = Guided(model, condition, null, torch.full((32,), scale))
        noise = torch.randn(32, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
        return plugins.build("samplers", {"name": "euler", "steps": steps, "shift": shift}).sample(field, noise)


def test_a_student_starts_as_the_conditional_teacher_and_learns_its_guidance(teacher: Path, tmp_path: Path) -> None:
    distilling = {"name": "guidance_distillation", "teacher": str(teacher), "guidance": [1.0, 4.0]}
    student = toy.train_toy(tmp_path / "student", 60, distilling, start_from=str(teacher))
    guided, distilled = samples(teacher, 3.0, 20), samples(student, 3.0, 20)
    plain = samples(teacher, 1.0, 20)
    assert (distilled - guided).square().mean() < 0.3 * (plain - guided).square().mean()


def test_the_weights_a_student_has_more_start_silent(teacher: Path, tmp_path: Path) -> None:
    distilling = {"name": "guidance_distillation", "teacher": str(teacher)}
    frozen = {"optimizer": {"learning_rate": 0.0, "weight_decay": 0.0}}
    student = load_run(toy.train_toy(tmp_path / "student", 1, distilling, start_from=str(teacher), **frozen)).model
    own = load_run(teacher).model
    data = toy.ToyLatents(toy.ToyLatentsConfig(4)).batch(0)
    prepared, t = own.conditioner.prepare(data), torch.full((4,), 0.5)
    scaled = {**prepared, "guidance": torch.tensor([1.0, 2.0, 3.0, 4.0])}
    torch.testing.assert_close(student(data["latent"], t, scaled), own(data["latent"], t, prepared))


def test_a_student_without_an_input_for_guidance_is_refused(teacher: Path, tmp_path: Path) -> None:
    distilling = {"name": "guidance_distillation", "teacher": str(teacher)}
    with pytest.raises(MaquetteError, match=r"model\.guidance_embedding=true"):
        toy.train_toy(tmp_path / "student", 1, distilling, model={"guidance_embedding": False})


def test_other_weights_must_still_be_there(teacher: Path, tmp_path: Path) -> None:
    distilling = {"name": "guidance_distillation", "teacher": str(teacher)}
    with pytest.raises(MaquetteError, match="weights of another architecture"):
        toy.train_toy(tmp_path / "student", 1, distilling, start_from=str(teacher), model={"depth": 3})


def test_what_is_taught_is_the_guided_velocity_of_each_scale(teacher: Path) -> None:
    distilling, model = objective("guidance_distillation", teacher), load_run(teacher).model
    data = toy.ToyLatents(toy.ToyLatentsConfig(4)).batch(0)
    prepared, t = model.conditioner.prepare(data), torch.tensor([0.2, 0.4, 0.6, 0.9])
    scale = torch.tensor([1.0, 2.0, 3.0, 5.0])
    taught = distilling.taught(data["latent"], t, {**prepared, "guidance": scale})
    with torch.no_grad():
        conditional = model(data["latent"], t, prepared)
        without = model(data["latent"], t, model.conditioner.null(4))
    expected = without + scale.view(-1, 1, 1, 1, 1) * (conditional - without)
    torch.testing.assert_close(taught, expected, atol=1e-5, rtol=1e-5)
    assert not taught.requires_grad


@pytest.mark.parametrize(
    ("keys", "message"),
    [({"teacher": "nowhere"}, "'nowhere' is not a run"), ({"guidance": [3.0, 1.0]}, "least and the largest")],
)
def test_bad_settings_are_refused(teacher: Path, keys: dict[str, Any], message: str) -> None:
    for name in ("guidance_distillation", "consistency_flow"):
        with pytest.raises(MaquetteError, match=message):
            plugins.build("objectives", {"name": name, "teacher": str(teacher), **keys})


class Bent(nn.Module):
    """A velocity that is weight times x, with the parts of a model that objectives ask for."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight))
        self.config = type("Config", (), {"guidance_embedding": True})()

    @property
    def conditioner(self) -> Bent:
        return self

    def prepare(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        return {}

    def null(self, rows: int) -> dict[str, Tensor]:
        return {}

    def encode_condition(self, prepared: dict[str, Tensor]) -> dict[str, Tensor]:
        return dict(prepared)

    def forward(self, x: Tensor, t: Tensor, condition: dict[str, Tensor]) -> Tensor:
        return self.weight * x


def consistency(teacher: Path, **keys: Any) -> ConsistencyFlow:
    made = objective("consistency_flow", teacher, **keys)
    made.__dict__["teacher"] = Bent(0.5)  # in place of the run's model
    return made


def test_segments_end_where_the_sampler_goes(teacher: Path) -> None:
    distilling = consistency(teacher, segments=4, substeps=3, shift=2.0)
    with drawing(seed=0, keys=range(200)):
        t, t_next, end = distilling.draw_times({"latent": torch.zeros(200, 1)})
    grid = timesteps(4, 2.0)
    assert set(end.tolist()) == set(grid[1:].tolist())
    assert (t > t_next).all() and (t_next >= end).all() and len(set(t.tolist())) == 12


def test_targets_follow_the_teacher_and_then_the_averaged_student(teacher: Path) -> None:
    distilling, student = consistency(teacher), Bent(1.0)
    averages = WeightAverages(student, [0.9])
    averages.weights[0.9]["weight"].fill_(2.0)
    distilling.follow([averages])
    x, times = torch.ones(1, 3), tuple(torch.tensor([value]) for value in (0.8, 0.7, 0.5))
    prepared = {"guidance": torch.ones(1)}
    there = 1 - 0.1 * 0.5  # the teacher's step
    end = there - 0.2 * 2.0 * there
    target = distilling.mean_velocity(student, x, times, prepared)
    torch.testing.assert_close(target, torch.full((1, 3), (1 - end) / 0.3))
    assert student.weight.item() == 1.0 and averages.weights[0.9]["weight"].item() == 2.0
    judged = distilling.mean_velocity(student.eval(), x, times, prepared)  # in validation its own weights
    torch.testing.assert_close(judged, torch.full((1, 3), (1 - (there - 0.2 * there)) / 0.3))


def test_consistency_needs_averaged_weights(teacher: Path, tmp_path: Path) -> None:
    distilling = {"name": "consistency_flow", "teacher": str(teacher)}
    with pytest.raises(MaquetteError, match=r"train\.ema_decays"):
        toy.train_toy(tmp_path / "student", 1, distilling, train={"ema_decays": []})


def test_few_steps_of_a_student_are_nearer_to_many_of_its_teacher(teacher: Path, tmp_path: Path) -> None:
    distilling = {"name": "consistency_flow", "teacher": str(teacher), "segments": 2, "substeps": 6, "shift": 1.0}
    distilling |= {"guidance": [3.0, 3.0]}
    student = toy.train_toy(tmp_path / "student", 50, distilling, start_from=str(teacher))
    goal = samples(teacher, 3.0, 40)
    few, hasty = ((samples(run, 3.0, 2) - goal).square().mean() for run in (student, teacher))
    assert few < 0.5 * hasty


def test_runs_with_averaged_targets_resume_to_the_bit(teacher: Path, tmp_path: Path) -> None:
    distilling = {"name": "consistency_flow", "teacher": str(teacher)}
    keys = {"start_from": str(teacher), "optimizer": {"schedule": "constant"}}
    whole = toy.train_toy(tmp_path / "whole", 6, distilling, **keys)
    toy.train_toy(tmp_path / "resumed", 3, distilling, **keys)
    resumed = train(resume_config(tmp_path / "resumed", {"train": {"steps": 6}})).path
    first, second = load_run(whole).model.state_dict(), load_run(resumed).model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
