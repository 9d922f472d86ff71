"""Byte pairs: trained on captions, kept as merges, losing nothing of words that they never saw."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from maquette_models.conditioners.byte_pairs import PAD, SMALLEST, BytePairs, train_merges

CAPTIONS = ["a tall red chair with thick legs", "a red table", "a low green table, round", "a short red chair"]
MERGES = train_merges(CAPTIONS, 300)


def test_frequent_words_become_one_piece() -> None:
    tokens = BytePairs(MERGES)
    assert tokens.pieces("a RED Chair") == ["Ġa", "Ġred", "Ġchair"]
    assert tokens.size <= 300
    assert len(train_merges(CAPTIONS, SMALLEST)) == 0


def test_the_order_of_captions_does_not_matter() -> None:
    assert train_merges(reversed(CAPTIONS), 300) == MERGES


def test_merges_are_facts() -> None:
    """They survive a config, in which "${" begins an interpolation."""
    merges = train_merges(["${oc.env:HOME} ${oc.env:HOME}"] * 4, 400)
    node = OmegaConf.create(OmegaConf.to_yaml(OmegaConf.create({"merges": merges})))
    assert OmegaConf.to_container(node, resolve=True)["merges"] == merges
    assert BytePairs(merges).ids("${oc.env:HOME}")


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30))
def test_nothing_is_lost(text: str) -> None:
    """Any text comes apart into known pieces, and its bytes are all there."""
    tokens = BytePairs(MERGES)
    ids = tokens.ids(text)
    assert PAD not in ids and all(0 < number < tokens.size for number in ids)
    plain = tokens.tokenizer.normalizer.normalize_str(text.strip())
    spelt = "".join(tokens.pieces(text))
    letters = tokens.tokenizer.pre_tokenizer.pre_tokenize_str(plain) if plain else []
    assert spelt == "".join(piece for piece, _ in letters)


def test_new_words_differ() -> None:
    tokens = BytePairs(MERGES)
    assert tokens.ids("a velvet sofa") != tokens.ids("a velvet sofb")
    assert tokens.ids("") == tokens.ids("   ") == []
