"""Who plays which part: found by what a run is and reads, or chosen."""

from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from maquette.errors import MaquetteError
from maquette_serve.engine.engine_setup import Opened
from maquette_serve.service.roles import read_roles, roles_of


@pytest.fixture
def run(tmp_path):
    def make(name, pipeline, conditioner=None):
        folder = tmp_path / name
        folder.mkdir()
        model = {"name": "dit"} | ({"conditioner": conditioner} if conditioner else {})
        OmegaConf.save({"model": model, "pipeline": {"name": pipeline}}, folder / "config.yaml")
        return Opened({}, folder)

    return make


def test_roles_follow_from_what_runs_are_and_read(run):
    both = {"name": "composite", "parts": {"words": {"name": "text"}, "views": {"drop": 0.5}}}
    pipelines = {
        "pictures": run("pictures", "text_to_3d", {"name": "image"}),
        "chairs": run("chairs", "voxset", {"name": "class_caption"}),
        "both": run("both", "text_to_3d", both),
        "paint": run("paint", "texture", {"name": "image"}),
        "views": run("views", "view_texture"),
        "skin": run("skin", "rig"),
        "finish": Opened({"name": "finish"}),
    }
    expected = {"image": "pictures", "text": "chairs", "texture": "paint", "rig": "skin", "finish": "finish"}
    assert roles_of(pipelines) == expected
    assert roles_of({"both": pipelines["both"]}) == {"text": "both", "image": "both"}
    assert roles_of(pipelines, read_roles(["texture=views"])) == expected | {"texture": "views"}


def test_mistakes_are_told():
    with pytest.raises(MaquetteError, match="ROLE=NAME"):
        read_roles(["texture"])
    with pytest.raises(MaquetteError, match="unknown role 'painter'"):
        roles_of({}, {"painter": "a"})
    with pytest.raises(MaquetteError, match="unknown pipeline 'a' for role 'rig'"):
        roles_of({}, {"rig": "a"})
