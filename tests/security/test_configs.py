"""Configurations of strangers: bounded, no code, nothing of this machine's environment."""

import pytest
from omegaconf import OmegaConf

from maquette.config import RunConfig, load, read_yaml, resolve_block
from maquette.errors import MaquetteError
from maquette.runs import RunFolder, claim

LAUGHS = "\n".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}' if i else 'ha'] * 10)}]" for i in range(12))
HOSTILE = {
    "laughs": LAUGHS,
    "an alias of itself": "a: &a [*a]",
    "an alias of nothing": "a: *b",
    "deep brackets": "a: " + "[" * 50_000,
    "deep mappings": "a: " + "{b: " * 500 + "}" * 500,
    "deep blocks": "\n".join(" " * i + "a:" for i in range(500)),
    "too long": "a: " + "x" * (4 * 2**20),
    "too many keys": "\n".join(f"k{i}: 1" for i in range(120_000)),
    "a python object": "a: !!python/object/apply:os.system ['echo no']",
    "a python name": "a: !!python/name:os.system",
    "no text": "a: \x00\x01",
    "a list": "- a",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused(tmp_path, name):
    path = tmp_path / "a.yaml"
    path.write_text(HOSTILE[name])
    with pytest.raises(MaquetteError, match="config file"):
        read_yaml(path)


def test_ordinary_aliases_are_read(tmp_path):
    (tmp_path / "a.yaml").write_text("a: &a {b: [1, 2]}\nc: *a\nd: *a\n")
    assert read_yaml(tmp_path / "a.yaml") == {"a": {"b": [1, 2]}, "c": {"b": [1, 2]}, "d": {"b": [1, 2]}}


def run_with(folder, text):
    folder.mkdir()
    (folder / "config.yaml").write_text("name: a\nfolder: x\n" + text)
    return RunFolder(folder)


@pytest.mark.parametrize("value", ["${oc.env:SECRET}", "a${ oc.env:SECRET}", "${oc.decode:${oc.env:SECRET}}"])
def test_a_run_reads_no_environment(tmp_path, monkeypatch, value):
    monkeypatch.setenv("SECRET", "correct horse")
    config = run_with(tmp_path / "run", f"data: {{name: shards, path: '{value}'}}\n").read_config()
    with pytest.raises(MaquetteError, match="Missing mandatory value: path"):
        resolve_block(config, "data")
    given = load(RunConfig, config, OmegaConf.create({"data": {"path": "here"}}))
    assert resolve_block(given, "data")["path"] == "here"


def test_a_run_keeps_texts_that_only_look_like_that(tmp_path):
    config = run_with(tmp_path / "run", "data: {name: '\\${oc.env:HOME}', size: '${seed}'}\n").read_config()
    assert resolve_block(config, "data") == {"name": "${oc.env:HOME}", "size": 0}


def test_a_run_brings_no_code(tmp_path):
    run = run_with(tmp_path / "run", f"plugins: ['{tmp_path}/other/../run/evil.py']\n")
    with pytest.raises(MaquetteError, match="plugins are code"):
        run.read_config()
    run_with(tmp_path / "other", f"plugins: ['{tmp_path}/mine.py']\n").read_config()


@pytest.mark.parametrize("named", ["['${oc.env:HOME}/mine.py']", "'${oc.env:PLUGINS}'"])
def test_plugins_that_a_run_may_not_look_up_are_to_be_written_out(tmp_path, named):
    run = run_with(tmp_path / "run", f"plugins: {named}\n")
    with pytest.raises(MaquetteError, match=r"names the plugins .*\$\{.*write their paths there"):
        run.read_config()


def test_a_run_folder_keeps_no_secret(tmp_path):
    node = OmegaConf.structured(RunConfig)
    node.data = {"name": "shards", "path": "s3://KEY:SEC/RET@bucket/a", "api_key": "abcdefgh", "size": 3}
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.write_config(node)
    text = run.config_file.read_text()
    assert "RET" not in text and "abcdefgh" not in text
    assert run.read_config().data.size == 3
    with pytest.raises(MaquetteError, match="Missing mandatory value: path"):
        resolve_block(run.read_config(), "data")


def test_a_claimed_folder_keeps_no_secret_and_knows_its_config_again(tmp_path):
    node = OmegaConf.structured(RunConfig)
    node.data = {"name": "shards", "path": "s3://KEY:SEC/RET@bucket/a"}
    for _ in range(2):
        claim(tmp_path / "pretrain.yaml", node)
    assert "RET" not in (tmp_path / "pretrain.yaml").read_text()
    node.seed = 7
    with pytest.raises(MaquetteError, match="another config"):
        claim(tmp_path / "pretrain.yaml", node)
