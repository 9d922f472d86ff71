"""A run goes on at another number of processes and in another layout: same samples, same losses, same weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from maquette import checkpoint
from maquette.config import load_run_config, read_words
from maquette.errors import MaquetteError
from maquette.runner import resume_config, train
from maquette.runs import RunFolder, load_run
from maquette.testing import run_ranks

PLUGIN = Path(__file__).with_name("tiny_plugin.py")


def words(folder, *more):
    common = "data.name=tiny model.name=tiny objective.name=tiny loggers=[csv] train.log_every=1 train.validate_every=4"
    often = "train.checkpoint_every=4 train.accumulate=2 optimizer.warmup_steps=2"
    return [f"plugins=[{PLUGIN}]", f"folder={folder}", *common.split(), *often.split(), *more]


def begin(folder, *more):
    return str(train(load_run_config(None, words(folder, *more))).path)


def go_on(folder, *more):
    return str(train(resume_config(folder, read_words(more))).path)


def losses(folder):
    return [loss for _, loss in RunFolder(Path(folder)).metrics()["train/loss"]]


def weights(folder):
    return checkpoint.newest(Path(folder) / "checkpoints")[0].read("model")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Eight steps of one process."""
    folder = tmp_path_factory.mktemp("whole")
    seen = folder / "seen"
    seen.mkdir()
    return begin(folder / "run", "train.steps=8", f"data.seen={seen}"), seen


FSDP_TP = "strategy.name=fsdp parallel.tensor=2"
CHANGES = {
    "fsdp+tp 4 to 1": (4, FSDP_TP, 1, "strategy.name=ddp parallel.tensor=1"),
    "fsdp+tp 4 to zero2 2": (4, FSDP_TP, 2, "strategy.name=zero2 parallel.tensor=1"),
    "1 to fsdp+pp 4": (1, "strategy.name=ddp", 4, "strategy.name=fsdp parallel.pipeline=2"),
    "fsdp+pp 4 to cp 2": (
        4,
        "strategy.name=fsdp parallel.pipeline=2 parallel.schedule=interleaved",
        2,
        "strategy.name=ulysses parallel.pipeline=1 parallel.schedule=1f1b",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_run_goes_on_in_another_layout(tmp_path, whole, change):
    world, first, later, second = CHANGES[change]
    seen = tmp_path / "seen"
    seen.mkdir()
    folder, reference = str(tmp_path / "run"), str(tmp_path / "reference")
    steady = "optimizer.schedule=constant"  # the cosine would see another end in the first half
    run_ranks(begin, world, folder, "train.steps=4", steady, f"data.seen={seen}", *first.split())
    run_ranks(go_on, later, folder, "train.steps=8", *second.split())
    begin(reference, "train.steps=8", steady)
    assert losses(folder) == pytest.approx(losses(reference), rel=1e-5)
    for file in sorted(whole[1].iterdir()):
        lines = set((seen / file.name).read_text().split())
        assert lines == set(file.read_text().split()), f"sample {file.name} differs"
    assert len(list(seen.iterdir())) == 8 * 2 * 8, "other samples were seen"
    for name, tensor in weights(folder).items():
        torch.testing.assert_close(tensor, weights(reference)[name], rtol=1e-3, atol=2e-4)
    model = load_run(folder).model
    assert torch.isfinite(model(torch.zeros(1, 8, 6), torch.zeros(1))).all()


def test_bad_batches_are_left_out_when_the_run_has_gone_back(tmp_path, capsys):
    bad = list(range(5 * 16, 9 * 16))  # the samples of steps 5 to 8
    folder = begin(tmp_path / "run", "train.steps=12", f"data.bad={bad}", "train.nonfinite_skips=2")
    said = capsys.readouterr().err
    assert "not finite" in said and "back from step" in said
    assert all(torch.isfinite(tensor).all() for tensor in weights(folder).values())
    found, _ = checkpoint.newest(Path(folder) / "checkpoints")
    assert found.step == 12 and found.state["data"]["consumed"] == 12 * 16


def test_a_run_that_cannot_be_mended_says_so(tmp_path):
    with pytest.raises(MaquetteError, match="not finite"):
        begin(tmp_path / "run", "train.steps=20", f"data.bad={list(range(5 * 16, 500))}", "train.nonfinite_skips=1")


@pytest.mark.parametrize("world", [1, 2])
def test_validating_the_average_leaves_the_training_alone(tmp_path, world):
    more = ("train.steps=8", "train.ema_decays=[0.9]", "strategy.name=fsdp", "optimizer.learning_rate=0.05")
    plain = run_ranks(begin, world, str(tmp_path / "plain"), *more)[0]
    average = run_ranks(begin, world, str(tmp_path / "average"), "train.validate_average=true", *more)[0]
    assert losses(plain) == losses(average)
    for name, tensor in weights(plain).items():
        assert torch.equal(tensor, weights(average)[name]), name
    validated = [dict(RunFolder(Path(folder)).metrics()["validation/loss"])[8] for folder in (plain, average)]
    assert validated[0] != pytest.approx(validated[1], rel=1e-3)


def test_auto_goes_on_where_there_is_a_checkpoint_and_starts_where_there_is_none(tmp_path):
    folder = begin(tmp_path / "run", "train.steps=4", "resume=auto")
    assert len(losses(folder)) == 4
    assert begin(tmp_path / "run", "train.steps=6", "resume=auto") == folder
    assert len(losses(folder)) == 6


def test_the_best_checkpoint_is_kept_by_its_own_validation_loss(tmp_path):
    more = ("train.steps=24", "train.keep_checkpoints=1", "train.keep_best=1", "optimizer.learning_rate=0.5")
    folder = Path(begin(tmp_path / "run", *more))
    losses_by_step = dict(RunFolder(folder).metrics()["validation/loss"])
    best = min(losses_by_step, key=losses_by_step.__getitem__)
    kept = {checkpoint.open_checkpoint(path).step for path in checkpoint.paths(folder / "checkpoints")}
    assert kept == {best, 24}
    found = checkpoint.open_checkpoint(folder / "checkpoints" / f"step_{best:08d}")
    assert found.state["score"] == pytest.approx(losses_by_step[best])
