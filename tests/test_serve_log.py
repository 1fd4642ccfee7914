"""The server's log: a line for each request, whatever became of it, and nothing of its content."""

import json
import logging
import re
import subprocess
import sys
import time

import pytest
from unirs.evaluation.models import load_model

from tests.chatting import LIMITS, folder, openai  # noqa: F401 - fixture
from tests.serving import post, running, turn
from tests.test_serve_limits import leave_after, wait
from tests.tiny import picture

pytest.importorskip("fastapi", reason="fastapi is not installed: pip install 'unirs[serve]'")

from unirs.serving.application import application
from unirs.serving.request_log import RequestLog

LINE = re.compile(r"127\.0\.0\.1 (\S+) (\S+) (\d+) (\d+\.\d{3}) s")


@pytest.fixture
def server(folder):  # noqa: F811
    return load_model(str(folder))


def lines(caplog):
    found = [LINE.fullmatch(one.getMessage()) for one in caplog.records if one.name == "unirs.serving.request_log"]
    return [(one[1], one[2], int(one[3])) for one in found]


def test_each_request_is_told_and_nothing_of_what_it_says(server, caplog):
    caplog.set_level(logging.INFO)
    with running(RequestLog(application("tiny", server.network, server.processor, LIMITS, api_key="secret"))) as url:
        key = {"Authorization": "Bearer secret"}
        body = {"model": "tiny", "messages": [turn("a private question", picture(1))], "max_tokens": 2}
        assert post(url, body, **key)[0] == 200
        assert post(url, {**body, "max_tokens": 0}, **key)[0] == 400
        assert post(url, body)[0] == 401
        assert post(url, b"", "/v1/models?key=private", "GET", **key)[0] == 200
        assert post(url, b"", "/x%0a127.0.0.1%1b[2J" + "y" * 200, "GET", **key)[0] == 404
        assert post(url, b"", "/health", "GET")[0] == 200
        wait(lambda: len(lines(caplog)) == 5)
    chat = "/v1/chat/completions"
    assert (
        sorted(lines(caplog))
        == [  # a client may have its answer, and ask again, before the line is written
            ("GET", "/v1/models", 200),
            ("GET", ("/x%0A127.0.0.1%1B%5B2J" + "y" * 200)[:100], 404),
            ("POST", chat, 200),
            ("POST", chat, 400),
            ("POST", chat, 401),
        ]
    )
    assert not re.search("private|secret", caplog.text)


@pytest.mark.parametrize("stream", [False, True])
def test_client_that_left_is_told_as_such(server, caplog, stream):
    caplog.set_level(logging.INFO)
    begun = []
    generate = server.network.generate

    def slow(**inputs):
        begun.append(1)
        time.sleep(0.5)
        return generate(**inputs)

    server.network.generate = slow
    with running(RequestLog(application("tiny", server.network, server.processor, LIMITS))) as url:
        leave_after(url, {"model": "tiny", "messages": [turn("?", picture(1))], "stream": stream}, lambda: begun)
        wait(lambda: lines(caplog))
    assert lines(caplog) == [("POST", "/v1/chat/completions", 499)]


def test_failure_of_what_is_behind_is_a_500(caplog):
    caplog.set_level(logging.INFO)

    async def broken(scope, receive, send):
        raise RuntimeError("broken")

    with running(RequestLog(broken)) as url, pytest.raises(json.JSONDecodeError):  # uvicorn's own answer is no JSON
        post(url, {})
    assert lines(caplog) == [("POST", "/v1/chat/completions", 500)]


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
    told = re.findall(
        r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} 127\.0\.0\.1 GET /v1/models 200 0\.\d{3} s$", rest, re.M
    )
    assert len(told) == log
