"""Files of public servers: nothing else can be reached, by whatever way round."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from maquette.errors import MaquetteError
from maquette_serve.service.fetching import PublicServers, data_of, is_public


class Pages(BaseHTTPRequestHandler):
    """A file, redirections, a file without end, and one that never comes."""

    def do_GET(self):
        self.server.hosts.append(self.headers["Host"])
        if self.path == "/slow":
            self.server.released.wait(10)
        elif self.path.startswith("/to?"):
            self.send_response(302)
            self.send_header("Location", self.path[4:])
            self.end_headers()
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while not self.server.released.is_set():
                    self.wfile.write(b"x" * 4096)
        elif self.path == "/short":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"less")
        else:
            self.send_response(200 if self.path == "/file" else 404)
            self.end_headers()
            self.wfile.write(b"a file")

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.posted.append((body, self.headers["X-Test"]))
        self.send_response(302)
        self.send_header("Location", "/file")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def pages():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    server.hosts, server.posted, server.released = [], [], threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.released.set()
    server.shutdown()


def servers(names=None, **settings):
    """Reaches the server of the tests, which is taken for a public one, under names of public servers."""
    names = names or {"files.example": ["127.0.0.1"]}
    found = {"plain": True, "seconds": 5.0, **settings}
    return PublicServers(
        resolve=lambda host, port: names.get(host, []), public=lambda address: address == "127.0.0.1", **found
    )


def at(pages, path, host="files.example"):
    return f"http://{host}:{pages.server_port}{path}"


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254"),
        *("100.64.0.1", "100.100.100.200", "192.0.0.192", "198.18.0.1", "224.0.0.1", "255.255.255.255", "240.0.0.1"),
        *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1", "::ffff:127.0.0.1"),
        *("::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::", "::7f00:1", "no address"),
    ],
)
def test_what_is_inside_is_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_what_is_outside_is(address):
    assert is_public(address)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0x7f000001", "2130706433", "127.1", "0177.0.0.1"])
def test_no_way_of_writing_this_machine_reaches_it(pages, host):
    with pytest.raises(MaquetteError, match=r"not a server of the public internet|nobody knows"):
        PublicServers(plain=True).fetch(at(pages, "/file", host))
    assert not any(host in found for found in pages.hosts)


def test_a_file_is_fetched_from_the_address_that_was_looked_at(pages, monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("the name was looked up again"))
    real = socket.create_connection
    monkeypatch.setattr(socket, "create_connection", lambda place, timeout: connected(real, place, timeout))
    answer = servers().fetch(at(pages, "/file"))
    assert answer.content == b"a file"
    assert pages.hosts[-1] == f"files.example:{pages.server_port}"


def connected(real, place, timeout):
    """A connection to an address, by a socket: `create_connection` itself looks names up, also those of numbers."""
    assert place[0] == "127.0.0.1"
    made = socket.socket()
    made.settimeout(timeout)
    made.connect(place)
    return made


def test_one_private_address_among_public_ones_is_enough_to_refuse(pages):
    mixed = {"files.example": ["127.0.0.1", "10.0.0.1"]}
    with pytest.raises(MaquetteError, match="not a server of the public internet"):
        servers(mixed).fetch(at(pages, "/file"))


def test_redirections_are_followed_and_looked_at(pages):
    assert servers().fetch(at(pages, "/to?/file")).content == b"a file"
    names = {"files.example": ["127.0.0.1"], "inside.example": ["10.0.0.1"]}
    with pytest.raises(MaquetteError, match=r"'inside\.example' is not a server"):
        servers(names).fetch(at(pages, "/to?http://inside.example/"))
    with pytest.raises(MaquetteError, match="does not begin with https"):
        servers().fetch(at(pages, "/to?file:///etc/passwd"))
    with pytest.raises(MaquetteError, match="more than 3 redirections"):
        servers().fetch(at(pages, "/to?" + "/to?" * 3 + "/file"))
    assert servers().fetch(at(pages, "/to?" * 3 + "/file")).status == 200


def test_limits_of_size_and_time(pages):
    with pytest.raises(MaquetteError, match="more than 10000 bytes"):
        servers(largest=10_000).fetch(at(pages, "/endless"))
    start = time.monotonic()
    with pytest.raises(MaquetteError, match=r"took longer than 0.3 s"):
        servers(seconds=0.3).fetch(at(pages, "/slow"))
    with pytest.raises(MaquetteError, match=r"took longer than 0.3 s"):
        servers(seconds=0.3, largest=2**40).fetch(at(pages, "/endless"))
    assert time.monotonic() - start < 8
    with pytest.raises(MaquetteError, match="broke off"):
        servers().fetch(at(pages, "/short"))


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://files.example/", "does not begin with https"),
        ("ftp://files.example/", "does not begin with https"),
        ("https://", "does not begin with https"),
        ("https://ann:secret@files.example/", "user names"),
        ("https://files.example/a b", "spaces"),
        ("https://files.example/a\r\nX: y", r"spaces|no address|cannot be reached"),
        ("https://files.example:port/", "no address"),
        ("https://[::1/", "no address"),
        ("https://elsewhere.example/", "nobody knows"),
    ],
)
def test_odd_addresses_are_refused(address, said):
    with pytest.raises(MaquetteError, match=said):
        servers(plain=False).fetch(address)


def test_what_is_not_there_is_told_without_the_query(pages):
    with pytest.raises(MaquetteError, match="answers 404") as error:
        servers().fetch(at(pages, "/missing?token=secret"))
    assert "secret" not in str(error.value)


def test_posts_are_not_sent_on(pages):
    answer = servers().post(at(pages, "/hook"), b"{}", {"X-Test": "yes"})
    assert (answer.status, pages.posted) == (302, [(b"{}", "yes")])


def test_data_uris():
    assert data_of("data:image/PNG;base64,aGk=") == ("image/png", b"hi")
    assert data_of("data:,a%20b") == ("", b"a b")
    for wrong in ("data:image/png;base64", "data:image/png;base64,a", "data:;base64,a b=="):
        with pytest.raises(MaquetteError, match="is no data URI"):
            data_of(wrong)
