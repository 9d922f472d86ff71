"""What becomes of claimed tasks whose leases run out, whose files cannot be had, and of which others dispose."""

from __future__ import annotations

import threading
import time

import pytest
from sqlalchemy import select, update

from maquette.errors import MaquetteError
from maquette_serve.engine.job import Delivered, Event
from maquette_serve.service.dispatcher import Dispatcher
from maquette_serve.service.files import Files, StoreAway
from maquette_serve.service.schema import TASKS
from maquette_serve.service.store import Store
from maquette_serve.service.task import CANCELED, IN_PROGRESS, SUCCEEDED, Task, new_id


class Engines:
    """Takes orders and does nothing of its own accord."""

    ready, waiting = True, 0

    def __init__(self):
        self.reports, self.cancelled, self.refusals = [], [], 0

    def start(self, timeout=0.0):
        pass

    def close(self):
        pass

    def cancel(self, ticket):
        self.cancelled.append(ticket)

    def submit(self, order, report):
        if self.refusals:
            self.refusals -= 1
            raise MaquetteError("no engine is ready")
        self.reports.append(report)
        return len(self.reports) - 1

    def succeed(self, ticket):
        delivered = Delivered({"ticket": ticket}, 4, ("model.glb",))
        self.reports[ticket](Event(ticket, "succeeded", 1.0, delivered=delivered))


@pytest.fixture
def new(tmp_path):
    """Makes dispatchers of one database, with a lease of so many milliseconds; ends them."""
    made = []

    def make(lease=30_000, **settings):
        store = Store(f"sqlite:///{tmp_path}/tasks.db", lease=lease)
        files = Files(tmp_path / f"files{len(made)}")
        one = Dispatcher(store, Engines(), files, lambda _: None, f"server{len(made)}", **settings)
        made.append(one)
        return one

    yield make
    for one in made:
        one.close()


def create(dispatcher, **inputs):
    return dispatcher.store.create(Task(new_id(), "ann", "task", "slow", inputs)).id


def until(true):
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


def lease_of(dispatcher, identity):
    with dispatcher.store.reader.connect() as connection:
        return connection.execute(select(TASKS.c.lease).where(TASKS.c.id == identity)).scalar_one()


def test_what_is_said_of_an_attempt_is_booked_on_no_other(new):
    one = new()
    identity = create(one)
    one.start()
    engines = one.replicas
    until(lambda: len(engines.reports) == 1)
    with one.store.engine.begin() as connection:
        connection.execute(update(TASKS).values(lease=1))  # as if it had been asleep for long
    until(lambda: len(engines.reports) == 2)
    assert engines.cancelled == [0]
    engines.succeed(0)
    time.sleep(0.5)
    assert one.store.get(identity).status == IN_PROGRESS
    engines.succeed(1)
    until(lambda: one.store.get(identity).status == SUCCEEDED)
    done = one.store.get(identity)
    assert (done.made["metadata"], done.files) == ({"ticket": 1}, {"model.glb": f"files/{identity}/2/model.glb"})


def test_leases_go_on_while_files_are_fetched(new, monkeypatch):
    one, fetched = new(lease=900), threading.Event()
    monkeypatch.setattr(one.files, "local", lambda key: fetched.wait(60) and None)
    first = create(one)
    one.start()
    until(lambda: len(one.replicas.reports) == 1)
    second = create(one, mesh="uploads/ann/a.glb")
    until(lambda: one.store.get(second).status == IN_PROGRESS)
    try:
        for identity in (first, second):
            before = lease_of(one, identity)
            until(lambda: lease_of(one, identity) > before)  # noqa: B023 - called at once
    finally:
        fetched.set()
    assert one.store.get(first).attempt == 1


def test_what_another_server_cancelled_is_let_go(new):
    one, other = new(lease=900, most=1), new()
    cancelled, waiting = create(one), create(one)
    one.start()
    until(lambda: len(one.replicas.reports) == 1)
    other.store.cancel(cancelled, "ann")
    until(lambda: one.replicas.cancelled == [0])
    until(lambda: one.store.get(waiting).status == IN_PROGRESS)
    assert one.store.get(cancelled).status == CANCELED


def test_an_object_store_that_is_away_costs_no_attempt(new, monkeypatch):
    one, away = new(lease=300), iter(range(5))

    def local(key):
        if next(away, None) is not None:
            raise StoreAway("away")
        return one.files.path(key)

    monkeypatch.setattr(one.files, "local", local)
    identity = create(one, mesh="uploads/ann/a.glb")
    one.start()
    until(lambda: one.replicas.reports)
    task = one.store.get(identity)
    assert (task.status, task.attempt, task.error) == (IN_PROGRESS, 1, "")


def test_an_engine_that_died_just_now_fails_no_task(new):
    one = new()
    one.replicas.refusals = 1
    identity = create(one)
    one.start()
    until(lambda: one.replicas.reports)
    assert one.store.get(identity).status == IN_PROGRESS


def test_who_ends_gives_back_what_it_held_at_once(new):
    one, other = new(), new()
    identity = create(one)
    one.start()
    until(lambda: one.replicas.reports)
    assert other.store.claim("other") is None
    one.close()
    assert other.store.claim("other").id == identity
