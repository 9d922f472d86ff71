"""Tasks are claimed once, end once, and are there after any crash."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from maquette.errors import MaquetteError
from maquette_serve.engine.engine_setup import EngineSetup, Opened
from maquette_serve.service.service import Service, Settings
from maquette_serve.service.store import Conflict, Store
from maquette_serve.service.task import CANCELED, FAILED, IN_PROGRESS, OVER, PENDING, SUCCEEDED, Task, new_id


def task(owner="ann", **settings):
    return Task(new_id(), owner, settings.pop("kind", "task"), "slow", {"prompt": "a chair"}, **settings)


@pytest.fixture(params=["sqlite", "postgres"])
def store(request, tmp_path):
    if request.param == "sqlite":
        return Store(f"sqlite:///{tmp_path}/tasks.db")
    return Store(request.getfixturevalue("postgres")())


def test_identities_sort_by_time_and_are_of_version_7():
    made = [new_id() for _ in range(50)]
    assert len(set(made)) == 50
    assert all(one[14] == "7" and one[19] in "89ab" for one in made)
    assert made[0][:8] <= made[-1][:8]


def test_a_task_goes_its_way_and_every_change_is_told(store):
    made = store.create(task())
    claimed = store.claim("server")
    assert (claimed.id, claimed.status, claimed.attempt) == (made.id, IN_PROGRESS, 1)
    assert store.claim("server") is None
    assert store.progressed(claimed, 40)
    assert not store.progressed(claimed, 30)
    assert store.succeed(claimed, {"files": ["model.glb"]})
    assert not store.fail(claimed, "too late")
    ended = store.get(made.id)
    assert (ended.status, ended.progress, ended.result) == (SUCCEEDED, 100, {"files": ["model.glb"]})
    told = store.events(made.id)
    assert [event.state["status"] for event in told] == [PENDING, IN_PROGRESS, IN_PROGRESS, SUCCEEDED]
    assert [event.state["progress"] for event in store.events(made.id, told[1].sequence)] == [40, 100]


def test_the_most_urgent_goes_first(store):
    low, high, later = (store.create(task(priority=priority)) for priority in (0, 1, 0))
    assert [store.claim("server").id for _ in range(3)] == [high.id, low.id, later.id]


def test_another_owner_sees_nothing(store):
    made = store.create(task("ann"))
    assert store.get(made.id, "bob") is None
    assert store.cancel(made.id, "bob") is None
    assert store.page("bob", ["task"], 0, 10) == []
    assert store.get(made.id, "ann").status == PENDING


def test_an_idempotency_key_makes_one_task(store):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: store.create(task(), "key", "digest"), range(16)))
    assert len({one.id for one in made}) == 1
    assert store.create(task("bob"), "key", "other").id != made[0].id
    with pytest.raises(Conflict, match="'key' was used with another request"):
        store.create(task(), "key", "other")


def test_many_claim_and_each_task_is_claimed_once(store):
    made = [store.create(task()) for _ in range(30)]
    claimed, lock = [], threading.Lock()

    def take(holder):
        while (one := store.claim(holder)) is not None:
            with lock:
                claimed.append(one.id)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(take, "abcdef"))
    assert sorted(claimed) == sorted(one.id for one in made)


def test_what_a_dead_server_held_is_begun_again_and_given_up_in_the_end(tmp_path):
    store = Store(f"sqlite:///{tmp_path}/tasks.db", attempts=2, lease=-1)
    made = store.create(task())
    first, second = store.claim("dead"), store.claim("alive")
    assert (first.id, second.id, second.attempt) == (made.id, made.id, 2)
    assert not store.succeed(first, {"from": "the dead"})
    assert store.claim("alive") is None
    assert "given up after 2 attempts" in store.get(made.id).error


def test_a_lease_goes_on_with_signs_of_life(tmp_path):
    store = Store(f"sqlite:///{tmp_path}/tasks.db", lease=-1)
    store.create(task())
    held = store.claim("a")
    store.lease = 60_000
    store.keep("b", [held.id])
    assert store.claim("b").id == held.id  # another's sign of life is none
    store.keep("b", [held.id])
    assert store.claim("c") is None


def test_a_webhook_waits_for_the_end(store):
    store.create(task(), webhook="https://example.org/hook")
    store.succeed(store.claim("server"), {})
    with store.engine.connect() as connection:
        rows = connection.exec_driver_sql("select address, done from webhooks").all()
    assert [tuple(row) for row in rows] == [("https://example.org/hook", False)]


def test_what_was_accepted_survives_the_death_of_its_server(tmp_path):
    code = """
        import os, sys
        from maquette_serve.service.store import Store
        from maquette_serve.service.task import Task, new_id
        store = Store(sys.argv[1])
        for number in range(1000):
            made = store.create(Task(new_id(), "ann", "task", "slow", {"number": number}))
            print(made.id, flush=True)
    """
    url = f"sqlite:///{tmp_path}/tasks.db"
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), url], stdout=subprocess.PIPE, text=True, bufsize=1
    )
    accepted = [process.stdout.readline().strip() for _ in range(20)]
    process.kill()
    process.wait()
    store = Store(url)
    assert all(store.get(one) is not None for one in accepted)


def test_a_database_that_cannot_be_used_is_an_error_of_one_line():
    with pytest.raises(MaquetteError, match="database 'nothing://here' cannot be used"):
        Store("nothing://here")


class Lives(RuleBasedStateMachine):
    """Claims, ends, cancels and lost servers in any order: no task ends twice, none is lost."""

    def __init__(self):
        super().__init__()
        self.store = Store("sqlite://", attempts=2)
        self.made, self.held, self.ends = [], [], {}

    @rule(priority=st.integers(0, 2))
    def create(self, priority):
        self.made.append(self.store.create(task(priority=priority)).id)

    @rule()
    def claim(self):
        claimed = self.store.claim("server")
        if claimed is not None:
            self.held.append(claimed)

    @rule()
    def the_server_is_lost(self):
        self.store.release_all("server")

    @rule(data=st.data(), how=st.sampled_from(["succeed", "fail", "progressed", "release"]))
    def report(self, data, how):
        if not self.held:
            return
        one = data.draw(st.sampled_from(self.held))
        if how == "release":
            self.store.release(one)
            return
        counted = getattr(self.store, how)(one, {"succeed": {}, "fail": "no", "progressed": 50}[how])
        if counted and how != "progressed":
            assert one.id not in self.ends
            self.ends[one.id] = {"succeed": SUCCEEDED, "fail": FAILED}[how]

    @rule(data=st.data())
    def cancel(self, data):
        if self.made:
            one = data.draw(st.sampled_from(self.made))
            before = self.store.get(one)
            after = self.store.cancel(one, "ann")
            assert after.status == (before.status if before.over else CANCELED)
            self.ends.setdefault(one, after.status)

    @invariant()
    def ends_are_kept(self):
        for one in self.made:
            now = self.store.get(one)
            if one in self.ends:
                assert now.status == self.ends[one]
            elif now.over:
                assert "given up" in now.error
            assert now.attempt <= 3


Lives.TestCase.settings = settings(max_examples=12, stateful_step_count=25)
TestLives = Lives.TestCase


@given(st.integers(0, 30), st.integers(1, 10))
@settings(max_examples=10)
def test_pages_hold_every_task_once(count, size):
    store = Store("sqlite://")
    made = [store.create(replace(task(), kind="a" if number % 3 else "b")).id for number in range(count)]
    for kinds, wanted in ((["a", "b"], made), (["a"], [one for number, one in enumerate(made) if number % 3])):
        pages = [store.page("ann", kinds, start, size) for start in range(0, count + 1, size)]
        assert sorted(one.id for page in pages for one in page) == sorted(wanted)
    assert store.unfinished("ann") == count
    assert set(OVER) == {SUCCEEDED, FAILED, CANCELED}


def test_what_is_kept_long_enough_is_swept(tmp_path):
    service = Service(Settings(EngineSetup({"slow": Opened()}), tmp_path, retention_hours=0.0))
    made = service.store.create(task())
    kept = service.store.create(task())
    folders = [service.files.path(f"files/{one.id}/1") for one in (made, kept)]
    upload = service.files.path(service.new_upload("ann", ".png")[1])
    for folder in (*folders, upload.parent):
        folder.mkdir(parents=True)
    upload.touch()
    service.store.succeed(service.store.claim("server"), {})
    time.sleep(0.01)
    service.sweep()
    assert [service.store.get(one.id) is None for one in (made, kept)] == [True, False]
    assert [folder.exists() for folder in folders] == [False, True]
    assert not upload.exists()


def test_a_folder_has_one_server_at_a_time(tmp_path):
    settings = Settings(EngineSetup({"slow": Opened()}), tmp_path)
    first = Service(settings)
    with pytest.raises(MaquetteError, match="another server uses"):
        Service(settings)
    first.close()
    Service(settings).close()
