"""The server's log: a line for each request, whatever became of it, and nothing of its content."""

import http.client
import json
import logging
import re
import socket
import subprocess
import sys
import time
from urllib.parse import urlsplit

import pytest
from unirs.evaluation.models import load_model

from tests.chatting import LIMITS, folder, openai  # noqa: F401 - fixture
from tests.serving import post, running, turn
from tests.test_serve_limits import leave_after, wait
from tests.tiny import picture

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'unirs[serve]'")

from unirs.serving.application import application
from unirs.serving.request_log import RequestLog

LINE = re.compile(r"(\S+) (\S+) (\S+) (\d+) \d+\.\d{3} s")


@pytest.fixture
def loaded(folder):  # noqa: F811
    return load_model(str(folder))


def told(caplog):
    """Client, method, path and status of each line."""
    found = [LINE.fullmatch(one.getMessage()) for one in caplog.records if one.name == "unirs.serving.request_log"]
    return [(*one.groups()[:3], int(one[4])) for one in found]


def test_each_request_is_told_and_nothing_of_what_it_says(loaded, caplog):
    caplog.set_level(logging.INFO)
    with running(RequestLog(application("tiny", loaded.network, loaded.processor, LIMITS, api_key="secret"))) as url:
        key = {"Authorization": "Bearer secret"}
        body = {"model": "tiny", "messages": [turn("a private question", picture(1))], "max_tokens": 2}
        assert post(url, body, **key)[0] == 200
        assert post(url, {**body, "max_tokens": 0}, **key)[0] == 400
        assert post(url, body)[0] == 401
        assert post(url, b"", "/v1/models?key=private", "GET", **key)[0] == 200
        assert post(url, b"", "/x%0a127.0.0.1%1b[2J" + "y" * 200, "GET", **key)[0] == 404
        assert post(url, b"", "/health", "GET")[0] == 200
        forged = {"X-Forwarded-For": "\x1b[2J 1.2.3.4 GET /x 200" + "z" * 100}
        assert post(url, b"", "/v1/models", "GET", **key, **forged)[0] == 200
        wait(lambda: len(told(caplog)) == 6)
    chat, forger = "/v1/chat/completions", "%1B%5B2J%201.2.3.4%20GET%20/x%20200"
    # a client may have its answer, and ask again, before the line is written
    assert sorted(told(caplog)) == [
        (f"{forger}{'z' * 100}"[:45], "GET", "/v1/models", 200),
        ("127.0.0.1", "GET", "/v1/models", 200),
        ("127.0.0.1", "GET", ("/x%0A127.0.0.1%1B%5B2J" + "y" * 200)[:100], 404),
        ("127.0.0.1", "POST", chat, 200),
        ("127.0.0.1", "POST", chat, 400),
        ("127.0.0.1", "POST", chat, 401),
    ]
    assert not re.search("private|secret", caplog.text)


@pytest.mark.parametrize("stream", [False, True])
def test_client_that_left_is_told_as_such(loaded, caplog, stream):
    caplog.set_level(logging.INFO)
    begun = []
    generate = loaded.network.generate

    def slow(**inputs):
        begun.append(1)
        time.sleep(0.5)
        return generate(**inputs)

    loaded.network.generate = slow
    with running(RequestLog(application("tiny", loaded.network, loaded.processor, LIMITS))) as url:
        leave_after(url, {"model": "tiny", "messages": [turn("?", picture(1))], "stream": stream}, lambda: begun)
        wait(lambda: told(caplog))
    assert told(caplog) == [("127.0.0.1", "POST", "/v1/chat/completions", 499)]


def test_client_that_leaves_while_it_sends_is_told_as_such(loaded, caplog):
    caplog.set_level(logging.INFO)
    with running(RequestLog(application("tiny", loaded.network, loaded.processor, LIMITS))) as url:
        parts = urlsplit(url)
        with socket.create_connection((parts.hostname, parts.port)) as connection:
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Length: 1000\r\n\r\n{{"
            connection.sendall(head.encode())
            time.sleep(0.3)
        wait(lambda: told(caplog))
    assert told(caplog) == [("127.0.0.1", "POST", "/v1/chat/completions", 499)]


def test_stream_that_fails_half_way_is_told_as_it_began(loaded, caplog):
    """Its status had been sent; what failed stands in the stream."""
    caplog.set_level(logging.INFO)

    def broken(**inputs):
        raise RuntimeError("broken")

    loaded.network.generate = broken
    with running(RequestLog(application("tiny", loaded.network, loaded.processor, LIMITS))) as url:
        connection = http.client.HTTPConnection(urlsplit(url).netloc)
        asked = {"model": "tiny", "messages": [turn("?", picture(1))], "stream": True}
        head = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(asked), head)
        assert b"the model failed" in connection.getresponse().read()
        assert post(url, {**asked, "stream": False})[0] == 500
        wait(lambda: len(told(caplog)) == 2)
    assert [status for *_, status in told(caplog)] == [200, 500]


def test_failure_of_what_is_behind_is_a_500(caplog):
    caplog.set_level(logging.INFO)

    async def broken(scope, receive, send):
        raise RuntimeError("broken")

    with running(RequestLog(broken)) as url, pytest.raises(json.JSONDecodeError):  # uvicorn's own answer is no JSON
        post(url, {})
    assert told(caplog) == [("127.0.0.1", "POST", "/v1/chat/completions", 500)]


@pytest.mark.parametrize("log", [True, False])
def test_command_writes_the_log_on_stderr_unless_told_not_to(tmp_path, log):
    command = [sys.executable, "-m", "unirs.cli", "serve", "--port", "0", *["--no-log"] * (not log)]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        client = openai.OpenAI(base_url=process.stderr.readline().split()[3], api_key="none")
        client.models.list()
    finally:
        process.terminate()
        rest = process.communicate(timeout=20)[1]
    lines = re.findall(
        r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} 127\.0\.0\.1 GET /v1/models 200 \d+\.\d{3} s$", rest, re.M
    )
    assert len(lines) == log
