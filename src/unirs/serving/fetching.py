"""Pictures from URLs, where that is allowed: public addresses only, whatever names and redirects say."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from urllib.parse import urljoin, urlsplit

from .limits import RequestError

REDIRECTS = 3
PORTS = {"http": 80, "https": 443}
# The system's resolver takes no time limit: one that hangs keeps a thread here, and whoever waits for it goes on.
LOOKUPS = ThreadPoolExecutor(16, "lookup")
# Addresses that lead on to an IPv4 one which only a translator sees, and those of one site.
NETWORKS = ("64:ff9b::/96", "64:ff9b:1::/48", "::/96", "fec0::/10")  # the last but one are ::a.b.c.d
TRANSLATED = tuple(map(ipaddress.ip_network, NETWORKS))


def is_public(address: str) -> bool:
    """Whether an address is of the open internet: not loopback, private, link-local, multicast or a way to these."""
    found = ipaddress.ip_address(address.split("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        elif found.sixtofour is not None or found.teredo is not None or any(found in net for net in TRANSLATED):
            return False
    return found.is_global and not found.is_multicast


def connect(host: str, port: int, timeout: float) -> socket.socket:
    """A connection to a public address of the host.

    The name is looked up once, every address it has is checked, and the connection goes to what was checked: a name
    that answers otherwise the next time (DNS rebinding) gains nothing.

    Args:
        timeout: Seconds for the look-up and the connection together.

    Raises:
        RequestError: One of its addresses is not public, or it has none, or none in time.
        OSError: It cannot be reached in time.
    """
    until = time.monotonic() + timeout
    lookup = LOOKUPS.submit(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    try:
        found = lookup.result(timeout)
    except (OSError, UnicodeError) as error:  # a TimeoutError is one of the first
        lookup.cancel()  # if it has not begun
        raise RequestError(400, f"the host {host:.100} is not known") from error
    if not all(is_public(str(address[0])) for *_, address in found):
        raise RequestError(400, f"the host {host:.100} is no public address, and no other is fetched from")
    family, kind, protocol, _, address = found[0]
    sock = socket.socket(family, kind, protocol)
    try:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        sock.settimeout(left)
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


class _Connection(http.client.HTTPConnection):
    """HTTP, or with a context HTTPS, over a checked connection. Proxies of the environment are not asked."""

    def __init__(self, host: str, port: int, timeout: float, context: ssl.SSLContext | None):
        super().__init__(host, port, timeout=timeout)
        self.context, self.seconds = context, timeout
        self.opened: socket.socket | None = None  # `sock` is forgotten once an answer begins
        self.too_slow = threading.Event()

    def connect(self) -> None:
        self.sock = self.opened = connect(self.host, self.port, self.seconds)
        if self.context is not None:
            wrapped = self.context.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
            self.sock = self.opened = wrapped
        if self.too_slow.is_set():  # `cut` came while there was nothing to cut
            raise TimeoutError
        if self.context is not None:
            wrapped.do_handshake()

    def cut(self) -> None:
        """Ends whatever is waited for: a socket's own timeout begins anew with every byte."""
        self.too_slow.set()
        if self.opened is not None:
            with suppress(OSError):  # closed meanwhile
                self.opened.shutdown(socket.SHUT_RDWR)


def fetch(url: str, largest: int, seconds: float) -> bytes:
    """What a URL holds.

    Args:
        largest: Bytes that it may have.
        seconds: For all of it, redirects included.

    Raises:
        RequestError: It is no http(s) URL, not public, too large, too slow, or not there.
    """
    until = time.monotonic() + seconds
    for _ in range(REDIRECTS + 1):
        target, content = _ask(url, largest, until)
        if target is None:
            return content
        try:
            url = urljoin(url, target)
        except ValueError as error:
            raise RequestError(400, "a URL is redirected to one that is malformed") from error
    raise RequestError(400, f"a URL is redirected more than {REDIRECTS} times")


def _ask(url: str, largest: int, until: float) -> tuple[str | None, bytes]:
    """Where it is redirected to, or else its content."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0)
    except ValueError as error:
        raise RequestError(400, "a URL is malformed") from error
    if parts.scheme not in PORTS or not host or parts.username is not None:
        raise RequestError(400, "a URL must be http://HOST/... or https://HOST/..., without a user name")
    context = ssl.create_default_context() if parts.scheme == "https" else None
    left = until - time.monotonic()
    if left <= 0:
        raise RequestError(400, "a URL's redirects take too long")
    with closing(_Connection(host, port, left, context)) as connection:
        cut = threading.Timer(left, connection.cut)
        cut.start()
        try:
            path = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
            connection.request("GET", path, headers={"User-Agent": "unirs", "Accept": "image/*, video/*"})
            answer = connection.getresponse()
            if 300 <= answer.status < 400 and (target := answer.headers.get("Location")):
                return target, b""
            if answer.status != 200:
                raise RequestError(400, f"the host {host:.100} answers {answer.status} to a URL")
            content = answer.read(largest + 1)
            if connection.too_slow.is_set():  # what was read until then looks whole
                raise TimeoutError
        except (OSError, http.client.HTTPException, UnicodeError, ValueError) as error:
            if isinstance(error, RequestError):
                raise
            raise RequestError(400, f"a URL of the host {host:.100} cannot be fetched") from error
        finally:
            cut.cancel()
    if len(content) > largest:
        raise RequestError(413, f"what a URL of the host {host:.100} holds has more than {largest:,} bytes")
    return None, content
