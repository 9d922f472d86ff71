"""The shipped configurations of distillation: they load, follow each other, and are sampled as they were trained."""

from __future__ import annotations

from pathlib import Path

import pytest

from maquette import plugins
from maquette.config import RunConfig, load, read_yaml, resolve_block, set_facts
from maquette.runner import check_blocks

CONFIGS = Path(__file__).parents[3] / "examples" / "configs"
FACTS = {"classes": ["chair"], "vocabulary": ["red"], "latent_channels": 7, "latent_resolution": 8}


@pytest.mark.parametrize("name", ["distill_guidance", "distill_consistency"])
def test_students_have_all_weights_of_the_teacher_they_start_from(name: str) -> None:
    set_facts(FACTS)
    student, teacher = (load(RunConfig, read_yaml(CONFIGS / f"{file}.yaml")) for file in (name, "dit"))
    check_blocks(student)
    student.start_from = "RUN"
    assert student.objective.teacher == "RUN"
    small = {"depth": 1, "width": 32}
    built = [
        plugins.build("architectures", {**resolve_block(node, "model"), **small}).state_dict()
        for node in (student, teacher)
    ]
    assert all(built[0][name].shape == weight.shape for name, weight in built[1].items())
    assert {name.split(".")[0] for name in set(built[0]) - set(built[1])} == {"guidance"}


def test_a_few_step_student_is_sampled_at_its_segments() -> None:
    node = load(
        RunConfig, read_yaml(CONFIGS / "distill_consistency.yaml"), {"objective": {"segments": 3, "shift": 2.0}}
    )
    assert resolve_block(node, "pipeline")["sampler"] == {"name": "euler", "steps": 3, "shift": 2.0}
