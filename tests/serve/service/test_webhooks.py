"""Notices to callers' servers: signed, tried again, given up, and each owner's for itself."""

from __future__ import annotations

import hashlib
import hmac
import json
import time

import pytest

from maquette.errors import MaquetteError
from maquette_serve.engine.engine_setup import EngineSetup, Opened
from maquette_serve.service.fetching import Answer
from maquette_serve.service.keys import Keys
from maquette_serve.service.outbox import DISABLING, LEASE, WAITS, Outbox
from maquette_serve.service.service import Service, Settings
from maquette_serve.service.store import Store
from maquette_serve.service.task import Task, new_id, now_ms
from maquette_serve.service.webhooks import SIGNATURE, Webhooks

HOOK = "https://hooks.example/meshes"


class CallersServer:
    """Answers what it is told to answer, or cannot be reached."""

    def __init__(self):
        self.status, self.got = 200, []

    def post(self, address, body, headers):
        self.got.append((address, body, headers))
        if self.status is None:
            raise MaquetteError("cannot be reached")
        return Answer(self.status, {}, b"")


class Clock:
    def __init__(self):
        self.now = now_ms()

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    for module in ("outbox", "store"):
        monkeypatch.setattr(f"maquette_serve.service.{module}.now_ms", found)
    return found


@pytest.fixture
def office(tmp_path, clock):
    store = Store(f"sqlite:///{tmp_path}/tasks.db")
    server = CallersServer()
    return Webhooks(store, lambda task: {"id": task.id, "status": task.status}, server)


def ended(office, owner="ann", webhook=HOOK):
    """A task that is over, with a notice to be told."""
    store = office.store
    task = store.create(Task(new_id(), owner, "task", "slow", {}), webhook=webhook)
    store.cancel(task.id, owner)
    return task


def told_once(office):
    """Whether something was due and is tried."""
    notice = office.outbox.claim()
    if notice is not None:
        office.tell(notice)
    return notice is not None


def test_the_end_of_a_task_is_told_once_and_signed(office):
    keys = Keys(office.store.engine)
    keys.create("ann")
    (key,) = keys.all()
    task = ended(office, key.id)
    assert told_once(office)
    assert not told_once(office)
    ((address, body, headers),) = office.servers.got
    assert (address, json.loads(body)) == (HOOK, {"id": task.id, "status": "CANCELED"})
    seconds, made = (part.split("=")[1] for part in headers[SIGNATURE].split(","))
    right = hmac.new(key.webhook_secret.encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(made, right)
    assert abs(int(seconds) - time.time()) < 60


def test_tasks_without_a_webhook_tell_nobody(office):
    ended(office, webhook="")
    assert not told_once(office)


@pytest.mark.parametrize("status", [400, 500, None])
def test_what_fails_is_tried_again_later_and_given_up_in_the_end(office, clock, status):
    office.servers.status = status
    ended(office)
    for wait in WAITS:
        assert told_once(office)
        clock.now += wait - 1
        assert not told_once(office)
        clock.now += 1
    assert told_once(office)
    clock.now += 24 * 3600 * 1000
    assert not told_once(office)
    assert len(office.servers.got) == len(WAITS) + 1
    assert office.outbox.waiting() == 0


def test_a_redirection_counts_as_success_but_is_not_followed(office):
    office.servers.status = 302
    ended(office)
    assert told_once(office)
    assert office.outbox.waiting() == 0


def give_up(office, clock, owner="ann"):
    ended(office, owner)
    while office.outbox.waiting():
        told_once(office)
        clock.now += max(WAITS)


def test_an_address_that_always_fails_is_disabled_for_its_owner_alone(office, clock):
    office.servers.status = 500
    for _ in range(DISABLING):
        give_up(office, clock)
    tries = len(office.servers.got)
    give_up(office, clock)
    assert len(office.servers.got) == tries
    office.servers.status = 200
    ended(office, "eve")
    assert told_once(office)
    assert len(office.servers.got) == tries + 1


def test_a_success_between_failures_keeps_it_enabled(office, clock):
    for status in (500, 500, 200, 500, 500):
        office.servers.status = status
        give_up(office, clock)
    office.servers.status = 200
    ended(office)
    before = len(office.servers.got)
    told_once(office)
    assert len(office.servers.got) == before + 1


def test_a_try_that_was_lost_is_made_by_another_server(office, clock):
    ended(office)
    other = Outbox(office.store.engine)
    assert other.claim() is not None
    assert not told_once(office)
    clock.now += LEASE
    assert told_once(office)
    assert len(office.servers.got) == 1


def test_a_forgotten_task_is_not_told(office):
    notice_of = ended(office)
    notice = office.outbox.claim()
    office.store.remove(notice_of.id)
    office.tell(notice)
    assert office.servers.got == []


def test_the_thread_tells_what_is_due(tmp_path):
    store, server = Store(f"sqlite:///{tmp_path}/tasks.db"), CallersServer()
    office = Webhooks(store, lambda task: {"id": task.id}, server)
    office.start()
    ended(office)
    deadline = time.monotonic() + 20
    while not server.got and time.monotonic() < deadline:
        time.sleep(0.05)
    office.close()
    assert len(server.got) == 1


@pytest.mark.parametrize("address", ["http://hooks.example/", "file:///etc/passwd", "hooks", "https://a:b@c/"])
def test_only_https_is_taken_in(tmp_path, address):
    service = Service(Settings(EngineSetup({"slow": Opened()}), tmp_path, open=True))
    keys = Keys(service.store.engine)
    keys.create("ann")
    (key,) = keys.all()
    with pytest.raises(MaquetteError, match=r"https://|user names"):
        service.accept(key, service.new_task(key, "task", "slow", {}, {}), webhook=address)
