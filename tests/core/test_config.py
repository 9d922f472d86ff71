"""The configuration: what overrides what, and one helpful line for each mistake."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maquette.config import (
    RunConfig,
    checked,
    load,
    load_run_config,
    read_words,
    read_yaml,
    resolve_block,
    set_facts,
    split_words,
)
from maquette.errors import MaquetteError

BLOCKS = ["data.name=a", "model.name=b", "objective.name=c"]


def test_words_override_the_file_which_overrides_the_defaults(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("name: from-file\ntrain: {steps: 7, log_every: 3}\n")
    config = checked(load_run_config(file, [*BLOCKS, "train.steps=9"]))
    assert (config.name, config.train.steps, config.train.log_every, config.train.accumulate) == ("from-file", 9, 3, 1)
    assert config.folder == "runs/from-file"


def test_facts_are_filled_in_late():
    node = load_run_config(None, [*BLOCKS, "model.classes=${facts:classes}"])
    set_facts({"classes": ["chair", "mug"]})
    assert resolve_block(node, "model") == {"name": "b", "classes": ["chair", "mug"]}
    set_facts({"other": 1})
    with pytest.raises(MaquetteError, match="no fact 'classes'; it gives: other"):
        resolve_block(node, "model")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian.steps=3"], "unknown key 'trian' in the config; did you mean 'train'?"),
        (["train.stesp=3"], "unknown key 'stesp' in the config, at train; did you mean 'steps'?"),
        (["train.steps=abc"], "'train.steps'.*'abc'"),
        (["train.steps=0"], "'train.steps' is 0; it must be at least 1"),
        (["train.precision=fp12"], "'train.precision' is 'fp12'; known: fp32, bf16"),
        (["train.ema_decays=[1.5]"], "ema_decay"),
        (["parallel.tensor=0"], "'parallel.tensor' is 0; it must be at least 1"),
        (["monitor.accelerator=h20"], "did you mean 'h200'?"),
        (["steps"], "not of the form key=value"),
        (["train=3"], "'train' holds keys, e.g. train.key=value"),
    ],
)
def test_mistakes_are_one_line(words, message):
    with pytest.raises(MaquetteError, match=message) as caught:
        checked(load_run_config(None, [*BLOCKS, *words]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["a: [1,", "- 1\n- 2\n", "a: 1\n\tb: 2", "\x00\x01"])
def test_a_file_that_is_not_a_mapping_is_refused(tmp_path, text):
    file = tmp_path / "odd.yaml"
    file.write_text(text)
    with pytest.raises(MaquetteError, match=r"odd\.yaml"):
        read_yaml(file)
    with pytest.raises(MaquetteError, match="does not exist"):
        read_yaml(tmp_path / "none.yaml")


@given(st.lists(st.text(max_size=20), max_size=4))
def test_any_words_give_a_config_or_our_own_error(words):
    try:
        checked(load(RunConfig, read_words(BLOCKS), read_words(words)))
    except MaquetteError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("paint", ["paint"]),
        ("paint,prompt=a blue, long coat,steps=4", ["paint", "prompt=a blue, long coat", "steps=4"]),
        ("a=RUN,interval=[0.2,0.9],model.size=2", ["a=RUN", "interval=[0.2,0.9]", "model.size=2"]),
    ],
)
def test_words_are_split_at_commas_before_a_key(text, words):
    assert split_words(text) == words
    read_words(words[1:])
