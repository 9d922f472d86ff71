"""A PostgreSQL server, where one is installed."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

SAFE_TO_LOSE = ("-c", "fsync=off", "-c", "full_page_writes=off", "-c", "synchronous_commit=off")


def programs():
    """The folder of PostgreSQL's programs, or None."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return folders[-1] if folders else None


@pytest.fixture(scope="session")
def postgres():
    """Gives addresses of new databases of a real server, which is ended with the tests."""
    psycopg = pytest.importorskip("psycopg")
    folder = programs()
    if folder is None:
        pytest.skip("no PostgreSQL is installed; e.g. Debian's package 'postgresql'")
    who = {"user": pwd.getpwnam("postgres").pw_name} if os.geteuid() == 0 else {}  # it does not run as root
    place = Path(tempfile.mkdtemp(prefix="maquette-postgres-"))
    if who:
        shutil.chown(place, **who)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    make = [folder / "initdb", "-D", place / "data", "-U", "maquette", "--auth=trust", "--no-sync", "-E", "UTF8"]
    subprocess.run(make, check=True, stdout=subprocess.DEVNULL, cwd=place, **who)
    words = ["-D", place / "data", "-k", place, "-h", "127.0.0.1", "-p", str(port), *SAFE_TO_LOSE]
    with (place / "log").open("wb") as log:
        server = subprocess.Popen([folder / "postgres", *words], stderr=log, cwd=place, **who)
    try:
        yield databases(psycopg, server, port)
    finally:
        server.send_signal(signal.SIGINT)  # it ends without waiting for those that are connected
        server.wait(30)
        shutil.rmtree(place, ignore_errors=True)


def databases(psycopg, server, port):
    names = itertools.count()

    def new():
        name = f"maquette_{next(names)}"
        with connected(psycopg, server, port) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return f"postgresql+psycopg://maquette@127.0.0.1:{port}/{name}"

    return new


def connected(psycopg, server, port):
    """A connection, once the server takes any."""
    while True:
        try:
            return psycopg.connect(f"host=127.0.0.1 port={port} user=maquette dbname=postgres", autocommit=True)
        except psycopg.OperationalError:
            assert server.poll() is None, "PostgreSQL ended"
            time.sleep(0.05)
