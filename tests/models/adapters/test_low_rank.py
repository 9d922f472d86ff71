"""Changes of layers and rows of tables, by themselves."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from maquette.errors import MaquetteError
from maquette_models.adapters.freezing import chosen_parameters, hide_frozen, train_only
from maquette_models.adapters.hot_swap import all_words, parse_reference
from maquette_models.adapters.low_rank import (
    LowRankChange,
    LowRankLinear,
    add_to_weights,
    attach,
    changes_of,
    detach,
    insert,
    matching_layers,
)
from maquette_models.adapters.vocabulary import NewWords, WiderEmbedding


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.GELU(), nn.Sequential(nn.Linear(5, 4, bias=False), nn.LayerNorm(4)))


def change(layer: nn.Linear, rank: int, seed: int) -> LowRankChange:
    draw = torch.Generator().manual_seed(seed)
    sizes = ((rank, layer.in_features), (layer.out_features, rank))
    return LowRankChange(*(torch.randn(size, generator=draw) for size in sizes))


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, 7), min_size=1, max_size=3), st.integers(0, 1000))
def test_changes_beside_a_layer_and_in_its_weight_are_the_same(ranks: list[int], seed: int) -> None:
    beside, within, x = network(), network(), torch.randn(3, 6)
    before = {name: parameter.clone() for name, parameter in within.named_parameters()}
    changes = {"0": [change(beside[0], rank, seed + i) for i, rank in enumerate(ranks)]}
    plain = beside(x)
    attach(beside, changes)
    add_to_weights(within, changes)
    torch.testing.assert_close(beside(x), within(x), atol=1e-4, rtol=1e-4)
    add_to_weights(within, changes, sign=-1.0)
    for name, parameter in within.named_parameters():
        torch.testing.assert_close(parameter, before[name], atol=1e-5, rtol=1e-5)
    layer = beside[0]
    detach(beside)
    assert type(beside[0]) is nn.Linear and beside[0].weight is layer.weight and beside[0].bias is layer.bias
    assert torch.equal(beside(x), plain)


def test_a_change_begins_at_zero_and_its_scale_is_in_what_is_taken_out() -> None:
    model, x = network(), torch.randn(4, 6)
    before = model(x)
    insert(model, matching_layers(model, ["*"]), rank=3, scale=2.0)
    assert torch.equal(model(x), before) and isinstance(model[2][0], LowRankLinear)
    nn.init.normal_(model[0].up)
    taken = changes_of(model)
    changed = model(x)
    attach(model, {name: [part] for name, part in taken.items()})
    torch.testing.assert_close(model(x), changed)


def test_dropout_acts_in_training_alone() -> None:
    model, x = network(), torch.randn(64, 6)
    insert(model, ["0"], rank=3, dropout=0.5)
    nn.init.normal_(model[0].up)
    assert not torch.equal(model.train()(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(1, 4), st.data())
def test_a_wider_table_is_the_table_with_rows_put_in(rows: int, new: int, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, rows))
    table, more = nn.Embedding(rows, 3), torch.randn(new, 3)
    wider = WiderEmbedding(table, more, at)
    ids = torch.arange(rows + new)
    expected = torch.cat([table.weight[:at], more, table.weight[at:]])
    assert torch.equal(wider(ids), expected) and torch.equal(wider.merged()(ids), expected)
    wider(ids.repeat(2)).sum().backward()
    assert torch.equal(wider.rows.grad, torch.full_like(more, 2.0))
    assert torch.equal(table.weight.grad, torch.full_like(table.weight, 2.0))


def test_words_of_several_are_those_of_the_first_that_has_them() -> None:
    one = NewWords(("jug",), ("jug", "lid"), torch.ones(1, 2), torch.ones(2, 2))
    two = NewWords(("jug", "pan"), ("lid", "pan"), torch.zeros(2, 2), torch.zeros(2, 2))
    words = all_words([one, two])
    by_word = dict(zip(words.words, words.word_rows.tolist(), strict=True))
    assert by_word == {"jug": [1, 1], "lid": [1, 1], "pan": [0, 0]}
    assert dict(zip(words.classes, words.class_rows.tolist(), strict=True)) == {"jug": [1, 1], "pan": [0, 0]}
    assert all_words([]).words == ()


def test_frozen_parameters_are_in_no_state_and_loading_leaves_them() -> None:
    model, other = network(), network()
    names = chosen_parameters(model, ["2.*"], ["*.bias"])
    assert names == ["2.0.weight", "2.1.weight"]
    train_only(model, names)
    hide_frozen(model)
    assert list(model.state_dict()) == names
    with torch.no_grad():
        model[2][0].weight.zero_()
    kept = model[0].weight.clone()
    model.load_state_dict({name: other.state_dict()[name] for name in names})
    assert torch.equal(model[2][0].weight, other[2][0].weight) and torch.equal(model[0].weight, kept)
    with pytest.raises(RuntimeError, match=r"2\.1\.weight"):
        model.load_state_dict({"2.0.weight": other[2][0].weight})


def test_globs_that_match_nothing_are_named() -> None:
    with pytest.raises(MaquetteError, match=r"unknown layers 'mpl\.\*'.*known: 0, 2\.0"):
        matching_layers(network(), ["*", "mpl.*"])
    with pytest.raises(MaquetteError, match="unknown parameters 'x'"):
        chosen_parameters(network(), [], ["x"])


def test_references_have_a_scale_or_not() -> None:
    assert parse_reference("a.safetensors:0.5") == ("a.safetensors", 0.5)
    assert parse_reference("runs/a") == ("runs/a", 1.0)
    assert parse_reference("C:\\runs\\a") == ("C:\\runs\\a", 1.0)
    assert parse_reference("a:-1") == ("a", -1.0)
    with pytest.raises(MaquetteError, match="'much' is no number"):
        parse_reference("a:much")
