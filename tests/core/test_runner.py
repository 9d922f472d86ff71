"""The runner: it trains, resumes bit for bit, stops when asked, and a user's mistake leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from maquette import checkpoint, runner
from maquette.config import load_run_config, read_words
from maquette.errors import MaquetteError
from maquette.finetuning import finetune_config
from maquette.ownership import Ownership
from maquette.runner import resume_config, train
from maquette.runs import RunFolder, load_run, read_result
from maquette.testing import check_architecture, check_dataset

TOY = Path(__file__).with_name("toy_plugin.py")


def words(folder, *more):
    return [
        f"plugins=[{TOY}]",
        "data.name=toy",
        "model.name=toy",
        "model.width=${facts:width}",
        "objective.name=toy",
        f"folder={folder}",
        "train.threads=1",
        "loggers=[csv]",
        *more,
    ]


def run(folder, *more):
    return train(load_run_config(None, words(folder, *more)))


def weights(folder):
    return checkpoint.read_newest(Path(folder) / "checkpoints")[0].parts


def assert_same(one, two):
    assert one.keys() == two.keys()
    for part, tensors in one.items():
        for name, tensor in tensors.items():
            assert torch.equal(tensor, two[part][name]), f"{part}/{name} differs"


def test_a_run_leaves_its_config_environment_curves_and_result(tmp_path):
    done = run(tmp_path / "a", "train.steps=40", "train.validate_every=15", "optimizer.warmup_steps=5")
    config = done.read_config()
    assert config.facts == {"width": 4} and config.model == {"name": "toy", "width": 4}
    curves = done.metrics()
    assert [step for step, _ in curves["train/loss"]] == [10, 20, 30, 40]
    assert [step for step, _ in curves["validation/loss"]] == [15, 30]
    assert read_result(done.path)["step"] == 40
    environment = (done.path / "environment.json").read_text()
    for expected in ('"seed": 0', '"torch"', '"cores"', '"toy_plugin"'):
        assert expected in environment
    model = load_run(done.path).model
    assert not model.training and model(torch.zeros(1, 4)).shape == (1, 4)


def test_the_same_seed_trains_the_same_weights_and_another_seed_others(tmp_path):
    parts = [weights(run(tmp_path / str(i), "train.steps=12", f"seed={i // 2}").path) for i in range(3)]
    assert_same(parts[0], parts[1])
    assert not torch.equal(parts[0]["model"]["layers.0.weight"], parts[2]["model"]["layers.0.weight"])


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_run_that_is_stopped_and_resumed_ends_bit_identical(tmp_path, monkeypatch, accumulate):
    more = ("train.steps=30", f"train.accumulate={accumulate}", "train.checkpoint_every=7", "train.validate_every=4")
    whole = run(tmp_path / "whole", *more)

    from maquette.engine.step_engine import StepEngine

    class Crash(BaseException):
        pass

    original = StepEngine.run

    def crash(self, *args, **kwargs):
        if self.micro_step == 17 * accumulate + accumulate - 1:
            raise Crash
        return original(self, *args, **kwargs)

    monkeypatch.setattr(StepEngine, "run", crash)
    with pytest.raises(Crash):
        run(tmp_path / "crashed", *more)
    monkeypatch.setattr(StepEngine, "run", original)
    resumed = train(resume_config(tmp_path / "crashed", {}))
    assert_same(weights(whole.path), weights(resumed.path))
    assert [s for s, _ in resumed.metrics()["validation/loss"]] == [s for s, _ in whole.metrics()["validation/loss"]]


def test_a_damaged_newest_checkpoint_costs_one_interval_and_nothing_else(tmp_path, capsys):
    whole = run(tmp_path / "whole", "train.steps=20", "train.checkpoint_every=5")
    harmed = run(tmp_path / "harmed", "train.steps=15", "train.checkpoint_every=5")
    newest = checkpoint.paths(harmed.checkpoints)[0]
    next(newest.glob("*.safetensors")).write_bytes(b"x")
    resumed = train(resume_config(harmed.path, read_words(["train.steps=20"])))
    assert "is damaged" in capsys.readouterr().err
    # The learning rate depends on how many steps were planned, so only the position must agree here.
    assert checkpoint.paths(resumed.checkpoints)[0].name == checkpoint.paths(whole.checkpoints)[0].name


def test_a_strategy_of_a_strangers_plugin_decides_what_happens_to_gradients(tmp_path):
    more = ("strategy.name=muted", "optimizer.weight_decay=0", "train.ema_decays=[]")
    one, five = (weights(run(tmp_path / steps, f"train.steps={steps}", *more).path)["model"] for steps in "15")
    assert all(torch.equal(one[name], five[name]) for name in one)
    awake = weights(run(tmp_path / "awake", "train.steps=5", *more, "strategy.factor=1").path)["model"]
    assert not torch.equal(awake["layers.0.weight"], five["layers.0.weight"])


def test_accumulating_equals_nothing_lost_in_the_count(tmp_path):
    done = run(tmp_path / "a", "train.steps=6", "train.accumulate=4")
    state = checkpoint.read_newest(done.checkpoints)[0].state
    assert (state["step"], state["micro_step"], state["data"]["consumed"]) == (6, 24, 24 * 8)


def test_finetuning_starts_from_the_averaged_weights_and_keeps_facts(tmp_path):
    first = run(tmp_path / "first", "train.steps=20")
    changes = [f"folder={tmp_path}/second", "train.steps=1", "optimizer.learning_rate=0", "optimizer.weight_decay=0"]
    second = train(finetune_config(first.path, read_words(changes)))
    assert torch.equal(
        weights(second.path)["model"]["layers.0.weight"], weights(first.path)["average_0.999"]["layers.0.weight"]
    )
    assert second.read_config().facts == first.read_config().facts


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["model.name=toyy"], "unknown architecture 'toyy'; did you mean 'toy'?"),
        (["model.hiden=3"], "unknown key 'hiden' in model 'toy'; did you mean 'hidden'?"),
        (["model.width=wide"], "wide"),
        (["strategy.name=dpd"], "did you mean 'ddp'?"),
        (["loggers=[tensorbord]"], "unknown logger 'tensorbord'; did you mean 'tensorboard'?"),
        (["start_from=nowhere"], "'nowhere' is not a run|no checkpoint in 'nowhere"),
        (["model.hidden=${facts:hights}"], "no fact 'hights'; it gives: width"),
        (["optimizer.schedule=sometimes"], "known: constant, linear, cosine, wsd"),
        (["optimizer.betas=[0.9]"], "two numbers"),
        (["optimizer.groups=[{match: nothing.*}]"], "matches no parameter"),
        (["parallel.schedule=f1b1", "strategy.name=ddp"], "did you mean '1f1b'?"),
        (["parallel.attention=rings"], "did you mean 'ring'?"),
        (["parallel.tensor=2"], "needs a multiple of 2 processes, but 1 is running; launch 2"),
        (["objective.break_at=3", "train.nonfinite_skips=0"], "step 2: the loss or the gradient is not finite"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(tmp_path, more, message):
    with pytest.raises(MaquetteError, match=message) as caught:
        run(tmp_path / "a", *more)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a").exists()


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path):
    first = run(tmp_path / "first", "train.steps=3")
    with pytest.raises(MaquetteError, match=r"is of another model .* e\.g\. 'layers\.0\.weight' is"):
        train(resume_config(first.path, read_words(["model.hidden=5", "train.steps=5"])))
    with pytest.raises(MaquetteError, match="another architecture"):
        run(tmp_path / "second", f"start_from={first.path}", "model.hidden=5")
    assert not (tmp_path / "second").exists()


def test_a_folder_is_not_written_twice(tmp_path):
    first = run(tmp_path / "a", "train.steps=3")
    with pytest.raises(MaquetteError, match="already holds a run; continue it with resume="):
        run(tmp_path / "a", "train.steps=3")
    with first.owned(), pytest.raises(MaquetteError, match="another process is writing"):
        train(resume_config(first.path, read_words(["train.steps=5"])))


def test_who_loses_a_new_folder_leaves_it_to_the_one_that_trains_there(tmp_path, monkeypatch):
    owners = []

    def meanwhile(node, settings, folder):
        owners.append(Ownership(folder.path))
        raise MaquetteError("a mistake")

    monkeypatch.setattr(runner, "start", meanwhile)
    with pytest.raises(MaquetteError, match="a mistake"):
        run(tmp_path / "a")
    owners[0].check()
    owners[0].release()
    RunFolder(tmp_path / "a").discard()
    assert not (tmp_path / "a").exists()


def test_the_toy_plugin_keeps_its_promises(tmp_path):
    import importlib.util

    spec = importlib.util.spec_from_file_location("toy_plugin_checked", TOY)
    toy = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = toy
    spec.loader.exec_module(toy)
    check_dataset(lambda: toy.ToyData(toy.ToyDataConfig()))
    check_architecture(
        toy.ToyModel(toy.ToyModelConfig()),
        toy.ToyObjective(toy.ToyObjectiveConfig()),
        toy.ToyData(toy.ToyDataConfig()).batch(0),
    )


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_a_signal_leaves_a_checkpoint_from_which_the_run_ends_bit_identical(tmp_path, number):
    more = ("train.steps=4000", "train.checkpoint_every=4000", "train.validate_every=0")
    command = [sys.executable, "-m", "maquette.cli", "train"]
    process = subprocess.Popen([*command, *words(tmp_path / "a", *more)], stderr=subprocess.PIPE, text=True)
    csv = tmp_path / "a" / "logs" / "csv" / "version_0" / "metrics.csv"
    for _ in range(600):
        if (tmp_path / "a" / "config.yaml").exists() and csv.exists():
            break
        time.sleep(0.05)
    time.sleep(0.2)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + number, error
    assert "continue with resume=" in error and "Traceback" not in error
    stopped = checkpoint.read_newest(tmp_path / "a" / "checkpoints")[0]
    assert 0 < stopped.state["step"] < 4000
    resumed = train(resume_config(tmp_path / "a", {}))
    whole = run(tmp_path / "whole", *more)
    assert_same(weights(whole.path), weights(resumed.path))


def test_two_ranks_train_like_one_process_on_the_same_batches(tmp_path):
    """Without noise and dropout the averaged gradient is that of the whole batch."""
    more = ("train.steps=15", "objective.noise=0", "model.dropout=0", "train.validate_every=5")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "maquette.cli",
    ]
    launched = [*launch, "train", *words(tmp_path / "ddp", "strategy.name=ddp", *more)]
    done = subprocess.run(launched, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    one = run(tmp_path / "one", *more)
    two = weights(tmp_path / "ddp")
    assert two["model"].keys() == weights(one.path)["model"].keys()
    for name, tensor in weights(one.path)["model"].items():
        torch.testing.assert_close(two["model"][name], tensor, rtol=1e-4, atol=1e-6)
