"""What requests may cost the server: pixels, seconds, bytes, and no more once a client has gone."""

import asyncio
import functools
import http.client
import io
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from unirs.evaluation.models import load_model

from tests.tiny import picture

openai = pytest.importorskip("openai", reason="openai is not installed: pip install 'unirs[serve]'")

from fastapi.responses import JSONResponse  # noqa: E402
from starlette.datastructures import Headers  # noqa: E402

from tests.serving import data, image, png, post, running, saved, turn  # noqa: E402
from unirs.serving.application import application  # noqa: E402
from unirs.serving.chat import _as_openai  # noqa: E402
from unirs.serving.guard import Guard  # noqa: E402
from unirs.serving.incoming import check_host  # noqa: E402
from unirs.serving.limits import Limits, RequestError  # noqa: E402
from unirs.serving.messages import Opener  # noqa: E402

GOOD = data(png(picture(1)))


@pytest.fixture(scope="module")
def folder(processor, tmp_path_factory):
    return saved(processor, tmp_path_factory.mktemp("model") / "tiny")


# -- pixels -----------------------------------------------------------------------------------------------------------
def transport_stream(width, height, frames=4):
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mpegts") as out:
        video = out.add_stream("mpeg2video", rate=10)
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            out.mux(video.encode(av.VideoFrame.from_image(picture(number, width, height))))
        out.mux(video.encode())
    return file.getvalue()


def shown_clip(content):
    return [turn("What?", clips=[data(content, "video/mp2t")])]


def test_clip_whose_frames_grow_is_within_the_limit_of_pixels():
    """Only the first frame was measured, and paid for: 16 x 16, and then a few of 8,192 x 8,192."""
    grows = transport_stream(16, 16) + transport_stream(128, 96)
    for allowed in (4 * 128 * 96 - 1, 4 * 16 * 16):
        opener = Opener(Limits(pixels=allowed), 4, False, 100, time.monotonic() + 60)
        with pytest.raises(
            RequestError, match=rf"^message 1: .*{allowed // 4} pixels.* may have {allowed:,} together"
        ):
            opener.chat(shown_clip(grows))
    opener = Opener(Limits(pixels=4 * 128 * 96), 4, False, 100, time.monotonic() + 60)
    shown, _ = opener.chat(shown_clip(grows))[0]["content"]
    sizes = [frame.size for frame in shown["video"]]
    assert set(sizes) == {(16, 16), (128, 96)}
    assert opener.pixels == 4 * 128 * 96 - sum(width * height for width, height in sizes)


# -- seconds and bytes ------------------------------------------------------------------------------------------------
def test_slow_answers_are_cut_and_crowds_sent_away(folder):
    loaded = load_model(str(folder))
    forward = loaded.network.forward

    @functools.wraps(forward)
    def slow(*args, **kwargs):
        time.sleep(0.3)
        return forward(*args, **kwargs)

    loaded.network.forward = slow
    limits = Limits(new_tokens=64, seconds=3, waiting=2)
    with running(application("tiny", loaded.network, loaded.processor, limits)) as url:
        body = {"model": "tiny", "messages": [image(GOOD)]}
        with ThreadPoolExecutor(6) as pool:
            found = [one[0] for one in pool.map(lambda _: post(url, body), range(6))]
        assert sorted(set(found)) == [429, 503]
        client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
        with pytest.raises(openai.APIError, match="longer than this server allows"):
            list(client.chat.completions.create(model="tiny", messages=[image(GOOD)], stream=True))
        loaded.network.forward = forward
        assert any(post(url, body)[0] == 200 for _ in range(10))  # it lives on; a busy machine may be slow again


@pytest.mark.parametrize("stream", [True, False])
def test_client_that_leaves_frees_its_place(folder, stream):
    """A handler that does not stream was never told: its answer was made to the end, for nobody."""
    loaded = load_model(str(folder))
    steps = []
    forward = loaded.network.forward

    @functools.wraps(forward)
    def counting(*args, **kwargs):
        steps.append(1)
        time.sleep(0.05)
        return forward(*args, **kwargs)

    loaded.network.forward = counting
    loaded.network.generation_config.eos_token_id = None
    app = application("tiny", loaded.network, loaded.processor, Limits(new_tokens=400))
    with running(app) as url:
        leave_after(url, {"model": "tiny", "messages": [image(GOOD)], "stream": stream}, lambda: steps)
        time.sleep(1)
        before = len(steps)
        time.sleep(0.5)
        assert len(steps) == before < 100
        assert (app.inside, app.bytes_inside) == (0, 0)


def wait(done):
    until = time.monotonic() + 30
    while not done():
        assert time.monotonic() < until
        time.sleep(0.01)


def leave_after(url, body, begun):
    """Ask, and hang up without an answer once `begun()` is true."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port)
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    wait(begun)
    connection.close()


def test_client_that_leaves_is_fetched_for_no_longer(folder, monkeypatch):
    fetched = []

    def fetch(url, largest, seconds):
        fetched.append(url)
        time.sleep(0.3)
        return png(picture(1))

    monkeypatch.setattr("unirs.serving.messages.fetch", fetch)
    loaded = load_model(str(folder))
    with running(application("tiny", loaded.network, loaded.processor, Limits(), allow_fetch=True)) as url:
        body = {"model": "tiny", "messages": [turn("?", *["http://slow.example/"] * 8)]}
        leave_after(url, body, lambda: fetched)
        time.sleep(1.5)
        assert len(fetched) < 4


def test_bytes_of_all_requests_together_are_limited():
    """Each may be large, and many may come: all their bodies were kept at once."""
    free = threading.Event()

    async def app(scope, receive, send):
        assert scope["type"] == "http"  # uvicorn goes on without a lifespan
        await receive()
        while not free.is_set():
            await asyncio.sleep(0.01)
        await JSONResponse("taken")(scope, receive, send)

    guard = Guard(app, Limits(request_bytes=1500, waiting_bytes=1000), None, None)
    with running(guard) as url, ThreadPoolExecutor(1) as pool:
        held = pool.submit(post, url, b"x" * 600)
        wait(lambda: guard.bytes_inside == 600)
        status, answer = post(url, b"x" * 600)
        assert (status, answer["error"]["type"]) == (429, "rate_limit_error")
        free.set()
        assert held.result() == (200, "taken")
        for size, expected in ((600, 200), (1500, 200), (1501, 413)):  # alone, it may have more than all together
            wait(lambda: guard.bytes_inside == guard.inside == 0)
            assert post(url, b"x" * size)[0] == expected


def test_client_that_does_not_read_its_answer_frees_its_place(monkeypatch):
    monkeypatch.setattr("unirs.serving.guard.TO_TAKE_IT", 0.2)

    async def app(scope, receive, send):
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 2**16, "more_body": True})

    guard = Guard(app, Limits(seconds=0.2), None, None)
    with running(guard) as url, socket.create_connection((urlsplit(url).hostname, urlsplit(url).port)) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        wait(lambda: guard.inside == 1)
        begun = time.monotonic()
        wait(lambda: guard.inside == 0)
        assert time.monotonic() - begun < 10


@pytest.mark.parametrize("parts", [0, 1])
def test_what_is_not_begun_or_not_taken_in_time_is_ended(parts, monkeypatch):
    """A model that reads for longer was a 500 of no form; a client that takes no last part kept its place."""
    monkeypatch.setattr("unirs.serving.guard.TO_TAKE_IT", 0.1)
    said = []

    async def app(scope, receive, send):
        if parts:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        await asyncio.sleep(60)

    async def send(message):
        said.append(message)
        if parts and message["type"] == "http.response.body":
            await asyncio.sleep(60)  # the client's buffers are full

    arrived = [{"type": "http.request", "body": b"{}", "more_body": False}]

    async def receive():
        if not arrived:
            await asyncio.sleep(60)
        return arrived.pop()

    guard = Guard(app, Limits(seconds=0.2), None, None)
    scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": []}
    asyncio.run(asyncio.wait_for(guard(scope, receive, send), 10))
    assert guard.inside == 0
    assert said[0]["status"] == (200 if parts else 503)
    assert parts or "longer than this server allows" in json.loads(said[1]["body"])["error"]["message"]


def test_reading_a_clip_has_a_quarter_of_the_requests_time(monkeypatch):
    """A few bytes may hold days of frames, and each such clip would keep one of four readers for as long."""
    given = []
    monkeypatch.setattr("unirs.serving.messages.load_video", lambda *args: given.append(args) or [picture(1)])
    opener = Opener(Limits(seconds=40.0), 4, False, 100, time.monotonic() + 1000)
    ask = {"type": "text", "text": "What?"}
    clip = {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}}
    opener.chat([{"role": "user", "content": [clip, ask]}])
    assert [(args[1], args[3]) for args in given] == [(4, 10.0)]


@pytest.mark.parametrize("host", ["[::1]", "[::1]:8000", "LOCALHOST:80", "127.0.0.1"])
def test_own_names_are_known_with_and_without_a_port(host):
    own = {"[::1]", "localhost", "127.0.0.1"}
    check_host(Headers({"host": host}), own)
    for other in (f"x.{host}", "", "evil.example:8000"):
        with pytest.raises(RequestError):
            check_host(Headers({"host": other}), own)


def test_web_pages_of_other_hosts_are_refused(folder):
    loaded = load_model(str(folder))
    asked = {"model": "tiny", "messages": [image(GOOD)], "max_tokens": 1}
    with running(application("tiny", loaded.network, loaded.processor, Limits())) as url:
        assert post(url, asked)[0] == post(url, asked, Origin=url)[0] == 200
        another_port = f"{url.rpartition(':')[0]}:1"
        for page in ("https://evil.example", "null", "", f"{url}.evil.example", "http://[::1", another_port):
            status, said = post(url, asked, Origin=page)
            assert (status, said["error"]["message"]) == (403, "another site's page may not ask here")


def test_words_and_an_error_that_come_together_are_both_told():
    """As transformers' handler joins what waits in its queue."""

    async def collected():
        async def parts():
            yield 'data: {"a": "data: {\\"error\\": \\"no\\"}"}\n\n'
            yield 'data: {"b": 1}\n\ndata: {"error": "too slow"}\n\n'

        return [part async for part in _as_openai(parts())]

    words, more, error, done = asyncio.run(collected())
    assert (words.startswith('data: {"a"'), more, done) == (True, 'data: {"b": 1}\n\n', "data: [DONE]\n\n")
    assert json.loads(error.removeprefix("data: "))["error"]["message"] == "too slow"


def test_words_that_look_like_usage_stay_words():
    said = {"choices": [{"delta": {"content": '"usage":{"x":1}'}}]}
    counted = {"choices": [{"delta": {}, "finish_reason": "stop"}], "usage": {"total_tokens": 3}}

    async def parts():
        for one in (said, counted):
            yield f"data: {json.dumps(one, separators=(',', ':'))}\n\n"

    async def collected():
        return "".join([one async for one in _as_openai(parts(), True)])

    lines = [line.removeprefix("data: ") for line in asyncio.run(collected()).split("\n\n") if line]
    told = [json.loads(line) for line in lines if line != "[DONE]"]
    assert told == [said, {"choices": counted["choices"]}, {"choices": [], "usage": counted["usage"]}]
