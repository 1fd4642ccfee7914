"""The OpenAI-compatible server, asked by people who mean no good: refused with a sentence, and nobody is harmed."""

# ruff: noqa: F811 - tests take imported fixtures by their names

import http.client
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest
from unirs.evaluation.models import load_model

from tests.chatting import LIMITS, NEW_TOKENS, OPENAI, client, folder, openai, said, url  # noqa: F401 - fixtures
from tests.serving import data, image, png, post, running, turn
from tests.tiny import picture
from unirs.serving.application import application
from unirs.serving.chat import HARMLESS, READ

GOOD = data(png(picture(1)))
HOSTILE = {
    "a file of the server": ({"messages": [image("/etc/passwd")]}, "must be data:image"),
    "a file by url": ({"messages": [image("file:///etc/passwd")]}, "must be data:image"),
    "an inner service": ({"messages": [image("http://169.254.169.254/latest")]}, "fetches no URLs"),
    "a clip of the server": (
        {"messages": [{"role": "user", "content": [{"type": "video_url", "video_url": {"url": "clip.mp4"}}]}]},
        "must be data:image",
    ),
    "no base64": ({"messages": [image("data:image/png;base64,%%%")]}, "no valid base64"),
    "no picture": ({"messages": [image("data:image/png;base64,aGVsbG8=")]}, "is none of PNG"),
    "a cut one of two": ({"messages": [turn("What?", GOOD, GOOD[:-400])]}, "message 1, picture 2: "),
    "a cut picture": ({"messages": [image(GOOD[:-400])]}, "message 1: "),
    "many pixels": (
        {"messages": [image(data(png(picture(1, 1, 1).resize((2000, 2000)))))]},
        "more than 262144 pixels",
    ),
    "many pixels together": ({"messages": [turn("?", *[picture(1).resize((400, 400))] * 3)]}, "pixels"),
    "many pictures": ({"messages": [turn("?", *[GOOD] * 9)]}, "more than 8 pictures"),
    "many words": ({"messages": [{"role": "user", "content": "word " * 100_000}]}, "shorten them"),
    "many tokens": ({"messages": [turn("word " * 400, GOOD)]}, "the model reads 1024"),
    "a long answer": ({"messages": [image(GOOD)], "max_tokens": 10**9}, "from 1 to 64"),
    "a negative length": ({"messages": [image(GOOD)], "max_tokens": -1}, "from 1 to 64"),
    "words for a number": ({"messages": [image(GOOD)], "temperature": "hot"}, "from 0 to 2"),
    "not a number": ({"messages": [image(GOOD)], "top_p": float("nan")}, "from 0.01 to 1"),
    "no messages": ({}, "messages must be a list"),
    "messages of another kind": ({"messages": "hello"}, "messages must be a list"),
    "a turn of another kind": ({"messages": [5]}, "must have a role"),
    "content of another kind": ({"messages": [{"role": "user", "content": 5}]}, "must have content"),
    "an item of another kind": ({"messages": [{"role": "user", "content": [5]}]}, "has an item of type None"),
    "a type of another kind": ({"messages": [{"role": "user", "content": [{"type": ["text"]}]}]}, "an item of type"),
    "an object for a type": ({"messages": [{"role": "user", "content": [{"type": {}}]}]}, "an item of type {}"),
    "half a character for a name": ({"messages": [image(GOOD)], "model": "\ud800"}, "\\ud800"),
    "words for yes or no": ({"messages": [image(GOOD)], "stream": "false"}, "stream must be true or false"),
    "a clue by hand": ({"messages": [{"role": "user", "content": [{"type": "clue", "text": "x"}]}]}, "of type 'clue'"),
    "roles in disorder": (
        {"messages": [image(GOOD), {"role": "system", "content": "x"}, turn("Sure?")]},
        "roles user and assistant",
    ),
    "a forgotten picture": ({"messages": [turn("What?")]}, "no picture is shown"),
    "the model's turn last": ({"messages": [turn("What?", GOOD), turn("a field", role="assistant")]}, "the user's"),
    "no words": ({"messages": [turn(" ", GOOD)]}, "asks nothing"),
    "a picture of the assistant": ({"messages": [{**image(GOOD), "role": "assistant"}]}, "only the user can"),
    "half a character": ({"messages": [{"role": "user", "content": "\ud800"}]}, "half characters"),
    "settings of generate": ({"messages": [image(GOOD)], "generation_config": '{"num_beams": 999}'}, "not supported"),
    "an unknown field": ({"messages": [image(GOOD)], "shell": "rm"}, "Unexpected fields"),
    "words for a switch": (
        {"messages": [image(GOOD)], "chat_template_kwargs": {"change_extraction": "no"}},
        "true or false",
    ),
    "template settings": ({"messages": [image(GOOD)], "chat_template_kwargs": {"tokenize": False}}, "may hold"),
    "another model": ({"messages": [image(GOOD)], "model": "gpt2"}, "pinned to 'tiny'"),
    "a number for yes or no": ({"messages": [image(GOOD)], "stream": 1}, "stream must be true or false"),
    "words for stream's options": ({"messages": [image(GOOD)], "stream": True, "stream_options": "x"}, "may hold"),
    "another option of streams": (
        {"messages": [image(GOOD)], "stream": True, "stream_options": {"usage": True}},
        "include_obfuscation and include_usage",
    ),
    "a stream's options without one": (
        {"messages": [image(GOOD)], "stream_options": {"include_usage": True}},
        "stream: true alone",
    ),
    "pictures beside the content": ({"messages": [{**image(GOOD), "images": [GOOD]}]}, "1: images is not supported"),
    "a call in a turn": (
        {"messages": [image(GOOD), {**turn("x", role="assistant"), "tool_calls": [{}]}, turn("?")]},
        "message 2: tool_calls is not supported",
    ),
    "frames to be taken": (
        {"messages": [{"role": "user", "content": [{"type": "video_url", "video_url": {"url": "x", "fps": 2}}]}]},
        "message 1, video_url: fps is not supported",
    ),
    "two in one item": (
        {"messages": [{"role": "user", "content": [{**image(GOOD)["content"][0], "video_url": {"url": GOOD}}]}]},
        "message 1: video_url is not supported",
    ),
    "values without end": ({"messages": [image(GOOD)], "metadata": [0] * 300_000}, "more than 100,000 values"),
    "many answers": ({"messages": [image(GOOD)], "n": 1000}, "n must be 1"),
}

ASKS_FOR_MORE = {
    "audio": {"voice": "alloy", "format": "wav"},
    "frequency_penalty": 0.5,
    "function_call": {"name": "f"},
    "functions": [{"name": "f"}],
    "generation_config": '{"num_beams": 999}',
    "logit_bias": {"5": 100},
    "logprobs": True,
    "modalities": ["text", "audio"],
    "moderation": {"model": "x"},
    "prediction": {"type": "content", "content": "x"},
    "presence_penalty": -0.5,
    "reasoning_effort": "high",
    "response_format": {"type": "json_object"},
    "stop": ["."],
    "tool_choice": "required",
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "top_logprobs": 3,
    "verbosity": "low",
    "web_search_options": {},
}


@pytest.mark.parametrize("name", sorted((OPENAI | set(ASKS_FOR_MORE)) - READ - HARMLESS))
def test_field_that_would_change_the_answer_is_refused(url, name):
    """A field of OpenAI's that is new fails here until it is known what it does."""
    body = {"model": "tiny", "messages": [turn("?")], name: ASKS_FOR_MORE[name]}
    status, answer = post(url, body)
    assert (status, answer["error"]["message"]) == (400, f"{name} is not supported; leave it away")


NEUTRAL_BODIES = {
    "nothing is asked for": dict.fromkeys(ASKS_FOR_MORE),
    "zero": {"frequency_penalty": 0, "presence_penalty": 0.0, "top_logprobs": 0, "logprobs": False},
    "empty": {"stop": [], "tools": [], "functions": [], "logit_bias": {}},
    "choices among no tools": {"tool_choice": "auto", "function_call": "none", "parallel_tool_calls": True},
    "words": {"modalities": ["text"], "response_format": {"type": "text"}, "verbosity": "medium"},
    "bookkeeping": {"user": "me", "metadata": {"a": "b"}, "store": True, "service_tier": "auto", "n": 1},
}


@pytest.mark.parametrize("name", NEUTRAL_BODIES)
def test_field_that_asks_for_what_is_done_anyway_is_taken(url, client, name):
    body = {"model": "tiny", "messages": [turn("What?", picture(1))], "max_tokens": NEW_TOKENS}
    fields = {one: value for one, value in NEUTRAL_BODIES[name].items() if one in OPENAI}
    status, answer = post(url, {**body, **fields})
    assert status == 200, answer
    assert answer["choices"][0]["message"]["content"].strip() == said(client, turn("What?", picture(1)))


def test_what_the_official_client_sends_by_itself_is_taken(client):
    asked = {"model": "tiny", "messages": [turn("What?", picture(1))], "max_tokens": NEW_TOKENS}
    expected = said(client, turn("What?", picture(1)))
    answer = client.chat.completions.with_raw_response.parse(**asked).http_response.json()
    assert answer["choices"][0]["message"]["content"].strip() == expected
    with client.chat.completions.stream(**asked, stream_options={"include_usage": True}) as stream:
        assert "".join(event.delta for event in stream if event.type == "content.delta").strip() == expected


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_request_is_refused_with_a_sentence(url, name, monkeypatch):
    monkeypatch.setattr("unirs.serving.guard.MOST_VALUES", 100_000)  # fewer than in a megabyte
    body, sentence = HOSTILE[name]
    status, answer = post(url, {"model": "tiny", **body})
    assert 400 <= status < 500, answer
    assert sentence in answer["error"]["message"]
    assert "Traceback" not in json.dumps(answer)


def test_another_model_is_not_found_and_told_shortly(url, client):
    with pytest.raises(openai.NotFoundError, match="pinned to 'tiny'"):
        client.chat.completions.create(model="gpt-4o", messages=[image(GOOD)])
    for body in ({"model": "x" * 100_000}, {"x" * 100_000: 1}):
        status, answer = post(url, body)
        assert 400 <= status < 500
        assert len(answer["error"]["message"]) < 400


def test_fields_that_say_nothing_are_taken_in_messages(url, client):
    """As the official client's own answers and LangChain's turns bring them along."""
    answer = client.chat.completions.create(model="tiny", messages=[image(GOOD)], max_tokens=4).choices[0].message
    asked = {**image(GOOD), "name": "me"}
    asked["content"][0]["image_url"]["detail"] = "low"
    asked["content"][0]["cache_control"] = {"type": "ephemeral"}
    again = {"role": "assistant", **answer.model_dump(), "content": "x", "annotations": [], "tool_calls": []}
    status, found = post(url, {"model": "tiny", "messages": [asked, again, turn("Sure?")], "max_tokens": 4})
    assert status == 200, found


def test_servers_are_watched_by_head_too(url):
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
    for path, status in (("/health", 200), ("/v1/models", 200), ("/v1/chat/completions", 404)):
        connection.request("HEAD", path)
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (status, b"")
    connection.close()


def test_name_of_a_request_is_short(url):
    assert post(url, b"", "/v1/models", "GET", **{"X-Request-ID": "a" * 128})[0] == 200
    status, answer = post(url, b"", "/v1/models", "GET", **{"X-Request-ID": "a" * 129})
    assert (status, answer["error"]["message"]) == (400, "X-Request-ID has more than 128 characters")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"a": ' + b"9" * 9999 + b"}"]
)
def test_what_is_no_json_object_is_refused(url, body):
    status, answer = post(url, body)
    assert 400 <= status < 500
    assert answer["error"]["message"]


def test_large_body_is_refused_before_it_is_read(url):
    assert post(url, b"x" * (LIMITS.request_bytes + 1))[0] == 413


def test_only_three_routes_are_there(url):
    for method, path in (
        ("POST", "/load_model"),
        ("POST", "/reset"),
        ("POST", "/v1/completions"),
        ("POST", "/v1/responses"),
        ("POST", "/v1/audio/transcriptions"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("GET", "/v1/chat/completions"),
        ("GET", "/v1/chat/completions/../../etc"),
    ):
        assert post(url, {"model": "gpt2"}, path, method)[0] == 404, path
    assert post(url, b"", "/health", "GET") == (200, {"status": "ok"})


def test_web_page_under_another_name_is_refused(url):
    """DNS rebinding: a page of evil.example, whose name now points here."""
    status, answer = post(url, {}, Host="evil.example")
    assert (status, answer["error"]["message"]) == (403, "this server answers to its own names only")


def test_api_key_is_wanted_of_everybody(folder):
    loaded = load_model(str(folder))
    with running(application("tiny", loaded.network, loaded.processor, LIMITS, api_key="secret")) as url:
        for key in ("", "Bearer ", "Bearer secre", "Bearer secret2", "secret", "Bearer \xff"):
            for path in ("/v1/models", "/v1/models/tiny"):
                status, answer = post(url, b"", path, "GET", Authorization=key)
                assert (status, answer["error"]["type"]) == (401, "authentication_error")
        with pytest.raises(openai.AuthenticationError, match="missing or wrong"):
            openai.OpenAI(base_url=f"{url}/v1", api_key="wrong", max_retries=0).models.list()
        assert openai.OpenAI(base_url=f"{url}/v1", api_key="secret").models.list().data[0].id == "tiny"
        assert post(url, b"", "/health", "GET")[0] == 200


def test_failing_request_harms_no_other_of_its_batch(folder):
    loaded = load_model(str(folder))
    generate = loaded.network.generate
    started = threading.Event()

    def fragile(**inputs):
        if not started.is_set():  # hold the thread, so that the others wait together
            started.set()
            time.sleep(1)
        if inputs["attention_mask"].sum(1).max() > 300 + loaded.processor.image_seq_length:
            raise RuntimeError("secret insides")
        return generate(**inputs)

    loaded.network.generate = fragile
    with running(application("tiny", loaded.network, loaded.processor, LIMITS)) as url:
        words = ["first", "one", "x" * 200, "two", "three"]
        bodies = [{"model": "tiny", "messages": [turn(one, GOOD)], "max_tokens": 4} for one in words]
        with ThreadPoolExecutor(5) as pool:
            found = list(pool.map(lambda body: post(url, body), bodies))
    assert [status for status, _ in found] == [200, 200, 500, 200, 200]
    assert "secret" not in json.dumps(found[2][1])
