"""Saving goes on beside training, and neither a full disk nor a kill at any moment costs more than that save."""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import signal
import threading
import time
from collections import namedtuple

import pytest
import torch

from maquette import checkpoint
from maquette.checkpoint import Saver
from maquette.errors import MaquetteError


def parts(value: float = 0.0, size: int = 1000):
    return {
        "model": {"w": torch.full((size,), value), "b": torch.full((3,), value).bfloat16()},
        "optimizer": {"w/exp_avg": torch.full((size,), -value), "w/step": torch.tensor(value)},
    }


@pytest.fixture
def gate(monkeypatch):
    """Holds back all writing to the disk until it is opened."""
    opened, write = threading.Event(), os.write
    monkeypatch.setattr(os, "write", lambda *args: (opened.wait(20), write(*args))[1])
    yield opened
    opened.set()


def test_what_is_staged_is_not_changed_by_later_steps(tmp_path, gate):
    state, plain = parts(1.0), {"seen": [1]}
    with Saver(tmp_path) as saver:
        saver.save(1, state, plain)
        for tensors in state.values():
            for tensor in tensors.values():
                tensor.fill_(99.0)
        plain["seen"].append(2)
        assert checkpoint.paths(tmp_path) == [] and saver.poll() == []
        gate.set()
    found, _ = checkpoint.newest(tmp_path)
    assert found.state["seen"] == [1]
    assert all(torch.equal(found.read(part)[n], t) for part, ts in parts(1.0).items() for n, t in ts.items())


def test_in_the_background_the_same_bytes_are_written_also_from_reused_buffers(tmp_path):
    for background in (True, False):
        with Saver(tmp_path / str(background), keep=9, background=background) as saver:
            for step in (1, 2, 3):
                size = 1000 if step < 3 else 500
                saver.save(step, parts(float(step), size), {"micro_step": step}, score=1.0)
    for one in sorted((tmp_path / "True").glob("step_*/*")):
        other = tmp_path / "False" / one.parent.name / one.name
        assert one.read_bytes() == other.read_bytes(), one.name
    found, _ = checkpoint.read_newest(tmp_path / "True")
    assert torch.equal(found.parts["model"]["w"], torch.full((500,), 3.0)), "a plan for other shapes was kept"


def test_a_save_waits_for_the_one_before_it_and_repeats_none(tmp_path, gate):
    with Saver(tmp_path) as saver:
        saver.save(1, parts(1.0), {})
        threading.Timer(0.2, gate.set).start()
        saver.save(2, parts(2.0), {})
        assert checkpoint.paths(tmp_path)[-1].name == "step_00000001"
        saver.save(2, parts(7.0), {}, wait=True)
    assert float(checkpoint.newest(tmp_path)[0].read("optimizer")["w/step"]) == 2.0


def test_a_slow_disk_is_said_to_be_slow(tmp_path, gate, monkeypatch):
    monkeypatch.setattr("maquette.checkpoint.saver.SLOW_SECONDS", 0.1)
    with Saver(tmp_path) as saver:
        saver.save(1, parts(1.0), {})
        threading.Timer(0.3, gate.set).start()
        saver.save(2, parts(2.0), {})
        (warning,) = saver.poll()
        assert warning.startswith("step 2 waited 0.") and "is slow" in warning and str(tmp_path) in warning
        saver.save(3, parts(3.0), {})
    assert len(checkpoint.paths(tmp_path)) == 2


def test_a_second_writer_leaves_alone_what_the_first_is_writing(tmp_path, gate):
    with Saver(tmp_path) as first:
        first.save(1, parts(1.0), {})
        while not list(tmp_path.glob(".step_*")):
            assert first.busy
        Saver(tmp_path).close()
        gate.set()
    assert checkpoint.newest(tmp_path)[0].step == 1


@pytest.mark.parametrize("nth", range(6))
def test_a_full_disk_costs_one_save_and_nothing_else(tmp_path, monkeypatch, nth):
    with Saver(tmp_path, keep=1) as saver:
        saver.save(1, parts(1.0), {}, wait=True)
        with monkeypatch.context() as patch:
            write, calls = os.write, iter(range(100))

            def full(*args):
                if next(calls) >= nth:
                    raise OSError(errno.ENOSPC, "No space left on device")
                return write(*args)

            patch.setattr(os, "write", full)
            saver.save(2, parts(2.0), {})
            saver.wait()
            (warning,) = saver.poll()
            assert "step 2 was not saved: disk full" in warning and " MB free" in warning and "goes on" in warning
            assert str(tmp_path) in warning and saver.poll() == []
            with pytest.raises(MaquetteError, match="step 3 was not saved: disk full"):
                saver.save(3, parts(3.0), {}, wait=True)
        assert [p.name for p in tmp_path.glob("[!.]*")] == ["step_00000001"] and not list(tmp_path.glob(".step_*"))
        saver.save(4, parts(4.0), {})
    assert [p.name for p in checkpoint.paths(tmp_path)] == ["step_00000004"]


def test_too_little_room_is_said_before_anything_is_written(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9, 1_200_000))
    with Saver(tmp_path) as saver, pytest.raises(MaquetteError, match=r"has 1.2 MB free and 5.0 MB are needed"):
        saver.save(1, parts(size=500_000), {}, wait=True)


def test_a_failure_nobody_asked_about_is_raised_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "rename", lambda *_: (_ for _ in ()).throw(OSError(errno.EIO, "Input/output error")))
    saver = Saver(tmp_path)
    saver.save(1, parts(), {})
    with pytest.raises(MaquetteError, match="Input/output error"):
        saver.close()
    assert checkpoint.paths(tmp_path) == []


def test_a_limit_on_file_size_is_a_full_disk_to_the_system(tmp_path):
    def child():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        with Saver(tmp_path) as saver:
            saver.save(1, parts(1.0, 20_000), {}, wait=True)
            saver.save(2, parts(2.0, 200_000), {})
            saver.wait()
            assert "disk full (File too large" in saver.poll()[0]

    assert in_a_child(child) == 0
    assert checkpoint.newest(tmp_path)[0].step == 1


def test_killed_at_any_call_to_the_system_what_is_visible_is_whole(tmp_path):
    """A child kills itself at its first, second, third... call that changes the disk, until it comes through."""
    moments = 0
    while True:
        folder = tmp_path / str(moments)
        checkpoint.save(folder, 1, parts(1.0), {}, keep=1)

        def child(folder=folder, nth=moments):
            kill_at(nth)
            with Saver(folder, keep=1) as saver:
                saver.save(2, parts(2.0), {})
                saver.save(3, parts(3.0), {})

        status = in_a_child(child)
        assert status in (0, -signal.SIGKILL)
        check_after_a_kill(folder)
        if status == 0:
            break
        moments += 1
    assert moments > 40


@pytest.mark.slow
def test_killed_at_100_random_moments_what_is_visible_is_whole(tmp_path):
    def child():
        with Saver(tmp_path, keep=2) as saver:
            start = checkpoint.paths(tmp_path)
            for step in range(int(start[0].name[5:]) + 1 if start else 1, 10**6):
                saver.save(step, parts(float(step), 200_000), {})

    chance = random.Random(0)
    for _ in range(100):
        pid = forked(child)
        time.sleep(chance.uniform(0.0, 0.3))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        if checkpoint.paths(tmp_path):
            check_after_a_kill(tmp_path)


def check_after_a_kill(folder):
    for path in checkpoint.paths(folder):
        found = checkpoint.read(path)
        assert float(found.parts["model"]["w"][-1]) == found.state["step"] == float(found.parts["optimizer"]["w/step"])
    assert checkpoint.paths(folder), "the good one from before must stay"
    Saver(folder).close()
    assert not list(folder.glob(".step_*")), "leftovers of the killed writer must go"


def kill_at(nth):
    """From now on, the ``nth`` call that changes the disk is this process's last."""
    calls = iter(range(10**6))
    for name in ("write", "fsync", "rename", "mkdir", "unlink", "rmdir"):
        own = getattr(os, name)

        def counted(*args, own=own, **kwargs):
            if next(calls) == nth:
                os.kill(os.getpid(), signal.SIGKILL)
            return own(*args, **kwargs)

        setattr(os, name, counted)


def forked(function):
    pid = os.fork()
    if pid:
        return pid
    try:
        function()
        os._exit(0)
    except BaseException as error:
        os.write(2, f"{error!r}\n".encode())
        os._exit(1)


def in_a_child(function):
    _, status = os.waitpid(forked(function), 0)
    return os.waitstatus_to_exitcode(status)
