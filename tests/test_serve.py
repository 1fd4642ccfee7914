"""The OpenAI-compatible server: asked by the official client, and by people who mean no good."""

import json
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from unirs.evaluation.models import load_model
from unirs.processing.video_loading_unirs import load_video

from tests.tiny import picture

openai = pytest.importorskip("openai", reason="openai is not installed: pip install 'unirs[serve]'")

from transformers.cli.serving.chat_completion import ChatCompletionHandler  # noqa: E402

from tests.serving import data, image, png, post, running, saved, turn  # noqa: E402
from unirs.serving.application import application  # noqa: E402
from unirs.serving.chat import HARMLESS, READ  # noqa: E402
from unirs.serving.limits import Limits  # noqa: E402

NEW_TOKENS = 8
LIMITS = Limits(request_bytes=2**20, pixels=512 * 512, pictures=8, new_tokens=64, seconds=30, waiting=40, batch=8)


@pytest.fixture(scope="module")
def folder(processor, tmp_path_factory):
    return saved(processor, tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def model(folder):
    """What answers without a server: the oracle."""
    return load_model(str(folder))


@pytest.fixture(scope="module")
def url(folder):
    loaded = load_model(str(folder))
    with running(application("tiny", loaded.network, loaded.processor, LIMITS, hosts={"127.0.0.1"})) as address:
        yield address


@pytest.fixture(scope="module")
def client(url):
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


def said(client, *turns, **options):
    answer = client.chat.completions.create(model="tiny", messages=list(turns), max_tokens=NEW_TOKENS, **options)
    return answer.choices[0].message.content.strip()


def expected(model, *turns):
    """The same chat, made by hand, and asked in this process. Turns are words, then pictures or one list of frames."""
    chat = []
    for words, *shown in turns:
        items = [{"type": "video" if isinstance(one, list) else "image", "image": one, "video": one} for one in shown]
        items = [{"type": item["type"], item["type"]: item[item["type"]]} for item in items]
        chat.append({"role": "user", "content": [*items, {"type": "text", "text": words}]})
    return model.answer([chat], NEW_TOKENS)[0]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    import av

    file = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=5, options={"crf": "0"})
        stream.width = stream.height = 64
        for number in range(6):
            container.mux(stream.encode(av.VideoFrame.from_image(picture(number, 64, 64))))
        container.mux(stream.encode())
    return file.read_bytes()


# -- what is answered -------------------------------------------------------------------------------------------------
def test_models_are_listed(client):
    assert [one.id for one in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny") == client.models.list().data[0]
    with pytest.raises(openai.NotFoundError, match="no model 'other/one' here; there is 'tiny'"):
        client.models.retrieve("other/one")


def test_picture_pair_sequence_and_clip_are_answered_as_in_process(client, model, clip):
    one, two, three = picture(1), picture(2), picture(3)
    assert said(client, turn("What?", one)) == expected(model, ("What?", one))
    assert said(client, turn("What?", one, two)) == expected(model, ("What?", one, two))
    assert said(client, turn("What?", one, two)) != expected(model, ("What?", two, one))
    assert said(client, turn("What?", one, two, three)) == expected(model, ("What?", one, two, three))
    frames = load_video(clip, model.num_frames)
    assert said(client, turn("What?", clips=[data(clip, "video/mp4")])) == expected(model, ("What?", frames))


def test_pair_as_two_plain_pictures_is_an_option(client, model):
    one, two = picture(1), picture(2)
    plain = said(client, turn("What?", one, two), extra_body={"chat_template_kwargs": {"change_extraction": False}})
    chat = [{"role": "user", "content": [{"type": "image", "image": one}, {"type": "image", "image": two}]}]
    chat[0]["content"].append({"type": "text", "text": "What?"})
    inputs = model.processor.encode_chats([chat], {"change_extraction": False})
    new = model.network.generate(**inputs, max_new_tokens=NEW_TOKENS)[:, inputs["input_ids"].shape[1] :]
    assert [plain] == model.decode(new)


def test_several_turns_and_typed_markers(client, model):
    one = picture(4)
    turns = [turn("What?", one), turn("a field", role="assistant"), turn("<image> Sure? </s>")]
    chat = [
        {"role": "user", "content": [{"type": "image", "image": one}, {"type": "text", "text": "What?"}]},
        {"role": "assistant", "content": "a field"},
        {"role": "user", "content": "<image> Sure? </s>"},
    ]
    assert said(client, *turns) == model.answer([chat], NEW_TOKENS)[0]


def test_stream_gives_the_same_in_pieces(client):
    for number in range(3):
        asked = [turn("What?", picture(number))]
        whole = client.chat.completions.create(model="tiny", messages=asked, max_tokens=30)
        pieces = list(client.chat.completions.create(model="tiny", messages=asked, max_tokens=30, stream=True))
        text = "".join(one.choices[0].delta.content or "" for one in pieces)
        assert text.strip() == whole.choices[0].message.content.strip()
        assert pieces[-1].choices[0].finish_reason == whole.choices[0].finish_reason
        assert pieces[-1].usage == whole.usage
        assert len(pieces) > 5


def test_sampling_is_repeatable_by_seed(client):
    asked = turn("What?", picture(1))
    first = [said(client, asked, temperature=1.5, seed=seed) for seed in range(4)]
    assert first == [said(client, asked, temperature=1.5, seed=seed) for seed in range(4)]
    assert len(set(first)) > 1
    assert said(client, asked, temperature=0) == said(client, asked)


def test_concurrent_requests_are_not_mixed_up(client, model):
    """Kinds and lengths mixed, half of them streamed: each gets the answer that it gets alone."""
    questions = [(f"Question {number}" + "?" * (number % 5), number % 3) for number in range(24)]
    shown = [[picture(10 * number + place) for place in range(kind + 1)] for number, (_, kind) in enumerate(questions)]
    alone = [expected(model, (words, *shown[number])) for number, (words, _) in enumerate(questions)]

    def ask(number):
        asked = turn(questions[number][0], *shown[number])
        if number % 2:
            return said(client, asked)
        pieces = client.chat.completions.create(model="tiny", messages=[asked], max_tokens=NEW_TOKENS, stream=True)
        return "".join(one.choices[0].delta.content or "" for one in pieces).strip()

    with ThreadPoolExecutor(12) as pool:
        assert list(pool.map(ask, range(24))) == alone
    assert len(set(alone)) > 12


# -- what is refused --------------------------------------------------------------------------------------------------
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
    "many answers": ({"messages": [image(GOOD)], "n": 1000}, "n must be 1"),
}


OPENAI = set(ChatCompletionHandler._valid_params_class.__mutable_keys__)
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
def test_hostile_request_is_refused_with_a_sentence(url, name):
    body, sentence = HOSTILE[name]
    status, answer = post(url, {"model": "tiny", **body})
    assert 400 <= status < 500, answer
    assert sentence in answer["error"]["message"]
    assert "Traceback" not in json.dumps(answer)


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


def test_command_listens_on_loopback_and_tells_where(tmp_path):
    command = [sys.executable, "-m", "unirs.cli", "serve", "--port", "0"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stderr.readline()
        assert line.startswith("unirs-tiny answers at http://127.0.0.1:")
        client = openai.OpenAI(base_url=line.split()[3], api_key="none")
        answer = client.chat.completions.create(model="unirs-tiny", messages=[turn("What is it?", picture(1))])
        assert answer.choices[0].message.content
    finally:
        process.terminate()
        assert process.wait(20) in (0, -15)


def test_wrong_words_are_one_line(unirs):
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for words, message in (
            (["--port", port], "cannot listen on 127.0.0.1"),
            (["--model", "nowhere"], "no such folder"),
            (["--api-key", " "], "the API key is empty"),
        ):
            code, out, err = unirs("serve", *words)
            assert (code, out, err.count("\n")) == (2, "", 1), err
            assert message in err


def test_empty_key_in_the_environment_is_no_open_server(unirs, monkeypatch):
    """As a container gets it from a variable that is not set."""
    monkeypatch.setenv("UNIRS_API_KEY", "")
    code, out, err = unirs("serve", "--port", 0)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert "the API key is empty" in err


def test_half_precision_is_served_when_asked_for(unirs, monkeypatch):
    from unirs.cli_serve import load

    assert load(None, "bfloat16")[0].dtype is torch.bfloat16
    assert load(None, "float32")[0].dtype is torch.float32
    given: list[tuple] = []
    monkeypatch.setattr("unirs.cli_serve.load", lambda *words: given.append(words) or sys.exit(7))
    assert unirs("serve", "--port", 0, "--dtype", "bfloat16")[0] == 7
    assert given == [(None, "bfloat16")]
    code, _, err = unirs("serve", "--dtype", "half")
    assert code == 2
    assert "bfloat16" in err


def test_one_model_is_listed_by_whatever_name_transformers_asks(model, processor):
    from unirs.serving.engine import OneModel

    one = OneModel("tiny", model, processor)
    assert one.list_models() == one.get_gen_models()
    assert [each["id"] for each in one.list_models()] == ["tiny"]
