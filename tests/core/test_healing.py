"""What goes wrong while a run trains is found, told, and leaves no trace in what comes out."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from threading import Thread

import pytest
import torch

from maquette import checkpoint
from maquette.config import load_run_config
from maquette.engine.anomalies import AnomalyGuard, Rollback
from maquette.engine.corruption import ReplicaCheck
from maquette.engine.replicas import changed, digest, disagreement
from maquette.engine.spikes import SpikeDetector
from maquette.engine.step_engine import StepEngine
from maquette.errors import MaquetteError
from maquette.events import EventLog, read_events
from maquette.ownership import Ownership
from maquette.runner import train
from maquette.testing import run_ranks

HERE = Path(__file__).parent
SPIKES = ("train.spike_window=16", "train.nonfinite_skips=2", "train.checkpoint_every=10", "train.steps=60")


def run(folder, *more):
    """Train the toy; faults as the words have them."""
    plugins = f"plugins=[{HERE / 'toy_plugin.py'},{HERE / 'faulty_plugin.py'}]"
    blocks = ["data.name=bad", "model.name=toy", "model.width=${facts:width}", "objective.name=astray"]
    plain = [
        "loggers=[]",
        "train.threads=1",
        "train.validate_every=0",
        "optimizer.learning_rate=1e-3",
        f"folder={folder}",
    ]
    train(load_run_config(None, [plugins, *blocks, *plain, *more]))


def final(folder):
    """All tensors of the last checkpoint, by part and name, and the step."""
    found, _ = checkpoint.read_newest(Path(folder) / "checkpoints")
    return found.state["step"], {f"{p}/{n}": value for p, named in found.parts.items() for n, value in named.items()}


def assert_same_end(one, two):
    (step, tensors), (other_step, others) = final(one), final(two)
    assert step == other_step and tensors.keys() == others.keys()
    assert [name for name in tensors if not torch.equal(tensors[name], others[name])] == []


def events(folder, kind):
    return [event for event in read_events(Path(folder)) if event["kind"] == kind]


def without(monkeypatch, steps):
    """Runs from now on leave these steps out from the start."""
    begin = AnomalyGuard.__init__

    def leaving_out(self, *arguments, **named):
        begin(self, *arguments, **named)
        self.left_out = set(steps)

    monkeypatch.setattr(AnomalyGuard, "__init__", leaving_out)


def test_a_spike_is_left_out_and_recorded_and_nothing_else_changes(tmp_path, monkeypatch, capsys):
    run(tmp_path / "spike", *SPIKES, "data.bad=[33]")
    (event,) = events(tmp_path / "spike", "spike")
    assert event["step"] == 33 and event["loss"] > 10 * event["limit"] and event["grad_norm"] > 0
    assert event["samples"][0]["position"] == list(range(33 * 8, 34 * 8))
    assert "step 33: spike" in capsys.readouterr().err
    without(monkeypatch, [33])
    run(tmp_path / "clean", *SPIKES)
    assert not (tmp_path / "clean" / "events").exists()
    assert_same_end(tmp_path / "spike", tmp_path / "clean")


def test_a_row_of_spikes_goes_back_and_leaves_out_the_row_and_what_led_to_it(tmp_path, monkeypatch):
    run(tmp_path / "row", *SPIKES, "data.bad=[35,36,37,38]")
    (back,) = events(tmp_path / "row", "rollback")
    assert (back["trouble"], back["first"], back["step"], back["back_to"]) == ("spike", 35, 37, 30)
    assert back["left_out"] == [32, 37]
    without(monkeypatch, [32, 33, 34, 35, 36, 37, 38])
    run(tmp_path / "clean", *SPIKES)
    assert_same_end(tmp_path / "row", tmp_path / "clean")


def test_weights_that_go_astray_are_replaced_by_those_of_the_checkpoint(tmp_path):
    run(tmp_path / "a", *SPIKES, "objective.astray_at=36")
    (back,) = events(tmp_path / "a", "rollback")
    assert back["back_to"] == 30 and back["trouble"] == "spike"
    losses = [event["loss"] for event in events(tmp_path / "a", "spike")]
    assert len(losses) == 3 and final(tmp_path / "a")[0] == 60


def test_a_loss_that_has_come_to_another_level_ends_no_run(tmp_path):
    run(tmp_path / "a", *SPIKES, "objective.level_from=36")
    assert len(events(tmp_path / "a", "rollback")) == 1 and len(events(tmp_path / "a", "level")) == 1
    assert final(tmp_path / "a")[0] == 60


def test_the_loss_that_is_judged_is_the_mean_of_its_micro_batches(tmp_path, monkeypatch):
    judged, losses = [], []
    observe, micro_step = SpikeDetector.observe, StepEngine.run

    def seen(self, *arguments):
        metrics = micro_step(self, *arguments)
        losses.append(metrics["loss"])
        return metrics

    monkeypatch.setattr(SpikeDetector, "observe", lambda self, loss: (judged.append(loss), observe(self, loss))[1])
    monkeypatch.setattr(StepEngine, "run", seen)
    run(tmp_path / "a", "train.steps=3", "train.accumulate=4")
    assert judged == pytest.approx(torch.stack(losses).view(3, 4).mean(1).tolist())


RANKS = ("strategy.name=faulty", "train.steps=12", "train.checkpoint_every=4", "data.batch_size=12")


@pytest.mark.parametrize(
    ("world", "fault", "named"),
    [(3, "gradient", 1), (3, "weight", 2), (2, "gradient", 1)],
)
def test_a_flipped_bit_is_found_its_rank_named_and_the_run_ends_bit_identical(tmp_path, world, fault, named):
    words = (*RANKS, "train.replica_check_every=2")
    faulty = (f"strategy.fault={fault}", f"strategy.rank={named}", "strategy.step=6", "strategy.bit=20")
    run_ranks(run, world, str(tmp_path / "flipped"), *words, *faulty)
    found = events(tmp_path / "flipped", "corruption")
    assert found[0]["step"] == 8 and found[0]["last_good"] == 6 and found[0]["ranks"] == list(range(world))
    # Of three the majority tells; of two the second time does.
    assert [event["wrong"] for event in found] == ([[named]] if world == 3 else [[], [named]])
    (back,) = events(tmp_path / "flipped", "rollback")
    assert back["back_to"] == 4 and back["left_out"] == []
    run_ranks(run, world, str(tmp_path / "clean"), *words)
    assert not (tmp_path / "clean" / "events").exists()
    assert_same_end(tmp_path / "flipped", tmp_path / "clean")


def test_a_step_that_is_computed_twice_names_the_rank_that_miscomputes(tmp_path):
    more = ("train.steps=12", "train.checkpoint_every=4", "train.replay_every=3")
    run(tmp_path / "a", *more, "objective.miscompute_at=12")  # in the second computation of step 6
    (found,) = events(tmp_path / "a", "corruption")
    assert (found["step"], found["found_by"], found["wrong"]) == (6, "replay", [0])
    run(tmp_path / "clean", "train.steps=12", "train.checkpoint_every=4")
    assert_same_end(tmp_path / "a", tmp_path / "clean")


LAYOUTS = {
    "ddp+tp": "strategy.name=ddp parallel.tensor=2",
    "ddp+pp": "strategy.name=ddp parallel.pipeline=2",
    "ulysses": "strategy.name=ulysses parallel.data=2",
    "fsdp+tp": "strategy.name=fsdp parallel.tensor=2",
    "zero1": "strategy.name=zero1",
    "muon": "strategy.name=ddp optimizer.name=muon",
    "bf16": "strategy.name=fsdp train.parameters=bf16 train.precision=bf16",
}
HYBRID = "strategy.name=hsdp parallel.data=2 parallel.shard=2"


def checked(folder, layout):
    """A small transformer, compared after each step; how many comparisons found copies of something."""
    seen = []
    original = ReplicaCheck.__call__

    def watched(self, step, named, stage=0):
        original(self, step, named, stage)
        seen.append(self.mesh.gather(digest(named, stage)))

    ReplicaCheck.__call__ = watched
    plugin = f"plugins=[{HERE / 'tiny_plugin.py'}]"
    blocks = ["data.name=tiny", "model.name=tiny", "objective.name=tiny", "loggers=[]", f"folder={folder}"]
    often = ["train.steps=4", "train.replica_check_every=1", "train.validate_every=0"]
    train(load_run_config(None, [plugin, *blocks, *often, *layout.split()]))
    ReplicaCheck.__call__ = original
    return [sum(sum(key in one for one in digests) > 1 for key in digests[0]) for digests in seen]


def test_copies_under_hsdp_are_compared_along_the_replicated_axis(tmp_path):
    assert run_ranks(checked, 4, str(tmp_path / "run"), HYBRID)[0] == [2, 2, 2, 2], (
        "once a step, the last one that is saved, too"
    )
    assert not (tmp_path / "run" / "events").exists()


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_in_no_layout_copies_differ_by_themselves(tmp_path, layout):
    found = run_ranks(checked, 4, str(tmp_path / "run"), LAYOUTS[layout])[0]
    assert len(found) >= 4 and not (tmp_path / "run" / "events").exists()


def test_any_flipped_bit_changes_the_digest():
    generator = torch.Generator().manual_seed(0)
    for dtype in (torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.uint8, torch.bool):
        named = {"w": (torch.randn(3, 3001, generator=generator) * 9).to(dtype), "b": torch.ones((), dtype=dtype)}
        before = digest(named)
        raw = named["w"].view(-1).view(torch.uint8)
        for place in (0, 4097, len(raw) - 1):
            for bit in (0, 7):
                raw[place] ^= 1 << bit
                assert digest(named) != before, (dtype, place, bit)
                raw[place] ^= 1 << bit
        assert digest(named) == before
        assert digest({"w": named["b"], "b": named["w"]}) != before, "which tensor has the bits counts"


def test_the_majority_of_copies_is_right_and_two_cannot_say():
    good, bad = {"stage 0": 5}, {"stage 0": 6}
    assert disagreement([good, good]) is None and disagreement([good]) is None
    assert disagreement([good, bad, good]).suspects == (1,)
    assert disagreement([good, bad]).suspects == () and disagreement([good, bad]).ranks == (0, 1)
    assert disagreement([{"stage 0": 5}, {"stage 1": 7}]) is None, "nobody holds a copy of what another stage has"
    assert changed([good, bad], [good, good]) == (1,)


def test_shards_that_nobody_else_holds_are_hashed_once(monkeypatch):
    left_out, copies = [], [5, 5]

    def hashed(named, stage, without):
        left_out.append(set(without))
        return {key: value for key, value in {"stage 0": copies[0], "shard 0": 7}.items() if key not in without}

    class Two:
        def gather(self, own):
            other = {"stage 0": copies[1], "shard 1": 9}
            return [own, {key: value for key, value in other.items() if key not in left_out[-1]}]

    monkeypatch.setattr("maquette.engine.corruption.digest", hashed)
    told = []
    check = ReplicaCheck(Two(), AnomalyGuard(2), lambda kind, **facts: told.append(facts))
    copies[1] = 6
    with pytest.raises(Rollback):
        check(4, {})
    copies[1] = 5
    check(4, {})
    assert left_out == [set(), {"shard 0", "shard 1"}]
    assert [facts["wrong"] for facts in told] == [(), (1,)]
    assert digest({"w": torch.ones(3)}, without={"stage 0"}) == {}


def test_an_owner_that_was_replaced_publishes_nothing(tmp_path, monkeypatch):
    """As where a file system's locks do not reach another machine."""
    monkeypatch.setattr("maquette.ownership.fcntl.flock", lambda *_: None)
    old = Ownership(tmp_path)
    weights = {"model": {"w": torch.ones(3)}}
    with checkpoint.Saver(tmp_path / "checkpoints", owner=old) as saver:
        saver.save(1, weights, {}, wait=True)
        new = Ownership(tmp_path)
        assert new.epoch == old.epoch + 1
        with pytest.raises(MaquetteError, match=r"taken over .*owner 2, this is 1"):
            saver.save(2, weights, {}, wait=True)
        saver.save(3, weights, {})
        saver.wait()
        with pytest.raises(MaquetteError, match="taken over"):
            saver.poll()
    assert [path.name for path in checkpoint.paths(tmp_path / "checkpoints")] == ["step_00000001"]
    assert '"epoch": 1' in (tmp_path / "checkpoints" / "step_00000001" / "manifest.json").read_text()
    assert not list((tmp_path / "checkpoints").glob(".step_*"))


def test_an_owner_waits_for_the_one_before_as_long_as_it_is_told(tmp_path):
    first = Ownership(tmp_path)
    with pytest.raises(MaquetteError, match="another process is writing"):
        Ownership(tmp_path, patience=0.2)
    first.release()
    assert Ownership(tmp_path).epoch == 2


def test_an_owner_that_waits_takes_a_folder_that_was_removed_meanwhile(tmp_path):
    folder, taken = tmp_path / "a", []
    first = Ownership(folder)
    waiting = Thread(target=lambda: taken.append(Ownership(folder, patience=20)))
    waiting.start()
    shutil.rmtree(folder)
    first.release()
    waiting.join()
    taken[0].check()
    with pytest.raises(MaquetteError, match="another process is writing"):
        Ownership(folder)


def test_where_there_are_no_locks_the_number_alone_keeps_a_second_owner_out(tmp_path, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr("maquette.ownership.fcntl.flock", none)
    first = Ownership(tmp_path)
    first.check()
    Ownership(tmp_path).check()
    with pytest.raises(MaquetteError, match="taken over"):
        first.check()


def test_events_are_whole_lines_of_strict_json(tmp_path):
    log = EventLog(tmp_path, rank=3)
    log.add("spike", loss=float("nan"), samples=[{"position": [1, 2]}], limit=float("inf"))
    log.add("rollback", step=4)
    with log.path.open("a") as file:
        file.write('{"time": 3, "kind": "cut o')
    first, second = read_events(tmp_path)
    assert first["loss"] == "nan" and first["limit"] == "inf" and first["rank"] == 3 and second["step"] == 4
