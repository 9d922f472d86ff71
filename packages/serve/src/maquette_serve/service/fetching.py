"""What callers name by an address: data URIs, and files of public servers, fetched so that nothing else is reached."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse
from urllib.parse import SplitResult, unquote_to_bytes, urljoin, urlsplit

from maquette.errors import MaquetteError

MOVED = (301, 302, 303, 307, 308)
_CHUNK = 1 << 16
_STANDING_FOR_V4 = ("::/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")
_OF_CLOUDS = ("192.0.0.0/24",)  # some of it counts as global; one cloud has its metadata there
_REFUSED = tuple(ipaddress.ip_network(network) for network in (*_STANDING_FOR_V4, *_OF_CLOUDS))
Resolve = Callable[[str, int], list[str]]


@dataclass(frozen=True)
class Answer:
    """What a server said; `address` is where it was found in the end."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    address: str = ""


class PublicServers:
    """Talks to servers of the public internet, and to no others.

    Every address that a name has must be public; the connection goes to one of those that were looked at, since the
    name may mean another a moment later. Redirections are followed by hand, each looked at in the same way. Proxies of
    the environment are not used.

    Args:
        largest: bytes of an answer.
        seconds: for all of it.
        redirects: that are followed at most.
        plain: whether http is allowed beside https.
        resolve: the addresses of a host and port.
        public: whether an address may be connected to.
    """

    def __init__(
        self,
        largest: int = 100 * 2**20,
        seconds: float = 20.0,
        redirects: int = 3,
        *,
        plain: bool = False,
        resolve: Resolve | None = None,
        public: Callable[[str], bool] | None = None,
    ) -> None:
        self.largest, self.seconds, self.redirects, self.plain = largest, seconds, redirects, plain
        self.resolve, self.public = resolve or addresses_of, public or is_public

    def fetch(self, address: str) -> Answer:
        """The file at an address.

        Raises:
            MaquetteError: it is refused, too large, too slow, or not there.
        """
        deadline = time.monotonic() + self.seconds
        for _ in range(self.redirects + 1):
            answer = self._exchange("GET", address, None, {}, deadline)
            if answer.status not in MOVED:
                if answer.status != 200:
                    raise MaquetteError(f"'{shortened(address)}' answers {answer.status}")
                return answer
            address = urljoin(address, answer.headers.get("location", ""))
        raise MaquetteError(f"more than {self.redirects} redirections, the last to '{shortened(address)}'")

    def post(self, address: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Sends a body; redirections are not followed. Raises as `fetch` does."""
        return self._exchange("POST", address, body, headers, time.monotonic() + self.seconds)

    def _exchange(
        self, method: str, address: str, body: bytes | None, headers: Mapping[str, str], deadline: float
    ) -> Answer:
        parts = self.checked(address)
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        host = str(parts.hostname)
        connection = PinnedConnection(host, port, self._chosen(host, port), secure, remaining(deadline))
        watch = threading.Timer(remaining(deadline), connection.abort)
        watch.daemon = True
        watch.start()
        try:
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request(method, target, body, {"Accept": "*/*", "User-Agent": "maquette", **headers})
            response = connection.getresponse()
            content = self._content(response, deadline)
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, content, address)
        except (OSError, HTTPException, ValueError) as error:
            late = time.monotonic() >= deadline
            why = f"took longer than {self.seconds:g} s" if late else f"cannot be reached: {error}"
            raise MaquetteError(f"'{shortened(address)}' {why}") from None
        finally:
            watch.cancel()
            connection.close()

    def checked(self, address: str) -> SplitResult:
        """The parts of an address that may be asked, as far as that can be told without asking.

        Raises:
            MaquetteError: it is malformed, or of a scheme that is not allowed.
        """
        try:
            parts = urlsplit(address)
            parts.port  # noqa: B018 - raises where it is no number
        except ValueError as error:
            raise MaquetteError(f"'{shortened(address)}' is no address: {error}") from None
        schemes = ("https", "http") if self.plain else ("https",)
        if parts.scheme not in schemes or not parts.hostname:
            raise MaquetteError(f"'{shortened(address)}' is not a data URI and does not begin with {schemes[0]}://")
        if parts.username is not None or not address.isascii() or any(letter <= " " for letter in address):
            raise MaquetteError(f"'{shortened(address)}': an address has no user names, spaces or letters beyond ASCII")
        return parts

    def _chosen(self, host: str, port: int) -> str:
        found = self.resolve(host, port)
        if not found:
            raise MaquetteError(f"nobody knows a server called '{host}'")
        if not all(self.public(address) for address in found):
            raise MaquetteError(f"'{host}' is not a server of the public internet")
        return found[0]

    def _content(self, response: HTTPResponse, deadline: float) -> bytes:
        content = bytearray()
        while chunk := response.read(_CHUNK):
            content += chunk
            if len(content) > self.largest:
                raise MaquetteError(f"more than {self.largest} bytes; send a smaller file")
            remaining(deadline)
        if response.length:  # what was announced and did not come
            raise HTTPException("the answer broke off")
        return bytes(content)


class PinnedConnection(HTTPConnection):
    """A connection to an address that was looked at, whatever the host's name means by now."""

    def __init__(self, host: str, port: int, address: str, secure: bool, timeout: float) -> None:
        super().__init__(host, port, timeout=timeout)
        self.default_port = 443 if secure else 80  # a Host header names no other port
        self.address, self.secure = address, secure

    def connect(self) -> None:
        """Connects; the certificate must be the host's."""
        self.sock = socket.create_connection((self.address, self.port), self.timeout)
        if self.secure:
            self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)

    def abort(self) -> None:
        """Ends what waits for the other side, from another thread."""
        if self.sock is not None:
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)


def addresses_of(host: str, port: int) -> list[str]:
    """The addresses of a host, none where it is unknown."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def is_public(address: str) -> bool:
    """Whether an address is one of the public internet: not of this machine, its networks or its cloud's inside."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        return is_public(str(found.ipv4_mapped))
    refused = any(found in network for network in _REFUSED)
    return found.is_global and not found.is_multicast and not refused


def data_of(address: str) -> tuple[str, bytes]:
    """The media type and the bytes of a data URI (RFC 2397).

    Raises:
        MaquetteError: it is malformed.
    """
    head, comma, body = address.removeprefix("data:").partition(",")
    kind, *parameters = head.split(";")
    try:
        if not comma:
            raise ValueError("there is no comma")
        if "base64" in parameters:
            return kind.lower(), base64.b64decode(body, validate=True)
        return kind.lower(), unquote_to_bytes(body)
    except (ValueError, binascii.Error) as error:
        raise MaquetteError(f"'{shortened(address)}' is no data URI: {error}") from None


def remaining(deadline: float) -> float:
    """Seconds that are left.

    Raises:
        TimeoutError: none.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the time is over")
    return left


def shortened(address: str) -> str:
    """An address as a message shows it, without what is secret in its query."""
    plain = address.split("?", maxsplit=1)[0]
    return plain if len(plain) <= 80 else f"{plain[:60]}..."
