"""The memory changes nothing, no token sees a later one, and strategies find what they rely on."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from maquette import plugins
from maquette.errors import MaquetteError
from maquette_models.mesh_tokens.mesh_dataset import MeshTokens, MeshTokensConfig
from maquette_models.mesh_tokens.mesh_transformer import MeshTransformer
from maquette_models.mesh_tokens.quantise import encode_places
from maquette_models.mesh_tokens.token_table import TokenTable
from maquette_models.mesh_tokens.vocabulary import Vocabulary
from tests.models.mesh_tokens import toy_meshes as toy

toy.install()


@pytest.fixture(scope="module")
def batch() -> dict:
    settings = {"shards": "toy", "reader": "toy_meshes", "blocks": 4, "offsets": 8, "points": 64, "batch_size": 3}
    data = MeshTokens(MeshTokensConfig(**settings))
    data.setup()
    return next(data.train_dataloader())


def model(**changes: object) -> MeshTransformer:
    torch.manual_seed(0)
    own = plugins.build("architectures", toy.model_block(**changes)).eval()
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return own


def arguments(own: MeshTransformer, batch: dict) -> tuple:
    inputs = plugins.build("objectives", {"name": "next_mesh_token"}).inputs(own, batch)
    return (*inputs[:3], own.encode_condition(inputs[3]))


@pytest.mark.parametrize("pieces", [[1] * 100, [5, 1, 7, 100]])
def test_memory_gives_what_the_whole_sequence_gives(batch: dict, pieces: list[int]) -> None:
    own = model()
    *inputs, condition = arguments(own, batch)
    whole = own(*inputs, condition)
    length = whole.shape[1]
    reading, found, start = own.reading(len(whole), length), [], 0
    for size in pieces:
        part = [value[:, start : start + size] for value in inputs]
        if part[0].shape[1]:
            found.append(own.step(*part, condition, reading))
        start += size
    torch.testing.assert_close(torch.cat(found, dim=1), whole, atol=2e-4, rtol=2e-4)


def test_no_token_sees_a_later_one(batch: dict) -> None:
    own = model()
    tokens, places, positions, condition = arguments(own, batch)
    before = own(tokens, places, positions, condition)
    after = own(tokens.index_fill(1, torch.tensor([9]), 7), places, positions, condition)
    torch.testing.assert_close(after[:, :9], before[:, :9])
    assert not torch.allclose(after[:, 9:], before[:, 9:], atol=1e-3)


def test_condition_and_places_matter(batch: dict) -> None:
    own = model()
    tokens, places, positions, condition = arguments(own, batch)
    before = own(tokens, places, positions, condition)
    null = own.encode_condition(own.conditioner.null(len(tokens)))
    assert not torch.allclose(own(tokens, places, positions, null), before, atol=1e-3)
    moved = torch.where(places < 32, (places + 1) % 32, places)
    assert not torch.allclose(own(tokens, moved, positions, condition), before, atol=1e-3)


def test_forward_is_begin_blocks_finish_and_parts_suffice(batch: dict) -> None:
    own = model()
    inputs = plugins.build("objectives", {"name": "next_mesh_token"}).inputs(own, batch)
    assert {*own.begin_parts(), *own.finish_parts(), "layers"} == {*own._modules, *own._parameters, *own._buffers}
    first, last = copy.deepcopy(own), copy.deepcopy(own)
    for part, names in ((first, own.begin_parts()), (last, own.finish_parts())):
        for name in [*part._modules, *part._parameters]:
            if name not in names:
                delattr(part, name)
    h, *context = first.begin(*inputs)
    for block in own.blocks():
        h = block(h, *context)
    assert torch.equal(last.finish(h, *context), own(*inputs))


def test_flops_are_those_of_the_products() -> None:
    own = model()
    batch = own.example_batch(2)
    inputs = plugins.build("objectives", {"name": "next_mesh_token"}).inputs(own, batch)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        own(*inputs)
    assert own.flops(batch) / counter.get_total_flops() == pytest.approx(1, abs=0.05)
    assert own.token_count(batch) == 2 * 511


def test_tokens_that_share_a_coordinate_share_a_part() -> None:
    vocabulary = Vocabulary(2, 3)
    table = TokenTable(vocabulary, 1, std=0.0)
    with torch.no_grad():
        table.offset += torch.tensor([1, 10, 100]).view(3, 1, 1) * torch.arange(3).view(1, 3, 1)
        table.centre += 1000
    rows = table().flatten().tolist()
    for place in ((0, 0, 0), (2, 1, 0), (0, 1, 2)):
        x, y, z = place
        _, number = vocabulary.split(encode_places(np.array(place), vocabulary.levels))
        assert rows[vocabulary.offset + int(number)] == x + 10 * y + 100 * z
    assert rows[vocabulary.centre : vocabulary.offset] == [3000] * 8 and not any(rows[: vocabulary.centre])


def test_loss_does_not_see_padding(batch: dict) -> None:
    """Nor does it depend on how the batch is shared: it is the mean of the meshes' own."""
    own, objective = model(), plugins.build("objectives", {"name": "next_mesh_token"})
    terms = objective(own, batch)
    padded = {key: value.clone() if torch.is_tensor(value) else value for key, value in batch.items()}
    padded["tokens"][~batch["token_mask"]] = 5
    torch.testing.assert_close(objective(own, padded)["loss"], terms["loss"])
    single = {key: value[:1] for key, value in batch.items()}
    torch.testing.assert_close(objective(own, single)["loss"], terms["per_sample"]["loss"][0])
    torch.testing.assert_close(terms["per_sample"]["loss"].mean(), terms["loss"])


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(MaquetteError, match="heads"):
        model(heads=5)
