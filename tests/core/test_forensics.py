"""Hangs, crashes and lack of memory: what is found out, by evidence made up here; real processes are elsewhere."""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from maquette.engine.phase_memory import PhaseMemory
from maquette.forensics import out_of_memory, processes, remedies
from maquette.forensics import pulse as pulses
from maquette.forensics.incidents import incidents, record
from maquette.forensics.limits import WARM_UP, Expectation
from maquette.forensics.live_tensors import address, describe_live_tensors
from maquette.forensics.out_of_memory import OutOfMemory, Reporter, is_out_of_memory
from maquette.forensics.pulse import Pulse, ask_for_flight, read_sign
from maquette.forensics.stacks import ask_for_stacks, main_thread_frames, stacks_file, telling_place
from maquette.forensics.verdict import Collective, Flight, Witness, judge, read_flight, spans
from maquette.forensics.watchdog import Watchdog
from maquette.hardware.cgroups import CgroupReading
from maquette.launching import aftermath
from maquette.launching.aftermath import Aftermath
from maquette.launching.failure import Failure, root_cause


@given(st.lists(st.floats(0.001, 100), min_size=WARM_UP, max_size=20))
def test_no_silence_like_one_that_was_seen_is_a_hang(seconds):
    expected = Expectation(first=1800, least=60, factor=5)
    for number, value in enumerate(seconds):
        if number < WARM_UP:
            assert expected.limit == 1800
        expected.observe(value)
    assert expected.limit == max(60, 5 * max(seconds[1:]))  # the first, which compiles, tells nothing


def test_a_process_tells_its_phase_step_limit_stacks_and_that_it_lives(tmp_path):
    pulse = Pulse(tmp_path, 3, first=900, least=1.0, factor=5)
    with pulse.beating():
        sign = read_sign(tmp_path, 3)
        assert (sign.pid, sign.phase, sign.limit) == (os.getpid(), "start", 900)
        pulse.enter("train")
        for step in range(1, WARM_UP + 2):
            pulse.mark(step)
            pulse.mark(step)  # a micro-batch of the same step
        sign = read_sign(tmp_path, 3)
        assert (sign.phase, sign.step, sign.limit) == ("train", WARM_UP + 1, 1.0)
        with pulse.during("save"):
            assert read_sign(tmp_path, 3).limit == 900
        assert read_sign(tmp_path, 3).phase == "train"
        ask_for_stacks(os.getpid())
        ask_for_flight(tmp_path, 3)
        until = time.monotonic() + 20
        while read_sign(tmp_path, 3).beat == sign.beat and time.monotonic() < until:
            time.sleep(0.05)
        assert read_sign(tmp_path, 3).beat > sign.beat
        stacks = stacks_file(tmp_path, 3).read_text()
        assert "in test_a_process_tells" in stacks and telling_place(stacks).startswith("ask_for_stacks")
    assert read_sign(tmp_path, 3).limit == 0  # after its end no silence is one
    assert read_sign(tmp_path, 4) is None
    pulse._thread.join(20)
    assert not pulse._thread.is_alive()


def test_a_flight_that_cannot_be_written_does_not_stop_the_beat(tmp_path, monkeypatch):
    asked = []

    def fail(folder, rank):
        asked.append(rank)
        raise RuntimeError("torch has changed")

    monkeypatch.setattr(pulses, "write_flight", fail)
    monkeypatch.setattr(pulses, "BEAT_SECONDS", 0.01)
    with Pulse(tmp_path, 3, first=900).beating():
        ask_for_flight(tmp_path, 3)
        until = time.monotonic() + 20
        while not asked and time.monotonic() < until:
            time.sleep(0.01)
        beat = read_sign(tmp_path, 3).beat
        while read_sign(tmp_path, 3).beat == beat and time.monotonic() < until:
            time.sleep(0.01)
        assert read_sign(tmp_path, 3).beat > beat
    assert asked == [3]


def test_without_a_launcher_nothing_is_written_and_no_thread_runs(tmp_path, monkeypatch):
    monkeypatch.delenv("MAQUETTE_WATCHED", raising=False)
    monkeypatch.chdir(tmp_path)
    before = threading.active_count()
    with Pulse.of_this_process(first=900, least=60, factor=5).beating() as pulse:
        pulse.enter("train")
        pulse.mark(1)
        assert threading.active_count() == before and not list(tmp_path.iterdir())


def calls(*made, group="0", pending=()):
    return [Collective(group, number, op, operands, number not in pending) for number, op, operands in made]


def witness(rank, flight=None, state="S", *, beats=True, place="", silent=70.0):
    described = processes.SAID[state]
    found = Flight(rank, {"0": [0, 1, 2]}, flight) if flight is not None else None
    return Witness(rank, 100 + rank, state, described, place, beats, silent, "train", 12, found)


SUM = "all_reduce", "Float [4]"


def test_the_rank_that_is_missing_in_a_collective_is_named_with_the_collective_and_its_place():
    there = calls((1, *SUM), (2, *SUM), pending=(2,))
    verdict = judge([witness(0, there), witness(1, calls((1, *SUM)), place="get (queue.py:1)"), witness(2, there)])
    assert verdict.culprits == (1,)
    assert (
        "rank 1 (pid 101), now at get (queue.py:1), has not come to all_reduce of Float [4], number 2" in verdict.line
    )
    assert "ranks 0, 2 wait in it" in verdict.line
    several = judge([witness(0, there), witness(1, [], place="get (queue.py:1)"), witness(2, [])]).line
    assert several.startswith("rank 1 (pid 101), now at get (queue.py:1), and rank 2 (pid 102) have not come to")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"state": "T"}, "is stopped (SIGSTOP)"),
        ({"state": "D"}, "waits in the kernel"),
        ({"beats": False, "place": "match (re.py:3)"}, "holds the interpreter at match (re.py:3)"),
    ],
)
def test_what_the_kernel_knows_of_a_process_comes_first(change, said):
    waiting = calls((1, *SUM), pending=(1,))
    verdict = judge([witness(0, waiting), witness(1, **change), witness(2, waiting)])
    assert verdict.culprits == (1,) and said in verdict.line and "ranks 0, 2 wait in all_reduce" in verdict.line


def test_ranks_that_call_different_collectives_are_told_apart_by_the_majority():
    odd = calls((1, "all_reduce", "Float [7]"), pending=(1,))
    usual = calls((1, "all_reduce", "Float [5]"), pending=(1,))
    verdict = judge([witness(0, usual), witness(1, odd), witness(2, usual)])
    assert verdict.culprits == (1,) and "rank 1: all_reduce of Float [7]" in verdict.line
    undecided = judge([witness(0, usual), witness(1, odd)])
    assert "cannot be told" in undecided.line
    # Some collectives may be called with different sizes.
    uneven = [witness(rank, calls((1, "all_to_all", f"Float [{rank}]"), pending=(1,))) for rank in range(3)]
    assert judge(uneven).culprits == () and "which does not end" in judge(uneven).line


def test_without_a_collective_the_longest_silent_rank_is_named():
    verdict = judge([witness(0, [], silent=3), witness(1, [], silent=80, place="sleep (a.py:2)")])
    assert verdict.culprits == (1,) and "no collective is under way" in verdict.line and "a.py:2" in verdict.line
    assert spans([5, 0, 1, 2, 8]) == "0-2, 5, 8"


def test_a_torn_or_hostile_flight_is_none(tmp_path):
    file = tmp_path / "flight.json"
    assert read_flight(file) is None
    for text in ("{", "[]", '{"entries": [{}], "rank": 0, "groups": {}}', "\x80\x04pickle"):
        file.write_text(text)
        assert read_flight(file) is None


def test_stacks_are_read_to_the_innermost_frame_of_the_main_thread():
    text = (
        'Thread 0x01 (most recent call first):\n  File "/x/a.py", line 1 in beat\n\n'
        "Current thread 0x02 (most recent call first):\n"
        '  File "/v/lib/python3.11/queue.py", line 7 in get\n  File "/opt/me/loader.py", line 9 in fetch\n'
    )
    assert [frame[2] for frame in main_thread_frames(text)] == ["get", "fetch"]
    assert "called from fetch (/opt/me/loader.py:9)" in telling_place(text)
    assert main_thread_frames("") == [] and telling_place("nothing") == ""


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has"), True),
        (MemoryError(), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
            True,
        ),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_which_errors_are_a_lack_of_memory(error, is_one):
    assert is_out_of_memory(error) is is_one


def failing_step(error, kept):
    weight = nn.Linear(64, 64)
    x = torch.ones(1000, 64)
    hidden = torch.nn.functional.gelu(weight(x)).exp()
    kept["weight"] = weight.weight
    raise error if hidden.requires_grad else AssertionError


def engine_of(kept):
    memory = PhaseMemory(torch.device("cpu"))
    memory.after("forward")
    return SimpleNamespace(memory=memory, state=lambda: {"model": {"w": kept["weight"]}}, named={"w": kept["weight"]})


def test_a_faked_cuda_lack_of_memory_names_tensors_snapshot_and_what_to_change(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda.memory, "_dump_snapshot", lambda path: Path(path).write_text("snapshot"))
    planned = remedies.Remedies(8 * 2**30, (("train.activation_checkpointing=full", 3 * 2**30),))
    monkeypatch.setattr(out_of_memory, "remedies", lambda run, world: planned)
    kept = {}
    pulse = Pulse(None, 0, first=900)
    report = Reporter(tmp_path, pulse)
    with pytest.raises(OutOfMemory) as caught, report.reporting():
        pulse.enter("train")
        pulse.mark(41)
        try:
            failing_step(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 ..."), kept)
        finally:
            report.engine = engine_of(kept)
    message = str(caught.value)
    assert "after step 41 (rank 0): 2.00 GiB more were asked for" in message
    assert "try train.activation_checkpointing=full (3.00 GiB) instead of a planned peak of 8.00 GiB" in message
    [folder] = incidents(tmp_path)
    text = (folder / "out_of_memory.rank0.txt").read_text()
    assert re.search(r"16,384 +1  float32\[64, 64\] cpu model w\n", text)
    assert re.search(r"256,000 +1  float32\[1000, 64\] cpu saved by GeluBackward", text)
    assert "after forward" in text and (folder / "memory.rank0.pickle").read_text() == "snapshot"
    assert "planned peak of a process: 8.00 GiB; with changes:" in (folder / "summary.txt").read_text()


def test_other_errors_pass_as_they_are_and_an_unwatched_crash_is_kept(tmp_path):
    with pytest.raises(ZeroDivisionError), Reporter(tmp_path, Pulse(None, 0, first=900)).reporting():
        raise ZeroDivisionError("on purpose")
    [folder] = incidents(tmp_path)
    assert "rank 0: ZeroDivisionError: on purpose" in (folder / "summary.txt").read_text()
    with pytest.raises(ZeroDivisionError), Reporter(tmp_path / "b", Pulse(tmp_path, 0, first=900)).reporting():
        raise ZeroDivisionError  # the launcher keeps it
    assert not list(incidents(tmp_path / "b"))


def test_a_crash_that_cannot_be_written_down_is_still_told_itself(tmp_path, monkeypatch):
    written = []

    def full(*given):
        written.append(given)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(out_of_memory, "record", full)
    report = Reporter(tmp_path, Pulse(None, 0, first=900))
    with pytest.raises(ZeroDivisionError), report.reporting():
        raise ZeroDivisionError("on purpose")
    with pytest.raises(OSError, match="quota"), report.reporting():
        raise OSError(errno.EDQUOT, "quota")
    assert len(written) == 1  # a full disk is not asked for room to tell of itself
    monkeypatch.setattr(aftermath, "record", full)
    lost = Failure(1, 11, -signal.SIGKILL, 100.0)
    assert Aftermath(Watchdog(tmp_path, tmp_path), tmp_path).explain([lost], 2) == lost


def test_what_is_saved_for_the_backward_pass_is_seen_without_computing_anything_again():
    from torch.utils.checkpoint import checkpoint

    computed = []

    def block(x):
        computed.append(1)
        return torch.nn.functional.gelu(x)

    x = torch.ones(317, 11, requires_grad=True)
    y = checkpoint(block, x, use_reentrant=False).exp()
    table = describe_live_tensors({address(x): "the input"})
    assert len(computed) == 1 and "float32[317, 11] cpu the input" in table
    assert "float32[317, 11] cpu saved by ExpBackward" in table or "made by ExpBackward" in table
    assert y.requires_grad


def test_changes_are_planned_in_a_process_of_their_own(tmp_path, monkeypatch):
    rows = [["", 100], ["a=1", 120], ["b=2", 60], ["e=5", "no such size"], ["c=3 d=4", 40]]
    script = "import json\n" + "".join(f"print(json.dumps({row!r}), flush=True)\n" for row in rows)
    fake, real = tmp_path / "python", sys.executable
    fake.write_text(f"#!{real}\nimport os\nassert 'RANK' not in os.environ\n{script}")
    fake.chmod(0o755)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setattr(sys, "executable", str(fake))
    found = remedies.remedies(tmp_path, 4)
    assert found.peak == 100 and found.changes == (("c=3 d=4", 40), ("b=2", 60))
    assert found.table().endswith("\nnot planned: e=5: no such size") and found.line().startswith("try c=3 d=4 (")
    assert "lowers it (e=5: no such size)" in remedies.Remedies(100, (), found.reason).line()
    fake.write_text(f"#!{real}\nimport sys, time\n{script}\ntime.sleep(60)")
    monkeypatch.setattr(remedies, "PATIENCE", 2.0)
    late = remedies.remedies(tmp_path, 4)  # what was planned in time, and that it is not all
    assert late.peak in (0, 100) and late.reason
    fake.write_text(f"#!{real}\nimport sys\nsys.exit('plan: no batch')")
    assert remedies.remedies(tmp_path, 4).line().endswith("(plan: no batch)")


def test_a_worker_that_the_kernel_killed_for_memory_is_told_from_one_that_somebody_killed(tmp_path, monkeypatch):
    kills = iter([3, 3, 4])
    monkeypatch.setattr(aftermath.cgroups, "read", lambda: CgroupReading(2, 100, 50, next(kills)))
    found = Aftermath(Watchdog(tmp_path, tmp_path), tmp_path)
    lost = Failure(1, 11, -signal.SIGKILL, 100.0)
    assert str(found.explain([lost], 2)) == "rank 1 (pid 11) was killed by SIGKILL"
    told = found.explain([lost, Failure(0, 10, 1, 100.0, "RuntimeError: Connection reset")], 2)
    assert "by the kernel, which had no memory left (oom_kill: 3 -> 4)" in str(told)
    assert "oom_kill" in (Path(told.incident) / "summary.txt").read_text()


def test_the_last_words_of_a_library_that_aborts_are_said(tmp_path):
    output = tmp_path / "stderr.log"
    output.write_text("terminate called\n  what():  [enforce fail] Received data size doesn't match\nFatal\n")
    lost = Failure(0, 10, -signal.SIGABRT, 100.0, output=str(output))
    told = Aftermath(Watchdog(tmp_path, tmp_path), tmp_path).explain([lost], 2)
    assert str(told).endswith("was killed by SIGABRT: [enforce fail] Received data size doesn't match")


def test_a_rank_without_memory_is_the_cause_of_its_peers_failures():
    full = Failure(2, 12, out_of_memory.STATUS, 101.0, "out of memory")
    peers = [Failure(rank, rank, 1, 100.0 + rank, "RuntimeError: Connection reset") for rank in (0, 1)]
    assert root_cause([*peers, full]) is full and full.out_of_memory and not full.final


def test_incidents_of_one_second_have_folders_of_their_own(tmp_path):
    found = [record(tmp_path, "crash", f"number {n}", {"n": n}) for n in range(3)]
    assert len({incident.path for incident in found}) == 3 and len(list(incidents(tmp_path))) == 3
    found[0].add("then it ended")
    assert found[0].summary.read_text().count("\n") == 2


def test_no_secret_is_in_an_incident(tmp_path):
    secret = "hf_abcdefghijklmnopqrstuvwxyzABCDEFGH"
    found = record(tmp_path, "crash", f"token={secret}", {"message": secret, "api_key": "only-by-its-key"}, secret)
    found.keep("output.rank0.txt", f"Bearer {secret}")
    found.add(f"again {secret}")
    texts = [path.read_text() for path in found.path.iterdir()]
    assert len(texts) == 3 and not [text for text in texts if secret in text or "only-by-its-key" in text]
