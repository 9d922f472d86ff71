"""Checks that a plugin's author runs on their own parts of a data build; maquette's tests run the same ones on ours.

Each raises AssertionError with what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from maquette_data3d.building.config import BuildConfig
from maquette_data3d.building.job import Engine, Job, Limits
from maquette_data3d.building.recipe import Recipe
from maquette_data3d.building.sources import Item
from maquette_data3d.features.feature import Feature
from maquette_data3d.features.mesh_subject import MeshSubject
from maquette_data3d.features.shape_subject import ShapeSubject
from maquette_data3d.features.subject import Subject
from maquette_data3d.geometry.repair import clean
from maquette_data3d.ingest.limits import ReadLimits
from maquette_data3d.ingest.reading import read
from maquette_data3d.procedural import sample_shape
from maquette_data3d.shards.format import checksum, fields_of


def subjects(folder: Path, resolution: int = 16) -> list[Callable[[], Subject]]:
    """Makers of two procedural shapes and of a mesh file that is written into `folder`; fresh at each call."""
    path = folder / "open-box.obj"
    corners = "".join(f"v {x} {y} {z}\n" for x in (0, 1) for y in (0, 1) for z in (0, 2))
    path.write_text(corners + "f 1 2 4 3\nf 5 7 8 6\nf 1 5 6 2\nf 1 3 7 5\nf 2 6 8 4\n")

    def mesh() -> Subject:
        scene = read(path, ReadLimits())
        return MeshSubject(scene, clean(scene.vertices, scene.faces, scene.corner_colors), 7, resolution)

    def shape(index: int) -> Callable[[], Subject]:
        return lambda: ShapeSubject(sample_shape(0, index), resolution, 0.1)

    return [shape(0), shape(3), mesh]


def check_feature(build: Callable[[], Feature], folder: Path) -> list[Mapping[str, np.ndarray]]:
    """A feature repeats itself, stores the same fields for every subject, and says what is ragged.

    Args:
        build: gives a fresh feature, the same each time.
        folder: an empty one.

    Returns:
        What it makes of the subjects.
    """
    made = [build().compute(subject()) for subject in subjects(folder)]
    for arrays, subject in zip(made, subjects(folder), strict=True):
        assert checksum(arrays) == checksum(build().compute(subject())), "two fresh computations disagree"
    ragged = build().ragged()
    fields = [fields_of(arrays, [name for name in ragged if name in arrays]) for arrays in made]
    for other in fields[1:]:
        assert other == fields[0], f"subjects get different fields: {fields[0]} and {other}; is one ragged?"
    unknown = set(ragged) - set(made[0])
    assert not unknown, f"ragged() names {sorted(unknown)}, which compute() does not give"
    facts = build().facts()
    assert OmegaConf.to_container(OmegaConf.create(facts)) == facts, "facts() must be plain data that YAML can hold"
    feature: Any = build()
    if hasattr(feature, "tokens"):
        assert all(isinstance(feature.tokens(arrays), int) for arrays in made), "tokens() must give a whole number"
    return made


def check_engine(build: Callable[[], Engine], folder: Path) -> None:
    """An engine decides every job once, with the sample in its target, and quarantines what cannot be read."""
    recipe = Recipe.of(BuildConfig("procedural", str(folder), 16, points=32))
    jobs = [Job(Item(n, f"procedural/0/{n}"), str(folder / f"{n}.safetensors")) for n in range(5)]
    outcomes = list(build().run(jobs, recipe, Limits(60.0, 4096, 2)))
    assert sorted(outcome.number for outcome in outcomes) == list(range(5)), "each job needs one outcome"
    for outcome in outcomes:
        assert not outcome.reason, f"job {outcome.number} was quarantined: {outcome.reason} ({outcome.detail})"
        assert Path(jobs[outcome.number].target).is_file(), "an outcome came before its sample was there"
    broken = folder / "broken.glb"
    broken.write_bytes(b"no mesh")
    lost = list(build().run([Job(Item(0, broken.name, str(broken)), str(folder / "0"))], recipe, Limits(60.0, 4096)))
    assert [outcome.reason for outcome in lost] == ["wrong_extension"], "a broken file must be quarantined"
