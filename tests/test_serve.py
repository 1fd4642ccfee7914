"""The OpenAI-compatible server, asked by the official client: the answers are those of this process."""

# ruff: noqa: F811 - tests take imported fixtures by their names

import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import typer
from transformers import LogitsProcessor, LogitsProcessorList
from unirs.evaluation.models import load_model
from unirs.processing.video_loading_unirs import load_video

from tests.chatting import LIMITS, NEW_TOKENS, client, folder, model, openai, said, url  # noqa: F401 - fixtures
from tests.serving import data, running, turn
from tests.tiny import picture
from unirs.cli import app
from unirs.listening import own_names, served_name
from unirs.serving.application import application


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


def test_models_are_listed(client):
    assert [one.id for one in client.models.list()] == ["tiny"]
    assert client.models.retrieve("tiny") == client.models.list().data[0]
    with pytest.raises(openai.NotFoundError, match="no model 'other/one' here; there is 'tiny'"):
        client.models.retrieve("other/one")


def test_answer_bears_the_name_that_was_asked_for(client):
    asked = {"model": "tiny", "messages": [turn("What?", picture(1))], "max_tokens": 1}
    assert client.chat.completions.create(**asked).model == "tiny"
    assert {one.model for one in client.chat.completions.create(**asked, stream=True)} == {"tiny"}


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


@pytest.fixture(scope="module")
def speaking(folder):
    """A client whose model says "ab" and ends."""
    loaded = load_model(str(folder))
    words = [*loaded.processor.tokenizer("ab", add_special_tokens=False)["input_ids"], 2]

    class Says(LogitsProcessor):
        def __init__(self):
            self.left = iter(words)

        def __call__(self, input_ids, scores):
            return torch.full_like(scores, -torch.inf).index_fill(1, torch.tensor(next(self.left)), 0)

    generate = loaded.network.generate

    loaded.network.generate = lambda **inputs: generate(**inputs, logits_processor=LogitsProcessorList([Says()]))
    with running(application("tiny", loaded.network, loaded.processor, LIMITS)) as address:
        yield openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0), len(words)


def test_answer_that_ends_with_its_last_token_is_not_called_cut(speaking):
    """`parse` of the official client raises on "length", and the answer was whole."""
    client, tokens = speaking
    for most, reason in ((tokens - 1, "length"), (tokens, "stop"), (tokens + 1, "stop")):
        asked = {"model": "tiny", "messages": [turn("What?", picture(1))], "max_tokens": most}
        whole = client.chat.completions.create(**asked)
        assert whole.choices[0].message.content == "ab"
        assert (whole.choices[0].finish_reason, whole.usage.completion_tokens) == (reason, min(most, tokens))
        assert list(client.chat.completions.create(**asked, stream=True))[-1].choices[0].finish_reason == reason


def test_usage_comes_apart_where_it_is_asked_for(client):
    asked = {"model": "tiny", "messages": [turn("What?", picture(1))], "max_tokens": 5}
    whole = client.chat.completions.create(**asked)
    pieces = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert [one.usage for one in pieces] == [*[None] * (len(pieces) - 1), whole.usage]
    assert (pieces[-1].choices, pieces[-1].id) == ([], pieces[0].id)
    assert pieces[-2].choices[0].finish_reason == whole.choices[0].finish_reason


def test_sampling_is_repeatable_by_seed(client):
    asked = turn("What?", picture(1))
    first = [said(client, asked, temperature=1.5, seed=seed) for seed in range(4)]
    assert first == [said(client, asked, temperature=1.5, seed=seed) for seed in range(4)]
    assert len(set(first)) > 1
    assert said(client, asked, temperature=0) == said(client, asked)


def test_answer_without_a_seed_does_not_follow_from_the_last_seed(client):
    """torch's generator went on from it: whoever asked after the same seed was answered the same."""
    asked, found = turn("What?", picture(1)), set()
    for _ in range(3):
        said(client, asked, temperature=1.5, seed=1)
        found.add(said(client, asked, temperature=1.5))
    assert len(found) > 1


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
            (["--time-limit", "inf"], "--time-limit inf: must be a number of seconds"),
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


def test_command_trims_its_key_and_ends_though_a_client_does_not_read(unirs, monkeypatch):
    """A file of secrets ends its line; and the end waited for each connection, one with a full window for ever."""
    monkeypatch.setenv("UNIRS_API_KEY", "secret\n")
    made: list = []
    monkeypatch.setattr("uvicorn.Server.run", lambda server, sockets: made.append((server.config, sockets)))
    assert unirs("serve", "--port", 0, "--no-log", "--time-limit", 2.5)[0] == 0
    config, (listening,) = made[0]
    listening.close()
    assert (config.app.api_key, config.timeout_graceful_shutdown) == (b"Bearer secret", 3)


def test_folder_is_called_by_its_own_name_however_it_is_written(tmp_path, monkeypatch):
    """`--model .` was told to clients as the embedded unirs-tiny."""
    (tmp_path / "mine").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path / "mine")
    assert [served_name(one) for one in (".", "../mine/", "~/mine")] == ["mine"] * 3


@pytest.mark.parametrize("host", ["127.0.0.2", "LOCALHOST"])
def test_every_address_of_loopback_is_guarded_against_rebinding(host):
    assert own_names(host) == {*own_names("127.0.0.1"), host.lower()}


def test_half_precision_is_served_when_asked_for(unirs, monkeypatch):
    from unirs.model_source import find_model, load_for_answers

    assert load_for_answers(find_model(None), "bfloat16").network.dtype is torch.bfloat16
    assert load_for_answers(find_model(None), "float32").network.dtype is torch.float32
    given: list[tuple] = []
    monkeypatch.setattr("unirs.cli_serve.load_for_answers", lambda *words: given.append(words) or sys.exit(7))
    assert unirs("serve", "--port", 0, "--dtype", "bfloat16")[0] == 7
    assert given == [(find_model(None), "bfloat16")]
    code, _, err = unirs("serve", "--dtype", "half")
    assert code == 2
    assert "bfloat16" in err


def test_one_model_is_listed_by_whatever_name_transformers_asks(model, processor):
    from unirs.serving.engine import OneModel

    one = OneModel("tiny", model, processor)
    assert one.list_models() == one.get_gen_models()
    assert [each["id"] for each in one.list_models()] == ["tiny"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_the_documented_unit_is_one_that_systemd_takes(tmp_path):
    text = (Path(__file__).parents[1] / "docs" / "serving.md").read_text()
    unit = re.search(r"^```\n(\[Unit\]\n.*?)^```", text, re.M | re.S).group(1)
    command = re.search(r"^ExecStart=(\S+) (.*)$", unit, re.M)
    (tmp_path / "unirs.service").write_text(unit.replace(command.group(1), "/bin/true"))
    said = subprocess.run(
        ["systemd-analyze", "verify", tmp_path / "unirs.service"], capture_output=True, text=True, timeout=60
    )
    assert said.returncode == 0
    assert "unirs.service" not in said.stderr  # of other units it may say something
    (tmp_path / "wrong.service").write_text(unit.replace("ExecStart=", "ExecStrat="))
    wrong = ["systemd-analyze", "verify", tmp_path / "wrong.service"]
    assert "ExecStrat" in subprocess.run(wrong, capture_output=True, text=True, timeout=60).stderr
    given = command.group(2).split()
    assert given[0] == "serve"
    known = {name for one in typer.main.get_command(app).commands["serve"].params for name in one.opts}
    assert {one for one in given if one.startswith("--")} <= known
