"""Fetching pictures for clients: from the open internet, and from nowhere else, whatever names and redirects say."""

# ruff: noqa: F811 - tests take imported fixtures by their names

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.chatting import LIMITS, folder, model  # noqa: F401 - fixtures
from tests.serving import image, post, running
from tests.tiny import picture
from unirs.serving import fetching
from unirs.serving.application import application
from unirs.serving.fetching import fetch, is_public
from unirs.serving.limits import Limits, RequestError
from unirs.serving.messages import Opener

CONTENT = b"a picture"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append((self.headers["Host"], self.path))
        if "/late" in self.path:
            time.sleep(0.4)
        if self.path.startswith("/to/"):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(404 if self.path == "/missing" else 200)
        self.end_headers()
        if self.path == "/slow":
            for _ in range(100):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.1)
        if self.path == "/late.png":
            picture(1).save(self.wfile, "PNG")
            return
        self.wfile.write(CONTENT if self.path != "/large" else b"x" * 5000)

    def log_message(self, *args): ...


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked = []
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def names(monkeypatch, server):
    """What names stand for; an address 93.184.216.34 is the server of the test, and counts as public."""
    known = {"public.example": ["93.184.216.34"]}
    asked = []

    def getaddrinfo(host, port, *args, **kwargs):
        asked.append(host)
        addresses = known.get(host, [host])
        address = addresses.pop(0) if len(addresses) > 1 else addresses[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    connect = socket.socket.connect

    def connect_here(sock, address):
        connected.append(address[0])
        port = server.server_address[1]
        return connect(sock, ("127.0.0.1", port) if address[0] == "93.184.216.34" else address)

    connected = []
    monkeypatch.setattr(fetching.socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(socket.socket, "connect", connect_here)
    return known, asked, connected


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("2001:0:7f00:1::1", False),
        ("fec0::1", False),
        ("::7f00:1", False),
        ("::10.0.0.1", False),
    ],
)
def test_public_addresses_are_told_from_others(address, public):
    assert is_public(address) == public


def test_public_picture_is_fetched_and_redirects_followed(server, names):
    assert fetch("http://public.example/a.png?b=c", 100, 5) == CONTENT
    assert server.asked == [("public.example", "/a.png?b=c")]
    assert fetch("http://public.example/to/http://public.example/to//b.png", 100, 5) == CONTENT


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "[::1]", "10.0.0.1", "169.254.169.254", "2130706433", "0x7f.1", "127.1"]
)
def test_private_addresses_are_asked_for_nothing(server, host):
    port = server.server_address[1]
    with pytest.raises(RequestError, match=r"no public address|not known"):
        fetch(f"http://{host}:{port}/a.png", 100, 5)
    assert server.asked == []


def test_redirect_to_a_private_address_is_not_followed(server, names):
    port = server.server_address[1]
    for target in (
        f"http://127.0.0.1:{port}/secret",
        f"//127.0.0.1:{port}/secret",
        "file:///etc/passwd",
        "gopher://x/",
        "http://[",
    ):
        with pytest.raises(RequestError):
            fetch(f"http://public.example/to/{target}", 100, 5)
    assert all(path.startswith("/to/") for _, path in server.asked)


def test_name_that_changes_its_address_gains_nothing(server, names):
    """DNS rebinding: public when it is looked at, private when it would be connected to. It is looked up once."""
    known, asked, connected = names
    known["rebinding.example"] = ["93.184.216.34", "127.0.0.1"]
    assert fetch("http://rebinding.example/a.png", 100, 5) == CONTENT
    assert (asked, connected) == (["rebinding.example"], ["93.184.216.34"])
    with pytest.raises(RequestError, match="no public address"):  # a second request looks again
        fetch("http://rebinding.example/a.png", 100, 5)


def test_name_with_one_private_address_is_refused(monkeypatch):
    both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 80)) for one in ("93.184.216.34", "10.0.0.1")]
    monkeypatch.setattr(fetching.socket, "getaddrinfo", lambda *args, **kwargs: both)
    with pytest.raises(RequestError, match="no public address"):
        fetch("http://both.example/", 100, 5)


@pytest.mark.parametrize(
    ("path", "reason"), [("large", "more than 1,000 bytes"), ("slow", "cannot be fetched"), ("missing", "answers 404")]
)
def test_large_slow_and_missing_are_refused(server, names, path, reason):
    start = time.monotonic()
    with pytest.raises(RequestError, match=reason):
        fetch(f"http://public.example/{path}", 1000, 1)
    assert time.monotonic() - start < 4


def test_endless_redirects_are_left(server, names):
    with pytest.raises(RequestError, match="more than 3 times"):
        fetch("http://public.example" + "/to/" * 9 + "a", 1000, 5)


def test_slow_redirects_share_one_time_limit(server, names):
    """Each hop had all of it: four times as long as was asked for."""
    start = time.monotonic()
    with pytest.raises(RequestError, match=r"cannot be fetched|too long"):
        fetch("http://public.example" + "/to/http://public.example/late/" * 4, 100_000, 0.6)
    assert time.monotonic() - start < 1.5


def test_look_up_that_hangs_is_left(monkeypatch):
    hanging = threading.Event()
    monkeypatch.setattr(fetching.socket, "getaddrinfo", lambda *args, **kwargs: hanging.wait(10))
    start = time.monotonic()
    with pytest.raises(RequestError, match="not known"):
        fetch("http://hanging.example/", 100, 0.3)
    assert time.monotonic() - start < 5
    hanging.set()


def test_time_limit_is_for_all_urls_of_a_request(server, names):
    """Nobody waited any longer, but the thread went on: 64 slow URLs kept it for many minutes."""
    start = time.monotonic()
    opener = Opener(Limits(seconds=2), 4, True, 100, start + 1)
    urls = [{"type": "image_url", "image_url": {"url": "http://public.example/late.png"}}] * 8
    with pytest.raises(RequestError, match=r"longer than this server allows|cannot be fetched"):
        opener.chat([{"role": "user", "content": urls}])
    assert time.monotonic() - start < 2.5
    assert 1 < len(server.asked) < 5


@pytest.mark.parametrize(
    "url", ["http://", "http://user:pw@public.example/", "http://public.example:99999/", "ftp://a/"]
)
def test_malformed_urls_are_refused(url):
    with pytest.raises(RequestError, match="URL"):
        fetch(url, 100, 5)


@pytest.mark.parametrize("allow_fetch", [True, False])
def test_a_server_fetches_where_it_may_and_answers_as_of_the_picture_itself(server, names, model, allow_fetch):
    chat = [{"role": "user", "content": [{"type": "image", "image": picture(1)}, {"type": "text", "text": "What?"}]}]
    inside = f"http://127.0.0.1:{server.server_address[1]}/late.png"
    app = application("tiny", model.network, model.processor, LIMITS, allow_fetch=allow_fetch)
    with running(app) as url:
        asked = [
            post(url, {"model": "tiny", "max_tokens": 8, "messages": [image(one)]})
            for one in (inside, f"http://public.example/to/{inside}", "http://public.example/late.png")
        ]
    assert [status for status, _ in asked] == [400, 400, 200 if allow_fetch else 400]
    if allow_fetch:
        assert asked[-1][1]["choices"][0]["message"]["content"].strip() == model.answer([chat], 8)[0]
        assert [host for host, _ in server.asked] == ["public.example"] * 2
        assert "no public address" in asked[0][1]["error"]["message"]
    else:
        assert server.asked == []
        assert "fetches no URLs" in asked[-1][1]["error"]["message"]
