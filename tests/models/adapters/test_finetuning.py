"""`maquette finetune` on toy shapes: what is trained, what is kept, what an adapter does to a pipeline that is open."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from maquette import checkpoint, plugins
from maquette.assets import open_pipeline
from maquette.config import read_words
from maquette.errors import MaquetteError
from maquette.finetuning import finetune_config
from maquette.runner import resume_config, train
from maquette.runs import RunFolder, load_run
from maquette.testing import check_pipeline_on_device, run_ranks
from maquette.types import Request
from maquette_models.adapters.adapter_file import read_adapter, write_adapter
from maquette_models.adapters.merged_run import merge_into_run
from tests.models import toy_shapes as toy
from tests.models.adapters import toy_finetuning

toy_finetuning.install()

QUICK = ("train.steps=12", "train.ema_decays=[0.5]", "optimizer.learning_rate=0.02", "train.validate_every=0")
PYRAMIDS = ("data.reader=pyramids", "data.source=somewhere", "data.replay=0.25")
ASKED = Request(prompt="a red ball", seed=3)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("runs")
    toy.train_autoencoder(root / "autoencoder", steps=30)
    return toy.train_flow(root / "flow", root / "autoencoder", steps=20)


def finetune(base: Path, name: str, *words: str) -> RunFolder:
    folder = base.parent / name
    return train(finetune_config(base, read_words([*QUICK, f"folder={folder}", *words])))


@pytest.fixture(scope="module")
def tuned(base: Path) -> Path:
    return finetune(base, "pyramids", "method=lora", "model.rank=2", *PYRAMIDS).path


def latent(pipeline: Any, request: Request = ASKED) -> str:
    return pipeline(request).metadata["latent_sha256"]


def test_only_the_adapter_is_trained_and_saved(base: Path, tuned: Path) -> None:
    model, plain = load_run(tuned).model, load_run(base).model
    weights = dict(model.named_parameters())
    assert all(torch.equal(weights[name], tensor) for name, tensor in plain.named_parameters() if name in weights)
    saved = checkpoint.read_newest(RunFolder(tuned).checkpoints)[0].parts
    assert set(saved) == {"model", "average_0.5", "optimizer"}
    for part in ("model", "average_0.5"):
        assert {name.rpartition(".")[2] for name in saved[part]} == {"down", "up", "rows"}
    assert any(saved["model"][name].any() for name in saved["model"] if name.endswith(".up"))


def test_new_words_and_classes_are_learned_and_old_ones_keep_their_ids(base: Path, tuned: Path) -> None:
    run = load_run(tuned)
    assert run.facts["classes"] == ["ball", "box", "pyramid"]
    conditioner, before = run.model.conditioner, load_run(base).model.conditioner
    assert conditioner.unknown_words("a red pyramid with a tip") == ["with"]
    for batch in ({"class_id": [0, 1, -1]}, {"caption": ["a red ball", "blue", ""]}):
        new, old = conditioner(conditioner.prepare(batch)), before(before.prepare(batch))
        assert torch.equal(new.tokens, old.tokens) and torch.equal(new.pooled, old.pooled)
    row = conditioner(conditioner.prepare({"class_id": [2]})).tokens[0, 0]
    assert not torch.equal(row, conditioner(conditioner.prepare({"class_id": [-1]})).tokens[0, 0])


def test_replayed_samples_have_their_share_and_all_have_their_classes(tuned: Path) -> None:
    data = plugins.build("datasets", {**RunFolder(tuned).read_config().data, "batch_size": 16})
    data.adopt_facts(load_run(tuned).facts)
    data.setup("fit")
    stream = data.train_dataloader()
    batches = [next(stream) for _ in range(9)]
    names = [name for batch in batches for name in batch["id"]]
    assert sum(not name.startswith("new-") for name in names) == len(names) // 4
    labels = torch.cat([batch["class_id"] for batch in batches]).tolist()
    assert all((label == 2) == name.startswith("new-") for label, name in zip(labels, names, strict=True))
    assert len({name for name in names if not name.startswith("new-")}) == 36  # each old one once before any twice


def test_resuming_ends_with_the_same_bits(base: Path) -> None:
    words = ("method=lora", "model.rank=2", "model.dropout=0.1", *PYRAMIDS)
    whole = finetune(base, "whole", *words).path
    part = finetune(base, "part", *words, "train.steps=5", "train.checkpoint_every=5", "optimizer.schedule=constant")
    full = finetune(base, "steady", *words, "optimizer.schedule=constant").path
    train(resume_config(part.path, read_words(["train.steps=12"])))
    one, two = (checkpoint.read_newest(RunFolder(path).checkpoints)[0].parts for path in (full, part.path))
    for name in ("model", "average_0.5", "optimizer"):
        assert all(torch.equal(one[name][key], two[name][key]) for key in one[name])
    assert whole != full


def test_a_file_says_all_that_the_run_does(tuned: Path, tmp_path: Path) -> None:
    of_run, file = read_adapter(tuned), tmp_path / "pyramids.safetensors"
    write_adapter(of_run, file)
    found = read_adapter(file)
    assert (found.base_sha256, found.words.classes, found.words.words) == (
        of_run.base_sha256, ("pyramid",), ("pyramid", "tip")
    )  # fmt: skip
    assert all(torch.equal(found.changes[name].delta(), of_run.changes[name].delta()) for name in of_run.changes)
    write_adapter(of_run, file, torch.bfloat16)
    assert load_file(file)["rows.words"].dtype == torch.bfloat16


def test_an_adapter_is_swapped_in_an_open_pipeline_and_leaves_no_trace(base: Path, tuned: Path) -> None:
    pipeline, of_tuned = open_pipeline(base), open_pipeline(tuned)
    before = latent(pipeline)
    pipeline.use_adapters([str(tuned)])
    pyramid = Request(prompt="a blue pyramid with a tip", seed=1)
    assert latent(pipeline, pyramid) == latent(of_tuned, pyramid)
    assert pipeline(pyramid).metadata["class_name"] == "pyramid"
    assert latent(pipeline) != before
    pipeline.use_adapters([f"{tuned}:0.0"])
    assert latent(pipeline) == before  # a scale of nothing
    pipeline.use_adapters([])
    assert latent(pipeline) == before
    assert pipeline.model.conditioner.unknown_words("pyramid") == ["pyramid"]


def test_adapters_are_put_on_a_model_on_another_device(base: Path, tuned: Path) -> None:
    asked = Request(prompt="a blue pyramid with a tip", seed=1, steps=3)
    check_pipeline_on_device(lambda: open_pipeline(base, adapters=[f"{tuned}:0.5"]), asked)
    check_pipeline_on_device(lambda: open_pipeline(tuned), asked)


def test_several_adapters_add_up(base: Path, tuned: Path) -> None:
    other = finetune(base, "other", "method=lora", "model.targets=['*mlp*']", "seed=5").path
    pipeline = open_pipeline(base)
    x, t, captions = torch.randn(2, 3, 2, 2, 2), torch.tensor([0.3, 0.8]), {"caption": ["a red ball", "a blue box"]}
    pipeline.use_adapters([f"{tuned}:0.5", f"{other}:-2"])
    with torch.inference_mode():
        stacked = pipeline.model(x, t, pipeline.model.conditioner.prepare(captions))
        model = load_run(base).model
        condition = model.conditioner.prepare(captions)
        plain = model(x, t, condition)
        one, two = read_adapter(tuned), read_adapter(other)
        for name, layer in model.named_modules():
            for adapter, scale in ((one, 0.5), (two, -2.0)):
                if name in adapter.changes:
                    layer.weight.add_(scale * adapter.changes[name].delta())
        expected = model(x, t, condition)
    torch.testing.assert_close(stacked, expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(stacked, plain, atol=1e-3)


def test_merging_makes_a_run_that_needs_nothing_else(base: Path, tuned: Path, tmp_path: Path) -> None:
    merged = load_run(merge_into_run(base, [str(tuned)], base.parent / "merged")).model
    with_adapter = load_run(tuned).model
    assert type(merged.conditioner.word_embedding) is torch.nn.Embedding
    x, t = torch.randn(3, 3, 2, 2, 2), torch.tensor([0.1, 0.5, 0.9])
    batch = {"class_id": [2, 0, -1], "caption": ["a red pyramid", "a red ball", ""]}
    with torch.inference_mode():
        one, two = (m(x, t, m.conditioner.prepare(batch)) for m in (merged, with_adapter))
    torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)
    assert open_pipeline(base.parent / "merged")(Request(class_name="pyramid")).metadata["class_name"] == "pyramid"
    with pytest.raises(MaquetteError, match="exists already"):
        merge_into_run(base, [str(tuned)], base.parent / "merged")


def test_another_base_is_refused(base: Path, tuned: Path, tmp_path: Path) -> None:
    other = toy.train_flow(base.parent / "longer", base.parent / "autoencoder", steps=3)
    pipeline = open_pipeline(other)
    before = latent(pipeline)
    with pytest.raises(MaquetteError, match=r"was trained on '.*flow' .* not on '.*longer'"):
        pipeline.use_adapters([str(tuned)])
    assert latent(pipeline) == before
    moved = tmp_path / "runs"
    shutil.copytree(base.parent, moved)
    assert latent(open_pipeline(moved / "pyramids")) == latent(open_pipeline(tuned))
    shutil.rmtree(moved / "flow")
    shutil.copytree(other, moved / "flow")
    with pytest.raises(MaquetteError, match="other weights than those that were finetuned"):
        load_run(moved / "pyramids")


def test_partial_freezing_trains_what_it_says(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finetune(base, "partial", "method=partial", "model.train_only=[layers.1.*]", "model.freeze=['*.mlp.*']")
    plain = dict(load_run(base).model.named_parameters())
    changed = {n for n, p in load_run(run.path).model.named_parameters() if not torch.equal(p, plain[n])}
    assert changed and all(name.startswith("layers.1.") and ".mlp." not in name for name in changed)
    trained = sum(plain[name].numel() for name in plain if name.startswith("layers.1.") and ".mlp." not in name)
    assert f"training {trained:,} of {sum(p.numel() for p in plain.values()):,} values" in capsys.readouterr().err


def test_full_finetuning_trains_everything_and_new_words_too_where_asked(base: Path) -> None:
    run = load_run(finetune(base, "full", "method=partial", *PYRAMIDS, "train.steps=3").path)
    assert run.model.conditioner.unknown_words("pyramid") == []
    saved = checkpoint.read_newest(RunFolder(run.folder).checkpoints)[0].parts["model"]
    assert len(saved) == len(list(run.model.named_parameters()))
    plain = finetune(base, "plain", *PYRAMIDS, "train.steps=3")
    assert plain.read_config().facts == RunFolder(base).read_config().facts


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method=lorra"], r"unknown method 'lorra'; did you mean 'lora'\?; known: full, lora, partial"),
        (["method=lora", "model.targets=['*.attn.*']"], r"unknown layers '\*\.attn\.\*'"),
        (["method=lora", "model.rank=0"], "'rank' must be at least 1"),
        (["method=partial", "model.freeze=['*']"], "nothing is left to train"),
        (["data.source=x", "data.reader=toy_shapes"], "dataset 'toy_shapes' cannot be built from a source"),
        (["data.replay=1.5"], "'replay' is 1.5"),
    ],
)
def test_mistakes_are_one_line(base: Path, words: list[str], message: str) -> None:
    with pytest.raises(MaquetteError, match=message):
        finetune(base, "mistake", *words)
    assert not (base.parent / "mistake").exists()


def trained_rows(base: str, name: str, strategy: str) -> dict[str, torch.Tensor]:
    run = finetune(Path(base), name, "method=lora", "model.rank=2", f"strategy.name={strategy}", "train.steps=4")
    return checkpoint.read_newest(run.checkpoints)[0].parts["model"]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_several_processes_train_the_same_adapter(base: Path, strategy: str) -> None:
    alone = trained_rows(str(base), f"alone-{strategy}", "ddp")
    together, _ = run_ranks(trained_rows, 2, str(base), f"together-{strategy}", strategy)
    assert alone.keys() == together.keys()
    for name, tensor in alone.items():
        torch.testing.assert_close(together[name], tensor, atol=2e-4, rtol=1e-3)


def test_tensor_parallelism_is_refused(base: Path, tuned: Path) -> None:
    from maquette.parallel.tensor import plan_of

    assert plan_of(load_run(tuned).model) == {} and plan_of(load_run(base).model)
